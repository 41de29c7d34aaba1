"""Mirror dynamics, separators and flows from CUDA and float32 input: torch, NumPy, SciPy, pytest.

The bounds are those of the arithmetic: rounding in float64, 1.2e-7 times the condition of the
problem for data that were rounded to float32.
"""

import math

import pytest
import torch
from implicit_bias import (
    Classification,
    Entropy,
    NotSeparable,
    PNorm,
    Quadratic,
    Regression,
    SquaredNorm,
    accelerated_descent,
    angle,
    bregman_projection,
    margin,
    margin_flow,
    max_margin,
    mirror_descent,
    mirror_flow,
    normalised_descent,
    relative_error,
    slow_law,
    square_descent,
    square_flow,
    steepest_descent,
    steepest_flow,
)

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]
START = torch.linspace(0.5, 1.5, 9, dtype=torch.float64)
K = torch.diag(torch.linspace(1, 3, 9, dtype=torch.float64))
MIRRORS = {
    "squared": lambda device: SquaredNorm(),
    "entropy": lambda device: Entropy(),
    "quadratic": lambda device: Quadratic(K.to(device)),
    "p-norm": lambda device: PNorm(1.5),
}
RUNS = {
    "margin_flow": lambda p: margin_flow(p, [0.0, 10.0, 1e6]).x,
    "logistic": lambda p: margin_flow(p, [1e6], loss="logistic").x,
    "normalised": lambda p: normalised_descent(p, steps=200).x,
    "accelerated": lambda p: accelerated_descent(p, steps=200).x,
    "steepest_descent": lambda p: steepest_descent(p, 2, steps=200).x,
    "steepest_flow": lambda p: steepest_flow(p, 1.5, until=1e4).x,
    "max_margin": lambda p: max_margin(p).x,
    "multipliers": lambda p: max_margin(p).dual,
}


def regression(device, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    truth = torch.rand(9, generator=generator, dtype=torch.float64)
    return Regression(X.to(device, dtype), (X @ truth).to(device, dtype))


def separable(device, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    y = torch.where(X[:, 0] > 0, 1.0, -1.0).double()
    X[:, 0] += 0.3 * y
    return Classification(X.to(device, dtype), y.to(device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MIRRORS)
def test_mirror_dynamics_and_projection(name, device):
    problem, potential = regression(device), MIRRORS[name](device)
    limit = bregman_projection(problem, potential, START)
    expected = bregman_projection(regression("cpu"), MIRRORS[name]("cpu"), START).x
    assert relative_error(limit.x.cpu(), expected) <= 1e-10
    for end in (
        mirror_descent(problem, potential, START).x,
        mirror_flow(problem, potential, START, [math.inf]).x,
        limit.x,
    ):
        assert end.device.type == device
        assert end.dtype == torch.float64
        assert relative_error(end.cpu(), expected) <= 1e-7


@pytest.mark.parametrize("device", DEVICES)
def test_squares(device):
    problem = regression(device)
    flow = square_flow(problem, START, times=[0.1])
    steps = square_descent(problem, START, 1e-4, steps=1000, tol=0)
    assert flow.x.device.type == steps.x.device.type == device
    # Descent is off by an amount of order the step.
    assert relative_error(steps.x.cpu(), flow.x.cpu()) <= 1e-2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", RUNS)
def test_separable_data(name, device):
    found = RUNS[name](separable(device))
    assert found.device.type == device
    assert found.dtype == torch.float64
    assert relative_error(found.cpu(), RUNS[name](separable("cpu"))) <= 1e-8


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["margin_flow", "normalised", "max_margin"])
def test_float32_data(name, device):
    problem = separable(device, torch.float32)
    assert problem.X.dtype == torch.float64
    exact = RUNS[name](separable("cpu"))
    assert angle(RUNS[name](problem).cpu(), exact) <= 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_evidence(device):
    problem = separable(device)
    limit = max_margin(problem)
    point = margin_flow(problem, [1e6]).x
    law = slow_law(problem, limit, point)
    assert law.residual.device.type == law.support.device.type == device
    assert angle(point, limit.x) * 1e6 == pytest.approx(law.angle, rel=1e-3)
    assert margin(problem, limit.x) == pytest.approx(1 / limit.objective, rel=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solve", [max_margin, lambda p: margin_flow(p, [100.0])])
def test_certificates(solve, device):
    X = torch.ones(2, 1, dtype=torch.float64, device=device)
    y = torch.tensor([1.0, -1.0], device=device)
    with pytest.raises(NotSeparable) as caught:
        solve(Classification(X, y))
    assert caught.value.certificate.device.type == device
