"""Mirror dynamics: where they end against the projection, and their paths against integrators."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from implicit_bias import (
    Classification,
    Regression,
    StepTooLarge,
    exact_descent,
    gradient_flow,
    minimum_norm,
    outside_span,
    plant_regression,
    relative_error,
)
from implicit_bias.dynamics.mirror import mirror_descent, square_descent
from implicit_bias.dynamics.mirror_flow import mirror_flow, square_flow
from implicit_bias.limits.bregman import bregman_projection
from implicit_bias.potentials import Entropy, PNorm, Quadratic, SquaredNorm
from scipy.integrate import solve_ivp


def positive(n, d, seed, share=1.0, condition=5.0):
    """Rows of that condition number and a non-negative answer."""
    rng = np.random.default_rng(seed)
    X = plant_regression(n, d, np.geomspace(1, 1 / condition, min(n, d)), seed=seed).problem.X
    u = rng.uniform(0.1, 1, d) * (rng.random(d) < share)
    u[rng.integers(d)] = 1.0
    return Regression(X, X @ torch.from_numpy(u))


def question(i):
    """The i-th of the random questions: potential, shape, rank, scale and start all vary."""
    rng = np.random.default_rng(i)
    n, d = int(rng.integers(1, 6)), int(rng.integers(2, 16))
    problem = positive(n, d, i, share=rng.choice([0.5, 1.0]), condition=rng.uniform(1, 3))
    scale = 10.0 ** rng.integers(-3, 4)
    X = problem.X
    if i % 7 == 0 and 1 < n <= d:  # a row twice; what is left is conditioned no worse
        X = X.clone()
        X[-1] = X[0]
    X = scale * X
    u = torch.from_numpy(rng.uniform(0.1, 1, d))
    size = 10.0 ** rng.integers(-2, 3)
    start = rng.standard_normal(d) * size
    kind = ["entropy", "squared", "quadratic", "p-norm"][i % 4]
    if kind == "entropy":
        potential = Entropy()
        start = np.full(d, 10.0 ** -rng.choice([0, 1, 3, 8])) * rng.uniform(0.5, 1, d)
    else:
        u = u * torch.from_numpy(rng.choice([-size, size], d))
        A = rng.standard_normal((d, d)) / math.sqrt(d)
        potential = {
            "squared": SquaredNorm(),
            "quadratic": Quadratic(A @ A.T + np.eye(d)),
            "p-norm": PNorm([1.5, 1.8, 2.5, 3.0][(i // 4) % 4]),
        }[kind]
    return kind, Regression(X, X @ u), potential, start


def ask(numbers):
    """The worst relative error of descent and of flow, by potential, over these questions."""
    worst = {}
    for i in numbers:
        kind, problem, potential, start = question(i)
        limit = bregman_projection(problem, potential, start)
        what = f"{i}: {kind} {getattr(potential, 'p', '')}, {problem.n} x {problem.d}"
        path = mirror_descent(problem, potential, start)
        assert path.stopped == "converged", what
        error = relative_error(path.x, limit.x)
        assert error <= 1e-7, f"descent, {what}: {error:.2e}"
        worst[kind] = max(worst.get(kind, (0.0, "")), (error, what))
        if i % 9 == 0 or i < 50:
            flow = mirror_flow(problem, potential, start)
            assert flow.stopped == "converged", what
            error = relative_error(flow.x, limit.x)
            assert error <= 1e-8, f"flow, {what}: {error:.2e}"
            worst[kind + " flow"] = max(worst.get(kind + " flow", (0.0, "")), (error, what))
    return worst


def test_theorem_2():
    """M24, Theorem 2, on 200 problems: the misfit at the end, 1e-12, times their condition."""
    assert len(ask(range(200))) == 8


def test_a_thousand_mirror_problems(record_property, capsys):
    """800 more. Their worst is printed; the bounds are 1e-7 for descent and 1e-8 for the flow."""
    worst = ask(range(200, 1000))
    with capsys.disabled():
        for name, (error, what) in worst.items():
            record_property(f"worst_{name}", f"{error:.2e} ({what})")
            print(f"\n  worst of 1,000, mirror, {name}: {error:.2e} ({what})", end="")


# ---- descent


@pytest.mark.parametrize("alpha", [1.0, 1e-8, 1e-16])
@pytest.mark.parametrize(("n", "d"), [(5, 20), (10, 40)])
def test_tiny_starts_converge(n, d, alpha):
    X = np.random.default_rng(n).standard_normal((n, d))
    u = np.random.default_rng(d).uniform(0, 1, d)
    problem, start = Regression(X, X @ u), np.full(d, alpha)
    path = mirror_descent(problem, Entropy(), start)
    assert path.stopped == "converged"
    assert path.steps < 50_000
    assert relative_error(path.x, bregman_projection(problem, Entropy(), start).x) <= 1e-7
    assert math.sqrt(2 * path.losses[-1]) <= 1e-12 * float(problem.y.norm())
    # Accepted steps never raise the loss, beyond rounding.
    assert (path.losses[1:] <= path.losses[:-1] * (1 + 1e-12)).all()


@pytest.mark.parametrize("potential", [Entropy(), PNorm(1.5), PNorm(3)], ids=repr)
def test_every_interpolator_comes_nearer(potential):
    """The inequality of the module's notes, with the step that it names (every step is kept)."""
    problem = positive(4, 10, 3)
    start = np.random.default_rng(3).uniform(0.1, 1, 10)
    path = mirror_descent(problem, potential, start, steps=60, tol=0, every=1)
    best = bregman_projection(problem, potential, start).x
    left = potential.divergence(best.expand_as(path.points), path.points)
    eta = path.times.diff()
    assert (left[1:] <= left[:-1] - eta * (path.losses[1:] + path.losses[:-1]) + 1e-14).all()
    assert (eta > 0).all()


def test_quadratic_potentials_are_preconditioned_gradient_descent():
    problem = plant_regression(4, 9, seed=1).problem
    start = np.random.default_rng(1).standard_normal(9)
    path = mirror_descent(problem, SquaredNorm(), start, steps=50, tol=0, every=1)
    exact = exact_descent(problem, range(51), start=start)
    assert path.step == pytest.approx(exact.step)
    assert relative_error(path.points, exact.points) <= 1e-13
    torch.testing.assert_close(path.times, exact.times)
    # K^(1/2) w runs gradient descent on the data X K^(-1/2).
    A = np.random.default_rng(2).standard_normal((9, 9))
    K = A @ A.T + np.eye(9)
    values, vectors = np.linalg.eigh(K)
    root = vectors * np.sqrt(values) @ vectors.T
    turned = Regression(problem.X.numpy() @ np.linalg.inv(root), problem.y)
    other = exact_descent(turned, range(51), start=root @ start)
    path = mirror_descent(problem, Quadratic(K), start, steps=50, tol=0, every=1)
    assert path.step == pytest.approx(other.step)
    assert relative_error(path.points @ torch.from_numpy(root), other.points) <= 1e-12


@pytest.mark.parametrize("potential", [Entropy(), PNorm(1.5), PNorm(3)], ids=repr)
def test_mirror_images_stay_in_the_row_space(potential):
    problem = positive(4, 12, 2)
    start = np.random.default_rng(2).uniform(0.1, 1, 12)
    path = mirror_descent(problem, potential, start)
    moved = potential.mirror(path.points) - potential.mirror(start)
    null = torch.linalg.svd(problem.X)[2][4:]
    assert float((moved @ null.T).abs().max()) <= 1e-12 * float(moved.abs().max())


def test_a_constant_step_is_the_textbook_iteration():
    problem = positive(3, 8, 4)
    X, y = problem.X.numpy(), problem.y.numpy()
    u = np.full(8, 0.1)
    points = [u]
    for _ in range(40):
        u = u * np.exp(-0.05 * X.T @ (X @ u - y))
        points.append(u)
    path = mirror_descent(problem, Entropy(), points[0], step=0.05, steps=40, tol=0, every=1)
    np.testing.assert_allclose(path.points, np.array(points), rtol=1e-13)
    losses = ((np.array(points) @ X.T - y) ** 2).sum(1) / 2
    np.testing.assert_allclose(path.losses, losses, rtol=1e-12)
    assert (path.step, path.steps, path.stopped) == (0.05, 40, "budget")
    # Exponentiated gradient ends at the projection for any step at which it converges.
    limit = bregman_projection(problem, Entropy(), points[0]).x
    for step in (0.1, 0.5, 1.0):
        end = mirror_descent(problem, Entropy(), points[0], step=step)
        assert end.stopped == "converged"
        assert relative_error(end.x, limit) <= 1e-9


def test_inconsistent_data_end_at_least_squares():
    problem = plant_regression(9, 5, inconsistency=0.5, seed=1).problem
    for path in (mirror_descent(problem, SquaredNorm(), None),
                 mirror_flow(problem, SquaredNorm(), None)):  # fmt: skip
        assert path.stopped == "converged"
        assert relative_error(path.x, minimum_norm(problem).x) <= 1e-8


@pytest.mark.parametrize("alpha", [1.0, 1e-12, 1e-100])
def test_infeasible_data_end_at_the_least_loss(alpha):
    """u >= 0 cannot reach -1: it vanishes. Nor (1, -1) with equal rows: it stops at 0."""
    problem = Regression([[1.0, 1.0], [0.0, 1.0]], [1.0, -1.0])
    for run in (mirror_descent, mirror_flow):
        path = run(problem, Entropy(), [alpha, alpha])
        assert path.stopped == "converged"
        torch.testing.assert_close(path.x, torch.tensor([1.0, 0]).double(), atol=1e-8, rtol=0)
        assert float(path.losses[-1]) == pytest.approx(0.5, rel=1e-8)
        gone = run(Regression([[2.0]], [-1.0]), Entropy(), [alpha])
        assert gone.x.item() <= 1e-9
        assert gone.stopped == "converged"


def test_zero_targets_are_approached():
    path = mirror_descent(Regression([[1.0, 2.0]], [0.0]), Entropy(), [1.0, 1.0], steps=5000)
    assert path.losses[-1] <= 1e-5
    path = mirror_descent(Regression([[1.0, -1.0]], [0.0]), Entropy(), [4.0, 1.0])
    torch.testing.assert_close(path.x, torch.full((2,), 2.0).double(), atol=1e-10, rtol=0)


# ---- flow


def test_flow_of_the_squared_norm_is_gradient_flow():
    problem = plant_regression(5, 9, seed=3).problem
    start = np.random.default_rng(1).standard_normal(9)
    times = [0.0, 0.1, 1.0, 1.0, 10.0, 100.0, math.inf, math.inf]
    path = mirror_flow(problem, SquaredNorm(), start, times)
    exact = gradient_flow(problem, times, start)
    assert float((path.points - exact.points).norm(dim=1).max()) <= 1e-9
    assert relative_error(path.x, exact.x) <= 1e-12
    assert path.times.tolist() == times
    assert math.isnan(path.step)
    assert (path.stopped, path.steps) == ("converged", 0)
    assert mirror_flow(problem, SquaredNorm(), start, [1.0]).stopped == "budget"


@pytest.mark.parametrize("alpha", [1.0, 1e-6, 1e-12])
@pytest.mark.parametrize("name", ["entropy", "p-norm"])
def test_flow_against_an_explicit_integrator(name, alpha):
    problem = positive(4, 10, 6)
    X, y = problem.X.numpy(), problem.y.numpy()
    start, times = np.full(10, alpha), np.geomspace(0.1, 100, 7)
    potential = Entropy() if name == "entropy" else PNorm(1.5)
    inverse = np.exp if name == "entropy" else lambda z: np.sign(z) * z**2
    z = solve_ivp(
        lambda _, z: -X.T @ (X @ inverse(z) - y),
        (0, 100),
        potential.mirror(start).numpy(),
        "DOP853",
        times,
        rtol=1e-13,
        atol=1e-15,
    ).y.T
    path = mirror_flow(problem, potential, start, times)
    # rtol = 1e-10 bounds an error per step, relative to the dual; the path's was 1e-8 at worst.
    np.testing.assert_allclose(path.points, inverse(z), rtol=1e-7, atol=1e-9)


def test_small_steps_follow_the_flow():
    """M24-MD-K: the distance falls like the step, to first order, for every potential."""
    problem = positive(3, 8, 1)
    start = np.random.default_rng(0).uniform(0.2, 1, 8)
    for potential in (Entropy(), PNorm(1.5), PNorm(3), SquaredNorm()):
        goal = mirror_flow(problem, potential, start, [2.0]).x
        gaps = []
        for steps in (200, 400, 800):
            path = mirror_descent(problem, potential, start, step=2.0 / steps, steps=steps, tol=0)
            gaps.append(float((path.x - goal).norm()))
        orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
        np.testing.assert_allclose(orders, 1, atol=0.02)


@pytest.mark.parametrize("alpha", [1.0, 1e-12, 1e-100])
def test_stiff_flows_reach_their_limit(alpha):
    for seed, (n, d) in enumerate([(3, 8), (5, 20), (10, 40), (20, 60)]):
        X = np.random.default_rng(seed).standard_normal((n, d))
        u = np.random.default_rng(seed).uniform(0, 1, d) * (np.arange(d) % 2)
        problem, start = Regression(X, X @ u), np.full(d, alpha)
        path = mirror_flow(problem, Entropy(), start)
        limit = bregman_projection(problem, Entropy(), start)
        assert path.stopped == "converged"
        assert relative_error(path.x, limit.x) <= 1e-10


# ---- squares


def test_square_flow_is_the_gradient_flow_of_squares():
    problem, start = positive(4, 9, 2), np.full(9, 0.05)
    X, y = problem.X.numpy(), problem.y.numpy()
    times = [0.1, 0.5, 1.0, 3.0]
    w = solve_ivp(
        lambda _, w: -2 * w * (X.T @ (X @ w**2 - y)), (0, 3), np.sqrt(start), "DOP853", times,
        rtol=1e-12, atol=1e-14,
    ).y.T  # fmt: skip
    path = square_flow(problem, start, times=times)
    np.testing.assert_allclose(path.points, w**2, rtol=1e-7)
    entropy = mirror_flow(problem, Entropy(), start, 4 * np.array(times))
    assert torch.equal(path.points, entropy.points)
    assert path.times.tolist() == times
    # The slides' factor: another place at the same time, and the same place in the end.
    wrong = square_flow(problem, start, 2, times)
    assert relative_error(wrong.points[:3], w[:3] ** 2) >= 0.1
    np.testing.assert_allclose(wrong.points[2], square_flow(problem, start, 4, [0.5]).x, rtol=1e-7)
    ends = [square_flow(problem, start, factor).x for factor in (2, 4)]
    assert relative_error(*ends) <= 1e-13


def test_descent_on_squares_is_off_by_its_step():
    problem, start = positive(4, 9, 2, condition=2.0), np.full(9, 0.3)
    limit = bregman_projection(problem, Entropy(), start).x
    paths = [square_descent(problem, start, step) for step in (0.1, 0.05, 0.025, 0.0125)]
    assert all(path.stopped == "converged" for path in paths)
    ends = [path.x for path in paths]
    gaps = [relative_error(end, limit) for end in ends]
    np.testing.assert_allclose(np.log2(np.array(gaps[:-1]) / gaps[1:]), 1, atol=0.1)
    # Richardson: 2 u(eta/2) - u(eta) is off by the square of the step.
    better = [2 * b - a for a, b in pairwise(ends)]
    finer = [relative_error(point, limit) for point in better]
    np.testing.assert_allclose(np.log2(np.array(finer[:-1]) / finer[1:]), 2, atol=0.3)
    assert finer[-1] <= gaps[-1] / 20
    # Exponentiated gradient, with much larger steps, is not off at all.
    assert relative_error(mirror_descent(problem, Entropy(), start, step=0.32).x, limit) <= 1e-9


def test_square_descent_is_descent_on_w():
    problem, start = positive(3, 7, 5), np.random.default_rng(0).uniform(0.1, 1, 7)
    w = torch.from_numpy(np.sqrt(start)).requires_grad_()
    points = [w.detach() ** 2]
    for _ in range(30):
        loss = (problem.X @ w**2 - problem.y).square().sum() / 2
        (gradient,) = torch.autograd.grad(loss, w)
        w = (w - 0.05 * gradient).detach().requires_grad_()
        points.append(w.detach() ** 2)
    path = square_descent(problem, start, 0.05, steps=30, tol=0, every=1)
    torch.testing.assert_close(path.points, torch.stack(points), rtol=1e-12, atol=0)
    flow = [
        float((square_descent(problem, start, 1.0 / k, steps=k, tol=0).x
               - square_flow(problem, start, times=[1.0]).x).norm())
        for k in (200, 400, 800)
    ]  # fmt: skip
    np.testing.assert_allclose(np.log2(np.array(flow[:-1]) / flow[1:]), 1, atol=0.05)


# ---- what is refused


SMALL = Regression([[1.0, 2.0]], [3.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mirror_descent(SMALL, Entropy(), None), ValueError, "positive points, and start"),
        (lambda: mirror_descent(SMALL, "l2", None), TypeError, "has no mirror.*Pass Squared"),
        (lambda: mirror_descent(Classification([[1.0]], [1]), Entropy(), [1.0]), TypeError,
         "got Classification.*Build a Regression"),
        (lambda: mirror_descent(SMALL, Entropy(), [1, 1], step=0), ValueError, "not a positive"),
        (lambda: mirror_descent(SMALL, Entropy(), [1, 1], steps=0), ValueError, "steps = 0"),
        (lambda: mirror_descent(SMALL, Entropy(), [1, 1], tol=-1), ValueError, "tol >= 0"),
        (lambda: mirror_descent(SMALL, Entropy(), [1, 1], every=0), ValueError, "every = 0"),
        (lambda: mirror_descent(SMALL, SquaredNorm(), None, step=0.4), StepTooLarge,
         r"step = 0.4 is not below 2/beta = 0.4"),
        (lambda: mirror_descent(SMALL, Entropy(), [1, 2], step=1.0), StepTooLarge,
         "loss (rose|goes up).*too large here.*smaller"),
        (lambda: mirror_descent(SMALL, PNorm(3), [1, 2], step=1e5), StepTooLarge, "loss rose"),
        (lambda: mirror_flow(SMALL, Entropy(), [1, 1], [2.0, 1.0]), ValueError, "increasing"),
        (lambda: mirror_flow(SMALL, Entropy(), [1, 1], [-1.0]), ValueError, "non-negative"),
        (lambda: mirror_flow(SMALL, Entropy(), [1, 1], []), ValueError, "non-negative"),
        (lambda: mirror_flow(SMALL, Entropy(), [1, 1], rtol=1.0), ValueError, "rtol = 1.0"),
        (lambda: mirror_flow(Regression([[0.0]], [1.0]), Entropy(), [1]), ValueError, "X is zero"),
        (lambda: square_flow(SMALL, [1, 1], factor=0), ValueError, "factor = 0.*Pass 4"),
        (lambda: square_flow(SMALL, [1, 0]), ValueError, "positive points"),
        (lambda: square_descent(SMALL, [1, 2], 1.0), StepTooLarge, "loss rose"),
        (lambda: square_descent(SMALL, [1, 1], -1.0), ValueError, "not a positive number"),
        (lambda: square_descent(SMALL, [1, -1], 0.1), ValueError, "positive points"),
    ],
)  # fmt: skip
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_step_that_only_oscillates_is_told():
    """With 2/eta between the curvature and the blow-up the loss goes round without end."""
    with pytest.raises(StepTooLarge, match=r"rose|goes up and down without end.*would be safe"):
        mirror_descent(Regression([[1.0]], [1.0]), Entropy(), [1.1], step=2.1, steps=1000)


@pytest.mark.parametrize("loss", ["square", "logcosh"])
@pytest.mark.parametrize(
    "potential", [SquaredNorm(), Entropy(), Quadratic(np.diag(np.arange(1.0, 10.0))), PNorm(3)]
)
def test_mirror_images_of_the_textbook_iteration_stay_in_the_row_space(potential, loss):
    """Gradients by automatic differentiation and a fresh mirror at every step.

    The library keeps multipliers, so its own iterates could not leave the space if they tried.
    The control takes the gradient step at the point and not at its image.
    """
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.standard_normal((4, 9)) / 2)
    y = X @ torch.from_numpy(rng.uniform(0.2, 1.5, 9))
    start = torch.from_numpy(rng.uniform(0.3, 1.2, 9))
    rows = torch.linalg.qr(X.T).Q

    def slope(w):
        w = w.clone().requires_grad_()
        misfit = X @ w - y
        total = (misfit**2 / 2 if loss == "square" else misfit.cosh().log()).sum()
        return torch.autograd.grad(total, w)[0]

    w, images = start, []
    for _ in range(200):
        w = potential.inverse_mirror(potential.mirror(w) - 0.03 * slope(w))
        images.append(potential.mirror(w) - potential.mirror(start))
    # Rounding of 200 images of size one, on movements that begin at the size of one step.
    assert outside_span(torch.stack(images), rows) <= 1e-12
    if isinstance(potential, (Entropy, PNorm)):
        w, images = start, []
        for _ in range(200):
            w = w - 0.03 * potential.inverse_hessian(w) @ slope(w)
            images.append(potential.mirror(w) - potential.mirror(start))
        assert outside_span(torch.stack(images), rows) > 1e-3


@pytest.mark.parametrize("seed", [9, 18])
def test_starts_near_the_smallest_number_give_finite_points_or_say_so(seed):
    """From 1e-200 a step of the integrator can overshoot by hundreds of powers of ten."""
    rng = np.random.default_rng(seed)
    n, d = rng.integers(2, 5), rng.integers(3, 8)
    X = rng.standard_normal((n, d))
    problem = Regression(X, X @ np.maximum(rng.standard_normal(d), 0))
    times = np.linspace(0, 600 * np.log(10), 7)

    def honest():
        try:
            points = square_flow(problem, np.full(d, 1e-200), times=times).points
        except RuntimeError as error:
            return "gave up: a step overshot so far" in str(error)
        return bool(points.isfinite().all())

    assert honest()
