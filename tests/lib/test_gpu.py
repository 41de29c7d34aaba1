"""The same answers on a GPU, and from float32: needs torch, NumPy, SciPy and pytest only.

Float64 on a GPU differs from the CPU in the order of its sums: by rounding, times the condition
of the problem, 10, and the number of steps at worst. Data rounded to float32 move the answer by
1.2e-7 times the condition, wherever they are solved.
"""

import math

import pytest
import torch
from implicit_bias import (
    Classification,
    Regression,
    angle,
    exact_descent,
    expected_risk,
    flow_filter,
    gradient_descent,
    gradient_flow,
    loss_named,
    minimum_norm,
    outside_span,
    perturbed_descent,
    plant_regression,
    polynomial_features,
    relative_error,
    ridge,
    ridge_filter,
    stochastic_gradient_descent,
)

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]
SHAPES = [(15, 40, 15), (40, 15, 15), (20, 30, 6)]
LOSSES = ["square", "logcosh", "exponential", "logistic"]


def planted_on(device, shape=(15, 40, 15), dtype=torch.float64, **options):
    n, d, rank = shape
    s = torch.logspace(0, -1, rank, dtype=torch.float64)
    planted = plant_regression(n, d, s, seed=n, **options)
    X, y = (part.to(device, dtype) for part in (planted.problem.X, planted.problem.y))
    return planted, Regression(X, y)


RUNS = {
    "gradient_descent": lambda p, w0: gradient_descent(p, w0, tol=1e-14),
    "logcosh": lambda p, w0: gradient_descent(p, w0, tol=1e-14, loss="logcosh"),
    "stochastic": lambda p, w0: stochastic_gradient_descent(p, w0, steps=2000, repeats=2),
    "batches": lambda p, w0: stochastic_gradient_descent(p, w0, steps=500, batch=5),
    "gradient_flow": lambda p, w0: gradient_flow(p, [0.0, 1.0, 30.0, math.inf], w0),
    "exact_descent": lambda p, w0: exact_descent(p, [0, 1, 10, 1000], 1.5, w0),
    "perturbed_descent": lambda p, w0: perturbed_descent(p, [10, 95], 20, 0.1, None, w0, 3),
    "relative_kicks": lambda p, w0: perturbed_descent(p, [95], 20, 0.1, start=w0, relative=True),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
class TestCuda:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("name", RUNS)
    def test_dynamics_agree_with_the_cpu(self, name, shape):
        (_, here), (_, there) = planted_on("cpu", shape), planted_on("cuda", shape)
        w0 = torch.linspace(-1, 1, shape[1], dtype=torch.float64)
        a, b = RUNS[name](here, w0), RUNS[name](there, w0)
        for part in (b.times, b.points, b.losses):
            assert part.device.type == "cuda"
            assert part.dtype == torch.float64
        assert b.stopped == a.stopped
        assert b.step == pytest.approx(a.step, rel=1e-12)
        # A convergence test may trip at another look: compare where the runs ended.
        assert relative_error(b.x.cpu(), a.x) <= 1e-10
        if b.stopped == "exact":
            assert relative_error(b.points.cpu(), a.points) <= 1e-11

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("miss", [0.0, 0.5])
    def test_limits_agree_with_the_cpu(self, shape, miss):
        options = {"inconsistency": miss if shape[2] < shape[0] else 0.0}
        (_, here), (_, there) = (planted_on(k, shape, **options) for k in ("cpu", "cuda"))
        for solve in (minimum_norm, lambda p: minimum_norm(p, torch.ones(p.d))):
            a, b = solve(here), solve(there)
            assert b.x.device.type == b.dual.device.type == "cuda"
            assert relative_error(b.x.cpu(), a.x) <= 1e-12
            assert relative_error(b.dual.cpu(), a.dual) <= 1e-10
            assert (b.status, b.rank) == (a.status, a.rank)
            assert b.residual <= 1e-13
        a, b = ridge(here, 0.1), ridge(there, 0.1)
        assert b.x.device.type == "cuda"
        assert relative_error(b.x.cpu(), a.x) <= 1e-13
        assert b.residual <= 1e-14

    @pytest.mark.parametrize("loss", LOSSES)
    def test_losses_agree_with_the_cpu(self, loss):
        x = torch.linspace(-30, 30, 1001, dtype=torch.float64)
        form = loss_named(loss)
        for part in (form.value, form.slope):
            torch.testing.assert_close(part(x.cuda()).cpu(), part(x), rtol=1e-13, atol=1e-300)

    @pytest.mark.parametrize("loss", ["exponential", "logistic"])
    def test_classification_agrees_with_the_cpu(self, loss):
        X = planted_on("cpu")[1].X
        y = torch.ones(15).double()
        a, b = (
            gradient_descent(Classification(X.to(k), y.to(k)), steps=500, loss=loss, tol=0)
            for k in ("cpu", "cuda")
        )
        assert b.points.device.type == "cuda"
        assert relative_error(b.points.cpu(), a.points) <= 1e-11

    def test_evidence_reads_cuda_tensors(self):
        planted, problem = planted_on("cuda")
        end = gradient_descent(problem, tol=1e-14).x
        assert relative_error(end, planted.minimum_norm) <= 1e-10
        assert angle(end, planted.minimum_norm) <= 1e-10
        assert outside_span(end, planted.row_basis) <= 1e-13
        x = torch.linspace(0, 9, 5, dtype=torch.float64, device="cuda")
        for filters in (flow_filter(x), ridge_filter(x), expected_risk(x / 9, x + 1, x, 1.0)):
            assert filters.device.type == "cuda"
        assert polynomial_features(x / 9, 3).device.type == "cuda"

    def test_one_problem_lives_on_one_device(self):
        with pytest.raises(ValueError, match=r"X is on cuda:0 and y on cpu.*one device.*\.to"):
            Regression(torch.ones(2, 2, device="cuda"), torch.ones(2))


# ---- float32 data, everywhere


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "run",
    [
        lambda p: gradient_descent(p, tol=1e-14).x,
        lambda p: gradient_descent(p, tol=1e-14, loss="logcosh").x,
        lambda p: gradient_flow(p, [math.inf]).x,
        lambda p: exact_descent(p, [10_000]).x,
        lambda p: perturbed_descent(p, [10_000], 10_001, 0.1, repeats=1).x[0],
        lambda p: minimum_norm(p).x,
        lambda p: ridge(p, 1e-9).x,
    ],
    ids=["descent", "logcosh", "flow", "exact", "perturbed", "minimum_norm", "ridge"],
)
def test_float32_data(run, shape, device):
    planted, problem = planted_on(device, shape, torch.float32)
    assert problem.X.dtype == torch.float64
    end = run(problem)
    assert end.dtype == torch.float64
    assert end.device.type == device
    assert relative_error(end.cpu(), planted.minimum_norm) <= 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_float32_data_stochastic(device):
    planted, problem = planted_on(device, (8, 20, 8), torch.float32)
    path = stochastic_gradient_descent(problem, tol=1e-9)
    assert path.stopped == "converged"
    assert relative_error(path.x.cpu(), planted.minimum_norm) <= 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_float32_rank_and_status(device):
    _, problem = planted_on(device, (20, 30, 6), torch.float32)
    limit = minimum_norm(problem)
    assert (limit.rank, limit.status) == (6, "interpolates")
    _, problem = planted_on(device, (20, 30, 6), torch.float32, inconsistency=0.1)
    assert minimum_norm(problem).status == "least squares"
