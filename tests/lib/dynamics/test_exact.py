"""Closed forms: each against the iteration or the equation that it replaces."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias import (
    Classification,
    Regression,
    StepTooLarge,
    chebyshev_nodes,
    exact_descent,
    gradient_descent,
    gradient_flow,
    minimum_norm,
    perturbed_descent,
    plant_regression,
    polynomial_features,
    relative_error,
)
from scipy.integrate import solve_ivp

TEST = torch.linspace(-1, 1, 100, dtype=torch.float64)
STEP = 0.2 / 9  # the memo's 0.2 on a loss divided by n = 9


def target(x):
    return torch.sin(8 * math.pi * x)


def nine_points(degree, basis):
    """P18's regression, on nodes where its target does not vanish."""
    x = chebyshev_nodes(9)
    return Regression(polynomial_features(x, degree, basis), target(x))


def errors_on_test(path, degree, basis):
    features = polynomial_features(TEST, degree, basis)
    return (path.points @ features.T - target(TEST)).square().mean(-1)


# ---- the flow


@pytest.mark.parametrize(("n", "d", "rank"), [(4, 9, 4), (9, 4, 4), (6, 6, 3)])
def test_flow_against_an_integrator(n, d, rank):
    planted = plant_regression(
        n, d, np.geomspace(2, 0.5, rank), seed=n, inconsistency=0.3 if rank < n else 0.0
    )
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    w0 = np.random.default_rng(0).standard_normal(d)
    times = [0.0, 0.1, 1.0, 3.0, 10.0]
    path = gradient_flow(planted.problem, times, w0)
    other = solve_ivp(
        lambda t, w: -X.T @ (X @ w - y), (0, 10), w0, "DOP853", times, rtol=1e-12, atol=1e-13
    )
    # The integrator's own error, some steps times 1e-12.
    np.testing.assert_allclose(path.points, other.y.T, atol=1e-10)
    losses = ((path.points.numpy() @ X.T - y) ** 2).sum(1) / 2
    np.testing.assert_allclose(path.losses, losses, rtol=1e-12)
    assert path.times.tolist() == times
    assert path.stopped == "exact"
    assert math.isnan(path.step)


@settings(derandomize=True, deadline=None)
@given(
    n=st.integers(1, 10),
    d=st.integers(1, 10),
    rank=st.integers(1, 10),
    miss=st.floats(0, 3),
    seed=st.integers(0, 10**6),
)
def test_flow_ends_where_the_pseudo_inverse_says(n, d, rank, miss, seed):
    rank = min(n, d, rank)
    planted = plant_regression(
        n, d, np.geomspace(1, 0.1, rank), inconsistency=miss if rank < n else 0.0, seed=seed
    )
    w0 = np.random.default_rng(seed).standard_normal(d)
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    end = gradient_flow(planted.problem, [0.0, 1.0, math.inf], w0)
    expected = w0 + np.linalg.pinv(X, rcond=1e-10) @ (y - X @ w0)
    np.testing.assert_allclose(end.x, expected, atol=1e-12 * (1 + miss))
    assert torch.equal(end.points[0], torch.from_numpy(w0))
    # What the data do not see stays as it was, all the way.
    V = planted.row_basis
    change = end.points - torch.from_numpy(w0)
    assert float((change - change @ V @ V.T).abs().max()) <= 1e-13 * (1 + miss)


def test_flow_forgets_where_it_was_stopped():
    problem = plant_regression(4, 7, seed=1).problem
    whole = gradient_flow(problem, [5.0], torch.ones(7)).x
    half = gradient_flow(problem, [2.0], torch.ones(7)).x
    torch.testing.assert_close(gradient_flow(problem, [3.0], half).x, whole, rtol=1e-13, atol=0)


def test_flow_keeps_relative_accuracy_when_it_has_hardly_begun():
    path = gradient_flow(Regression([[1.0]], [1.0]), [1e-18])
    assert path.x.item() == 1e-18


def test_singular_values_at_rounding_level_are_not_fitted():
    planted = plant_regression(6, 9, [1.0, 0.5], seed=2)
    rounded = Regression(planted.problem.X.float(), planted.problem.y.float())
    for problem in (planted.problem, rounded):
        end = gradient_flow(problem, [math.inf]).x
        assert relative_error(end, planted.minimum_norm) <= 10 * problem.precision


# ---- descent


@pytest.mark.parametrize("eta", [0.1, 0.5, 0.9, 1.0, 1.3, 1.9])
def test_exact_descent_is_descent(eta):
    """Steps above 1/beta overshoot and alternate; at 1/s^2 a mode is done in one step."""
    planted = plant_regression(7, 12, [1.0, 1.0, 0.7, 0.4, 0.1], inconsistency=0.5, seed=1)
    w0 = np.random.default_rng(1).standard_normal(12)
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    w, points = w0, [w0]
    for _ in range(60):
        w = w - eta * X.T @ (X @ w - y)
        points.append(w)
    path = exact_descent(planted.problem, range(61), step=eta, start=w0)
    np.testing.assert_allclose(path.points, np.array(points), atol=1e-13)
    loop = gradient_descent(planted.problem, w0, step=eta, steps=60, tol=0, every=1)
    assert relative_error(path.points, loop.points) <= 1e-13
    torch.testing.assert_close(path.losses, loop.losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(path.times, loop.times)
    assert (path.step, path.steps, path.stopped) == (eta, 60, "exact")


def test_a_step_that_ends_a_mode_at_once():
    problem = Regression(torch.diag(torch.tensor([2.0, 1.0])), [2.0, 1.0])
    path = exact_descent(problem, [0, 1, 2], step=0.25)
    assert path.points[:, 0].tolist() == [0.0, 1.0, 1.0]
    torch.testing.assert_close(path.points[:, 1], torch.tensor([0, 0.25, 0.4375]).double())


def test_default_step_is_that_of_gradient_descent():
    problem = plant_regression(5, 8, seed=3).problem
    assert exact_descent(problem, [1]).step == pytest.approx(gradient_descent(problem).step)


def test_agrees_after_many_steps():
    """10,000 iterations of the memo's Figure 4; 250,000 are in benchmarks/bench_descent.py."""
    problem = nine_points(30, "legendre")
    loop = gradient_descent(problem, step=STEP, steps=10_000, tol=0, every=1000)
    exact = exact_descent(problem, range(0, 10_001, 1000), step=STEP)
    assert relative_error(exact.points, loop.points) <= 1e-12


def test_small_steps_approach_the_flow():
    problem = plant_regression(5, 8, seed=3).problem
    flow = gradient_flow(problem, [2.0]).x
    errors = [relative_error(exact_descent(problem, [k], 2.0 / k).x, flow) for k in (1000, 2000)]
    assert errors[1] / errors[0] == pytest.approx(0.5, rel=0.01)  # first order in the step


# ---- perturbed descent


@pytest.mark.parametrize("relative", [False, True])
def test_perturbed_descent_is_descent_with_kicks(relative):
    planted = plant_regression(4, 6, [1.0, 0.6, 0.3], seed=2)
    X, y = planted.problem.X, planted.problem.y
    recorded = [0, 1, 5, 7, 10, 12, 15]
    path = perturbed_descent(
        planted.problem, recorded, 5, 0.6, 0.8, torch.ones(6), 3, 11, relative=relative
    )
    draws = torch.Generator().manual_seed(11)
    w = torch.ones(3, 6, dtype=torch.float64)
    for t in range(16):
        if t:
            w = w - 0.8 * (w @ X.T - y) @ X
        if t in recorded:  # before the kick
            torch.testing.assert_close(path.points[recorded.index(t)], w, rtol=1e-12, atol=1e-13)
        if t and t % 5 == 0:
            size = 0.6 * (w.square().mean(1, keepdim=True).sqrt() if relative else 1.0)
            w = w + size * torch.randn(3, 6, generator=draws, dtype=torch.float64)
    losses = (path.points @ X.T - y).square().sum(-1) / 2
    torch.testing.assert_close(path.losses, losses)
    assert (path.step, path.steps, path.stopped) == (0.8, 15, "exact")


def test_without_noise_nothing_is_perturbed():
    problem = nine_points(30, "legendre")
    kicked = perturbed_descent(problem, [10, 500, 999], 100, 0.0, STEP, repeats=2)
    plain = exact_descent(problem, [10, 500, 999], STEP)
    torch.testing.assert_close(kicked.points, plain.points[:, None].expand(-1, 2, -1))


# ---- the memo's figures


@pytest.mark.parametrize("basis", ["legendre", "chebyshev"])
def test_kicks_grow_norm(basis):
    """P18 Figure 4: each kick adds noise^2 dim(null) to the expected squared norm, for good."""
    problem, noise, repeats = nine_points(30, basis), 0.6, 400
    kicks = range(4000, 252_000, 4000)
    path = perturbed_descent(problem, kicks, 4000, noise, STEP, repeats=repeats)
    assert float(path.losses.max()) < 1e-20  # and the training error is back at zero each time
    first, last = path.points[0].square().sum(1), path.points[-1].square().sum(1)
    growth = (last - first) / (len(kicks) - 1)
    expected = noise**2 * (31 - 9)
    assert float(growth.mean()) == pytest.approx(
        expected, abs=4 * float(growth.std()) / math.sqrt(repeats)
    )
    assert float(growth.std()) / math.sqrt(repeats) < 0.05 * expected
    error = errors_on_test(path, 30, basis).mean(1)
    assert float(error[-1]) > 10 * float(error[0])


def test_kicks_relative_to_the_weights_grow_the_norm_geometrically():
    problem = nine_points(30, "legendre")
    kicks = range(4000, 84_000, 4000)
    path = perturbed_descent(problem, kicks, 4000, 0.6, STEP, repeats=400, relative=True)
    size = path.points.square().sum(-1).mean(1)
    # Each kick adds 0.36 |w|^2 / 31 in each of 22 directions, less what the row part is short of.
    assert float((size[-1] / size[-11]) ** 0.1) == pytest.approx(1 + 0.36 * 22 / 31, rel=0.05)


def test_monomials_are_too_slow_to_undo_a_kick():
    problem = nine_points(30, "monomial")
    slowest = float(torch.linalg.svdvals(problem.X)[-1])
    assert (1 - STEP * slowest**2) ** 4000 == pytest.approx(0.96, abs=0.01)
    path = perturbed_descent(problem, [8000], 4000, 0.6, STEP)
    assert float(path.losses.mean()) > 1e-4


def test_best_time_is_finite():
    """P18 Figure 15: whether to stop early is up to the basis."""
    steps = np.unique(np.round(np.geomspace(1, 250_000, 400)).astype(int))
    best, end, at = {}, {}, {}
    for basis in ("monomial", "legendre", "chebyshev"):
        path = exact_descent(nine_points(30, basis), steps, STEP)
        assert float(path.losses[-1]) < 1e-20
        error = errors_on_test(path, 30, basis)
        best[basis], end[basis] = float(error.min()), float(error[-1])
        at[basis] = int(steps[int(error.argmin())])
    assert best["monomial"] == pytest.approx(0.481, abs=1e-3)
    assert end["monomial"] == pytest.approx(1.194, abs=1e-3)
    assert at["monomial"] == 8
    assert best["legendre"] == pytest.approx(0.471, abs=1e-3)
    assert end["legendre"] == pytest.approx(0.507, abs=1e-3)
    assert at["legendre"] < 100
    # The control: here nothing is gained by stopping.
    assert best["chebyshev"] == pytest.approx(end["chebyshev"], rel=1e-12)
    assert end["chebyshev"] == pytest.approx(0.425, abs=1e-3)
    # Predicting zero does about as well as any of them.
    assert float(target(TEST).square().mean()) == pytest.approx(0.495, abs=1e-3)


def test_equispaced_nodes_leave_nothing_to_learn():
    assert float(target(torch.linspace(-1, 1, 9, dtype=torch.float64)).abs().max()) < 1e-14


@pytest.mark.parametrize("basis", ["legendre", "chebyshev"])
def test_kicks_are_undone(basis):
    """P18 Figure 16: with a unique minimiser a kick is forgotten, but the fit is not exact."""
    problem = nine_points(4, basis)
    path = perturbed_descent(problem, [4000, 8000, 80_000], 4000, 0.6, STEP, repeats=10)
    answer = np.linalg.lstsq(problem.X.numpy(), problem.y.numpy(), rcond=None)[0]
    for w in path.points.flatten(0, 1):
        assert relative_error(w, answer) <= 1e-10
    assert float(2 * path.losses[-1].mean() / 9) == pytest.approx(0.166, abs=1e-3)
    # The control: with degree 30 the kicks stay.
    kept = perturbed_descent(nine_points(30, basis), [8000], 4000, 0.6, STEP, repeats=10)
    limit = minimum_norm(nine_points(30, basis)).x
    assert min(relative_error(w, limit) for w in kept.x) > 0.5


@pytest.mark.parametrize(
    ("basis", "product"), [("monomial", 0.56), ("legendre", 0.26), ("chebyshev", 0.40)]
)
def test_step_of_the_memo_is_stable(basis, product):
    top = float(torch.linalg.svdvals(nine_points(30, basis).X)[0])
    assert STEP * top**2 == pytest.approx(product, abs=5e-3)


def test_step_of_the_memo_diverges_for_orthonormal_legendre():
    x = chebyshev_nodes(9)
    scaled = polynomial_features(x, 30, "legendre") * (2 * torch.arange(31) + 1).sqrt()
    with pytest.raises(StepTooLarge, match=r"diverges"):
        exact_descent(Regression(scaled, target(x)), [1], STEP)


# ---- what is refused

ONE = Regression([[2.0, 0.0]], [1.0])
NOTHING = Regression([[0.0, 0.0]], [1.0])
KICKS = {"every": 5, "noise": 0.1}


@pytest.mark.parametrize("times", [[], [-1.0], [2.0, 1.0], [math.nan]])
def test_flow_refuses_times(times):
    with pytest.raises(ValueError, match=r"times must be non-negative and increasing.*Got"):
        gradient_flow(ONE, times)


@pytest.mark.parametrize("steps", [[], [-1], [2, 1], [0.5], [math.nan], [math.inf]])
def test_exact_descent_refuses_steps(steps):
    with pytest.raises(ValueError, match=r"steps must be non-negative integers.*gradient_flow"):
        exact_descent(ONE, steps)


@pytest.mark.parametrize("steps", [[], [-1, 2], [2, 1], [1, 1], [0.5], [[1]]])
def test_perturbed_descent_refuses_steps(steps):
    with pytest.raises(
        ValueError, match=r"non-empty list of increasing non-negative integers.*Got"
    ):
        perturbed_descent(ONE, steps, **KICKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every = 0 is too small"),
        ({"noise": -1.0}, "noise = -1.0.*not negative"),
        ({"noise": math.nan}, "noise = nan.*finite"),
        ({"noise": math.inf}, "noise = inf.*finite"),
        ({"repeats": 0}, "repeats = 0 is too small"),
    ],
)
def test_perturbed_descent_refuses_kicks(arguments, message):
    with pytest.raises(ValueError, match=message):
        perturbed_descent(ONE, [1], **{**KICKS, **arguments})


@pytest.mark.parametrize("step", [0.5, 1.0, math.inf])
def test_refuses_a_step_that_diverges(step):
    message = r"step = .*2/sigma_max\^2 = 0.5.*diverges.*smaller step, or None"
    with pytest.raises(StepTooLarge, match=message):
        exact_descent(ONE, [1], step)
    with pytest.raises(StepTooLarge, match=message):
        perturbed_descent(ONE, [1], **KICKS, step=step)


@pytest.mark.parametrize("step", [0.0, -0.1, math.nan])
def test_refuses_a_step_that_is_none(step):
    with pytest.raises(ValueError, match=r"step = .* is not a positive number.*None for 1/beta"):
        exact_descent(ONE, [1], step)


@pytest.mark.parametrize(
    "run",
    [
        lambda problem: gradient_flow(problem, [1.0]),
        lambda problem: exact_descent(problem, [1]),
        lambda problem: perturbed_descent(problem, [1], **KICKS),
    ],
)
def test_refuses_what_is_no_regression(run):
    two_outputs = Classification([[1.0, 0.0]], [[1, -1]])
    with pytest.raises(TypeError, match=r"needs a Regression.*Classification.*Regression\(X, y\)"):
        run(two_outputs)


def test_refuses_to_derive_a_step_from_nothing():
    with pytest.raises(ValueError, match=r"X is zero.*stays where it starts.*features"):
        exact_descent(NOTHING, [1])
    with pytest.raises(ValueError, match=r"X is zero.*stays where it starts.*features"):
        perturbed_descent(NOTHING, [1], **KICKS)
    # The flow needs none, and stays.
    assert gradient_flow(NOTHING, [math.inf], [1.0, 2.0]).x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "run",
    [
        lambda start: gradient_flow(ONE, [1.0], start),
        lambda start: exact_descent(ONE, [1], start=start),
        lambda start: perturbed_descent(ONE, [1], **KICKS, start=start),
    ],
)
def test_refuses_a_start_of_the_wrong_shape(run):
    with pytest.raises(ValueError, match=r"start has shape \(3,\).*d = 2.*length 2"):
        run([1.0, 2.0, 3.0])
