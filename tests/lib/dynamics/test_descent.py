"""Descent does what it says, and ends where the theorems of chapter 1 say."""

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
    gradient_descent,
    loss_named,
    minimum_norm,
    outside_span,
    plant_regression,
    relative_error,
    stochastic_gradient_descent,
)

SINGULAR = np.geomspace(1, 0.3, 15)


@pytest.fixture(scope="module")
def planted():
    """15 examples, 60 features: 45 directions that the data do not see."""
    return plant_regression(15, 60, SINGULAR, seed=1)


def some_start(d, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(d))


def adam(problem, steps=3000, step=0.02, b1=0.9, b2=0.999):
    """Adam (Kingma and Ba 2015), its step falling to zero so that it settles; its path."""
    w, m, v, points = *torch.zeros(3, problem.d, dtype=torch.float64), []
    for t in range(1, steps + 1):
        gradient = problem.X.T @ (problem.X @ w - problem.y)
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        slope = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + 1e-12)
        w = w - step * 1e-4 ** (t / steps) * slope
        points.append(w)
    return torch.stack(points)


@pytest.fixture(scope="module")
def adam_points(planted):
    return adam(planted.problem)


# ---- the theorems


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("loss", ["square", "logcosh"])
def test_ends_at_nearest_interpolator(planted, adam_points, loss, from_zero):
    """M24 Theorem 1: whatever the loss, the limit is w0 + X^+ (y - X w0)."""
    problem = planted.problem
    w0 = torch.zeros(60).double() if from_zero else some_start(60)
    path = gradient_descent(problem, w0, loss=loss, tol=1e-14)
    nearest = w0.numpy() + np.linalg.pinv(problem.X.numpy()) @ (problem.y - problem.X @ w0).numpy()
    assert path.stopped == "converged"
    assert relative_error(path.x, nearest) <= 1e-10
    # The control: Adam reaches zero loss as well, somewhere else.
    end = adam_points[-1]
    assert float((problem.X @ end - problem.y).norm()) < 1e-6
    assert relative_error(end, planted.minimum_norm) > 0.05


@pytest.mark.parametrize("tall", [False, True])
def test_the_limit_in_low_rank(tall):
    shape = (40, 12) if tall else (12, 40)
    planted = plant_regression(*shape, [2.0, 1.0, 0.5, 0.4], seed=3)
    path = gradient_descent(planted.problem, tol=1e-14)
    assert relative_error(path.x, planted.minimum_norm) <= 1e-10


def test_stays_in_row_space(planted, adam_points):
    """P18 Lemma 3: every iterate, not only the last, and for any draws."""
    problem, V = planted.problem, planted.row_basis
    full = gradient_descent(problem, every=1)
    single = stochastic_gradient_descent(problem, steps=20_000, every=20, repeats=3)
    assert full.points.shape[0] > 100
    assert outside_span(full.points, V) <= 1e-12
    assert outside_span(single.points, V) <= 1e-12
    # From elsewhere the part outside stays what it was.
    w0 = some_start(60)
    moved = gradient_descent(problem, w0, every=1, loss="logcosh")
    assert outside_span(moved.points - w0, V) <= 1e-12
    assert outside_span(adam_points, V) > 0.01  # the control


def test_linear_rate():
    """P18 Theorem 1: each mode of descent has its own rate; single examples obey a bound."""
    s = np.array([1.0, 0.8, 0.6, 0.3])
    planted = plant_regression(12, 30, s, seed=2)
    problem, step = planted.problem, 1.5
    path = gradient_descent(problem, step=step, steps=100, tol=0, every=1)
    U = torch.linalg.svd(problem.X, full_matrices=False).U[:, :4]
    residuals = (path.points @ problem.X.T - problem.y) @ U
    predicted = (1 - step * torch.from_numpy(s) ** 2) ** torch.arange(101)[:, None]
    torch.testing.assert_close(residuals, predicted * residuals[0], rtol=1e-10, atol=1e-14)
    distance = (path.points - planted.minimum_norm).norm(dim=1)
    measured = float(distance[100] / distance[60]) ** (1 / 40)
    assert measured == pytest.approx(1 - step * 0.3**2, rel=1e-9)

    R2 = float(problem.X.square().sum(1).max())
    single = stochastic_gradient_descent(
        problem, step=1 / R2, steps=1500, repeats=300, tol=0, every=50
    )
    gap = (single.points - planted.minimum_norm).square().sum(-1).mean(1)
    bound = (1 - 0.3**2 / (12 * R2)) ** torch.arange(0, 1501, 50) * gap[0]
    assert bool((gap[1:] < bound[1:]).all())


def test_the_bound_on_the_stochastic_rate_is_sharp():
    """With equal orthogonal examples it is an equality: E d_t^2 = (1 - 1/n)^t d_0^2."""
    problem = Regression(3 * torch.eye(8), torch.ones(8))
    path = stochastic_gradient_descent(problem, steps=20, repeats=4000, tol=0, every=5)
    gap = (path.points - 1 / 3).square().sum(-1)
    expected = (1 - 1 / 8) ** torch.tensor([0, 5, 10, 15, 20]).double() * 8 / 9
    error = gap.std(1) / math.sqrt(4000)
    assert bool(((gap.mean(1) - expected).abs() <= 4 * error + 1e-12).all())


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("loss", ["square", "logcosh"])
def test_stochastic_ends_at_minimum_norm(planted, batch, loss):
    """P18 Corollary 1."""
    path = stochastic_gradient_descent(planted.problem, batch=batch, loss=loss, repeats=4)
    assert path.stopped == "converged"
    for end in path.x:
        assert relative_error(end, planted.minimum_norm) <= 1e-6
    # The control: off the row space the limit is another.
    w0 = some_start(60)
    away = stochastic_gradient_descent(planted.problem, w0, batch=batch, loss=loss)
    assert relative_error(away.x, planted.minimum_norm) > 0.1
    assert relative_error(away.x, minimum_norm(planted.problem, w0).x) <= 1e-6


# ---- the iteration itself


@pytest.mark.parametrize("loss", ["square", "logcosh", "exponential", "logistic"])
def test_is_the_plain_iteration(loss):
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((7, 4)), rng.standard_normal(4)
    form = loss_named(loss)
    signs = np.sign(rng.standard_normal(7))
    if form.of == "margin":
        problem, rows, offset = Classification(X, signs), signs[:, None] * X, np.zeros(7)
    else:
        problem, rows, offset = Regression(X, signs), X, signs
    path = gradient_descent(problem, w, step=0.01, steps=40, tol=0, loss=loss, every=1)
    for t in range(41):
        value = torch.from_numpy(rows @ w - offset)
        np.testing.assert_allclose(path.points[t], w, rtol=1e-12)
        assert float(path.losses[t]) == pytest.approx(float(form.value(value).sum()), rel=1e-12)
        w = w - 0.01 * rows.T @ form.slope(value).numpy()
    assert path.step == 0.01
    torch.testing.assert_close(path.times, 0.01 * torch.arange(41).double())


@pytest.mark.parametrize("batch", [1, 3])
def test_stochastic_is_the_plain_iteration(planted, batch):
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    path = stochastic_gradient_descent(
        planted.problem, step=0.05, steps=1200, batch=batch, seed=5, tol=0, every=100, repeats=2
    )
    draws = torch.Generator().manual_seed(5)
    drawn = [torch.randint(15, (m, 2, batch), generator=draws) for m in (1000, 200)]
    drawn = torch.cat(drawn).numpy()
    for run in range(2):
        w = np.zeros(60)
        for t in range(1200):
            i = drawn[t, run]
            w = w - 0.05 * X[i].T @ (X[i] @ w - y[i])
            if (t + 1) % 100 == 0:
                np.testing.assert_allclose(path.points[(t + 1) // 100, run], w, atol=1e-12)
    full = (path.points @ planted.problem.X.T - planted.problem.y).square().sum(-1) / 2
    torch.testing.assert_close(path.losses, full)
    torch.testing.assert_close(path.times, 0.05 * batch / 15 * torch.arange(0, 1201, 100).double())


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    n=st.integers(1, 8),
    d=st.integers(1, 8),
    loss=st.sampled_from(["square", "logcosh", "exponential", "logistic"]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
)
def test_the_derived_step_never_climbs(n, d, loss, scale, seed):
    rng = np.random.default_rng(seed)
    X, start = scale * rng.standard_normal((n, d)), rng.standard_normal(d) / scale
    if loss_named(loss).of == "margin":
        problem = Classification(X, np.sign(rng.standard_normal(n)))
    else:
        problem = Regression(X, rng.standard_normal(n))
    path = gradient_descent(problem, start, steps=50, loss=loss, every=1)
    rise = path.losses.diff()
    assert bool((rise <= 1e-13 * path.losses[0]).all())


def test_default_steps_are_one_over_the_curvature(planted):
    X = planted.problem.X
    labelled = Classification(X, torch.ones(15))
    largest, longest = 1.0, float(X.square().sum(1).max())
    gd, sgd = gradient_descent, stochastic_gradient_descent
    assert gd(planted.problem, steps=1).step == pytest.approx(1 / largest)
    assert gd(labelled, steps=1, loss="logistic").step == pytest.approx(4 / largest)
    assert gd(labelled, steps=1, loss="exponential").step == pytest.approx(1 / (15 * longest))
    assert sgd(planted.problem, steps=1).step == pytest.approx(1 / longest)
    assert sgd(planted.problem, steps=1, batch=8).step == pytest.approx(1 / (8 * longest))


def test_large_batches_settle_at_the_default_step():
    # Drawn with replacement, one example may fill a batch: sigma_max^2 does not bound that.
    problem = Regression(np.diag(np.linspace(0.8, 1, 10)), np.ones(10))
    path = stochastic_gradient_descent(problem, batch=40)
    assert path.stopped == "converged"
    assert relative_error(path.x, 1 / np.linspace(0.8, 1, 10)) <= 1e-6


@pytest.mark.parametrize("run", [gradient_descent, stochastic_gradient_descent])
def test_what_is_recorded(planted, run):
    default = run(planted.problem, steps=5000, tol=0)
    assert default.stopped == "budget"
    assert default.steps == 5000
    assert 100 < len(default.times) <= 202
    assert len(default.points) == len(default.losses) == len(default.times)
    assert default.times[0] == 0
    assert bool((default.times.diff() > 0).all())
    every = run(planted.problem, steps=10, tol=0, every=4)
    assert (every.times / every.times[-1] * 10).round().tolist() == [0, 4, 8, 10]
    assert len(run(planted.problem, steps=1).times) == 2


def test_an_inconsistent_system_ends_at_least_squares():
    planted = plant_regression(30, 8, inconsistency=2.0, seed=4)
    path = gradient_descent(planted.problem, tol=1e-14)
    assert path.stopped == "converged"
    expected = np.linalg.lstsq(planted.problem.X.numpy(), planted.problem.y.numpy(), rcond=None)[0]
    assert relative_error(path.x, expected) <= 1e-10
    assert float(path.losses[-1]) == pytest.approx(2.0, rel=1e-12)
    # Single examples keep pulling in turn: no convergence, and it does not claim any.
    assert stochastic_gradient_descent(planted.problem, steps=2000).stopped == "budget"


def test_tolerance_zero_spends_the_budget_unless_nothing_is_left(planted):
    assert gradient_descent(planted.problem, steps=50, tol=0).stopped == "budget"
    solved = gradient_descent(planted.problem, planted.minimum_norm, steps=500, tol=0)
    assert relative_error(solved.x, planted.minimum_norm) <= 1e-14


def test_classification_runs_until_its_gradient_is_small():
    problem = Classification([[1.0, 0.5], [0.0, -2.0]], [1, -1])
    path = gradient_descent(problem, loss="logistic", tol=1e-2)
    assert path.stopped == "converged"
    assert bool((problem.Z @ path.x > 0).all())
    drawn = stochastic_gradient_descent(problem, loss="exponential", step=0.1, steps=500)
    assert bool((problem.Z @ drawn.x > 0).all())


def test_draws_repeat_with_the_seed(planted):
    runs = [
        stochastic_gradient_descent(planted.problem, steps=50, seed=seed).x for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_repeats_are_independent(planted):
    path = stochastic_gradient_descent(planted.problem, steps=30, repeats=3)
    assert path.points.shape[1:] == (3, 60)
    assert path.losses.shape == path.points.shape[:2]
    assert len({float(v) for v in path.losses[-1]}) == 3


@pytest.mark.parametrize("run", [gradient_descent, stochastic_gradient_descent])
def test_reads_float32_and_answers_in_float64(run):
    planted = plant_regression(5, 12, seed=2)
    X, y = planted.problem.X.float(), planted.problem.y.float()
    path = run(Regression(X, y))
    assert path.points.dtype == path.times.dtype == path.losses.dtype == torch.float64
    # Rounding the data to float32 moves the answer by eps times the condition, 10.
    assert relative_error(path.x, planted.minimum_norm) <= 1e-5


# ---- what is refused

ONE = Regression([[2.0, 0.0]], [1.0])
LABELS = Classification([[2.0, 0.0]], [1])
MATRIX = Classification([[2.0, 0.0]], [[1, -1]])
BOTH = [gradient_descent, stochastic_gradient_descent]


@pytest.mark.parametrize("run", BOTH)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps = 0 is too small.*Pass 1 or more"),
        ({"steps": 2.5}, TypeError, "steps = 2.5 is not an integer.*Pass an int"),
        ({"tol": -1e-9}, ValueError, "tol = -1e-09 is negative.*tol >= 0"),
        ({"tol": math.nan}, ValueError, "tol = nan.*tol >= 0"),
        ({"step": 0.0}, ValueError, r"step = 0.0 is not a positive number.*None for 1/beta"),
        ({"step": math.nan}, ValueError, "step = nan is not a positive number.*None"),
        ({"step": math.inf}, ValueError, "step = inf is not a positive number.*None"),
        ({"step": 0.5}, StepTooLarge, r"step = 0.5.*2/beta = 0.5.*settle.*smaller.*= 0.25"),
        ({"every": 0}, ValueError, "every = 0 is too small.*Pass 1 or more"),
        ({"loss": "hinge"}, ValueError, "no loss named 'hinge'.*Choose one of"),
        ({"loss": "logistic"}, TypeError, r"logistic loss.*labels.*Build a Classification\(X, y\)"),
        ({"start": [1.0]}, ValueError, r"start has shape \(1,\).*d = 2"),
        ({"start": [1e200, 0.0]}, ValueError, "square loss is inf at the start.*Start nearer"),
    ],
)
def test_refuses_and_says_what_to_do(run, arguments, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        run(ONE, **arguments)


@pytest.mark.parametrize("run", BOTH)
def test_refuses_data_that_cannot_be_descended(run):
    with pytest.raises(ValueError, match=r"X is zero.*stays where it starts.*features"):
        run(Regression([[0.0, 0.0]], [1.0]))
    with pytest.raises(ValueError, match=r"one output.*\(1, 2\).*one column of y"):
        run(MATRIX, loss="logistic")
    with pytest.raises(ValueError, match=r"exponential loss is inf at the start.*Start nearer"):
        run(LABELS, [-1e4, 0.0], loss="exponential", step=0.1)


@pytest.mark.parametrize("arguments", [{"batch": 0}, {"repeats": 0}])
def test_stochastic_refuses_empty_batches(arguments):
    with pytest.raises(ValueError, match=r"(batch|repeats) = 0 is too small.*Pass 1 or more"):
        stochastic_gradient_descent(ONE, **arguments)


def test_stochastic_has_no_safe_step_for_the_exponential_loss():
    with pytest.raises(ValueError, match=r"unbounded curvature.*Pass step=.*gradient_descent"):
        stochastic_gradient_descent(LABELS, loss="exponential")


def test_a_loss_that_rises_is_reported():
    problem = Classification([[1.0, 0.0], [-0.9, 0.1]], [1, 1])
    with pytest.raises(
        StepTooLarge, match=r"rose from.*within.*too large for the exponential.*smaller"
    ):
        gradient_descent(problem, loss="exponential", step=50.0)
    with pytest.raises(
        StepTooLarge, match=r"overflowed within.*too large for the exponential.*smaller"
    ):
        stochastic_gradient_descent(problem, loss="exponential", step=1e4, every=1)
