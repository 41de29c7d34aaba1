"""Two linear layers: formulas against automatic differentiation, and what the dynamics keep."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import (
    two_layer_descent,
    two_layer_flow,
    two_layer_gradient,
    two_layer_hessian,
    two_layer_loss,
)
from implicit_bias.models.dense import DenseNetwork
from implicit_bias.records import StepTooLarge

SIZES = [(5, 3, 4, 2), (3, 6, 2, 1), (4, 4, 1, 3), (2, 3, 5, 5)]  # n, d, h, d'


def draw(n, d, h, k, seed=0, scale=0.5):
    rng = np.random.default_rng([seed, n, d, h, k])
    X, Y = rng.standard_normal((n, d)), rng.standard_normal((n, k))
    return X, Y, scale * rng.standard_normal((h, d)), scale * rng.standard_normal((k, h))


def autograd(X, Y, d, h, k, decay):
    network = DenseNetwork((d, h, k), "linear", bias=False)

    def loss(theta):
        fit = (network(theta, torch.from_numpy(X)) - torch.from_numpy(Y)).square().sum()
        return 0.5 * fit + 0.5 * decay * theta.square().sum()

    return loss


def joined(W1, W2):
    return torch.cat([torch.as_tensor(W).reshape(-1) for W in (W1, W2)])


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("size", SIZES)
def test_gradient_and_hessian_are_those_of_autograd(size, decay):
    X, Y, W1, W2 = draw(*size)
    loss, theta = autograd(X, Y, *size[1:], decay), joined(W1, W2)
    assert two_layer_loss(X, Y, W1, W2, decay) == pytest.approx(float(loss(theta)), rel=1e-14)
    found = joined(*two_layer_gradient(X, Y, W1, W2, decay))
    torch.testing.assert_close(found, torch.func.grad(loss)(theta), rtol=1e-13, atol=1e-13)
    H = two_layer_hessian(X, Y, W1, W2, decay)
    expected = torch.autograd.functional.hessian(loss, theta)
    torch.testing.assert_close(H, expected, rtol=1e-13, atol=1e-12)


def test_block_of_the_second_layer_is_a_kronecker_product_with_the_identity():
    X, Y, W1, W2 = draw(5, 3, 4, 2)
    block = two_layer_hessian(X, Y, W1, W2)[12:, 12:]
    np.testing.assert_allclose(block, np.kron(np.eye(2), W1 @ X.T @ X @ W1.T), atol=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("size", SIZES)
def test_descent_takes_the_steps_of_autograd(size, decay):
    X, Y, W1, W2 = draw(*size)
    loss, theta = autograd(X, Y, *size[1:], decay), joined(W1, W2)
    path = two_layer_descent(X, Y, W1, W2, 0.01, 50, decay, tol=0, every=10)
    assert path.times.tolist() == pytest.approx([0.01 * t for t in range(0, 51, 10)])
    for t in range(51):
        if t % 10 == 0:
            torch.testing.assert_close(path.points[t // 10], theta, rtol=1e-12, atol=1e-13)
            assert float(path.losses[t // 10]) == pytest.approx(float(loss(theta)), rel=1e-11)
        theta = theta - 0.01 * torch.func.grad(loss)(theta)


def test_batches_take_the_steps_of_their_examples():
    """One batch of an epoch is the full gradient; two halves in one order are two steps."""
    X, Y, W1, W2 = draw(4, 3, 2, 2)
    whole = two_layer_descent(X, Y, W1, W2, 0.02, 30, 0.1, batch=4, tol=0)
    torch.testing.assert_close(
        whole.points, two_layer_descent(X, Y, W1, W2, 0.02, 30, 0.1, tol=0).points
    )
    one = two_layer_descent(X, Y, W1, W2, 0.02, 1, 0.1, batch=2, seed=5)
    which = np.random.default_rng(5).permutation(4)[:2]
    gradient = joined(*two_layer_gradient(X[which], Y[which], W1, W2, 0.05))
    torch.testing.assert_close(one.x, joined(W1, W2) - 0.02 * gradient, rtol=1e-13, atol=1e-14)
    assert one.stopped == "budget"


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_adds_nothing_outside_the_span_of_the_examples(batch):
    X, Y, W1, W2 = draw(4, 9, 5, 3)
    path = two_layer_descent(X, Y, W1, W2, 0.01, 2000, batch=batch, tol=0)
    outside = np.eye(9) - np.linalg.pinv(X) @ X
    rows = path.points[:, :45].reshape(-1, 5, 9).numpy()
    # 2,000 steps of rounding.
    assert np.abs((rows - W1) @ outside).max() < 1e-12
    decayed = two_layer_descent(X, Y, W1, W2, 0.01, 2000, 0.1, tol=0)
    W = decayed.points[-1, :45].reshape(5, 9).numpy()
    np.testing.assert_allclose(W @ outside, 0.999**2000 * W1 @ outside, atol=1e-12)


def test_ends_at_the_minimum_norm_solution_from_the_row_space():
    X, Y, W1, W2 = draw(4, 9, 6, 2, scale=0.6)
    W1 = W1 @ np.linalg.pinv(X) @ X
    path = two_layer_descent(X, Y, W1, W2, 0.02, 20_000)
    assert path.stopped == "converged"
    (A, _), (B, _) = DenseNetwork((9, 6, 2), "linear", bias=False).split(path.x)
    np.testing.assert_allclose(B @ A, (np.linalg.pinv(X) @ Y).T, atol=1e-10)


@pytest.mark.parametrize(
    ("rank", "size"), [(3, (20, 5, 6, 3)), (2, (6, 9, 5, 2)), (1, (7, 3, 1, 1))]
)
def test_stationary_in_the_first_layer_is_global_where_the_second_has_full_rank(rank, size):
    """And where it has less, the loss is above the minimum by what W2 cannot reach."""
    X, Y, R1, R2 = draw(*size)
    d, h, k = size[1:]
    fitted = X @ np.linalg.pinv(X) @ Y
    floor = 0.5 * np.square(fitted - Y).sum()
    for lower in range(rank + 1):
        W2 = R2[:, :lower] @ R2[:lower] if lower < k else R2
        assert np.linalg.matrix_rank(W2) == lower
        back = np.linalg.pinv(W2)
        # The least-squares solution, and all that moves no output beside it.
        W1 = back @ (np.linalg.pinv(X) @ Y).T
        W1 = W1 + (np.eye(h) - back @ W2) @ R1 + R1 @ (np.eye(d) - np.linalg.pinv(X) @ X)
        assert float(two_layer_gradient(X, Y, W1, W2)[0].abs().max()) < 1e-12
        missed = 0.5 * np.square(fitted @ (np.eye(k) - W2 @ back)).sum()
        assert two_layer_loss(X, Y, W1, W2) == pytest.approx(floor + missed, rel=1e-12, abs=1e-12)
        assert (missed < 1e-20) == (lower == k)


def test_one_column_in_the_second_layer_is_a_trap_of_rank_one():
    """W2 is not zero and W1 has no component outside the span, yet the end is a saddle."""
    X, Y, R1, R2 = draw(4, 9, 6, 2, scale=0.6)
    W1, W2 = np.zeros((6, 9)), np.zeros((2, 6))
    W2[:, 0] = R2[:, 0]
    path = two_layer_descent(X, Y, W1, W2, 0.02, 20_000)
    assert path.stopped == "converged"
    A, B = path.x[:54].reshape(6, 9), path.x[54:].reshape(2, 6)
    assert not A[1:].any()
    assert not B[:, 1:].any()
    assert float(joined(*two_layer_gradient(X, Y, A, B)).abs().max()) < 1e-9
    U, s, Vt = np.linalg.svd(Y, full_matrices=False)
    best = s[0] * np.outer(U[:, 0], Vt[0])
    np.testing.assert_allclose(X @ (B @ A).T.numpy(), best, atol=1e-9)
    assert float(path.losses[-1]) == pytest.approx(0.5 * s[1] ** 2, rel=1e-10)
    # A residual s_2 that meets the null units: curvature of that order downwards.
    assert float(torch.linalg.eigvalsh(two_layer_hessian(X, Y, A, B))[0]) < -0.1
    push = 1e-6 * R1 @ np.linalg.pinv(X) @ X
    free = two_layer_descent(X, Y, push, W2, 0.02, 20_000)
    A, B = free.x[:54].reshape(6, 9), free.x[54:].reshape(2, 6)
    np.testing.assert_allclose(B @ A, (np.linalg.pinv(X) @ Y).T, atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_flow_is_the_limit_of_small_steps(decay):
    X, Y, W1, W2 = draw(5, 3, 4, 2)
    flow = two_layer_flow(X, Y, W1, W2, [0.0, 0.5, 2.0], decay)
    assert torch.equal(flow.points[0], joined(W1, W2))
    gaps = []
    for steps in (1000, 2000):
        end = two_layer_descent(X, Y, W1, W2, 2 / steps, steps, decay, tol=0).x
        gaps.append(2 * end - flow.x if not gaps else end - flow.x)
    first = gaps[0] - flow.x  # 2 * end - 2 * flow
    # Euler's error halves with the step; the extrapolation is nearer by far.
    extrapolated = 2 * gaps[1] - first / 2
    assert float(gaps[1].abs().max()) < 5e-3
    assert float(extrapolated.abs().max()) < 0.02 * float(gaps[1].abs().max())


def test_flow_keeps_what_is_conserved():
    """W1 W1^T - W2^T W2 stays; with decay it shrinks like exp(-2 decay t)."""
    X, Y, W1, W2 = draw(5, 3, 4, 2)
    times = [0.0, 0.3, 1.0, 10.0]
    for decay in (0.0, 0.2):
        path = two_layer_flow(X, Y, W1, W2, times, decay)
        for t, w in zip(times, path.points.numpy(), strict=True):
            A, B = w[:12].reshape(4, 3), w[12:].reshape(2, 4)
            expected = math.exp(-2 * decay * t) * (W1 @ W1.T - W2.T @ W2)
            np.testing.assert_allclose(A @ A.T - B.T @ B, expected, atol=1e-7)


@pytest.mark.parametrize("size", [1e-2, 1e-6, 1e-12, 1e-290])
def test_flow_escapes_from_near_the_saddle_on_time(size):
    """For W1 = W2 = u and x = y = 1, w = u^2 has w' = 2 w (1 - w): the logistic curve."""
    times = [-math.log(size), 20 - math.log(size)]
    path = two_layer_flow([[1.0]], [1.0], [[size]], [[size]], times)
    w0 = size**2
    expected = [1 / (1 + (1 - w0) * math.exp(-2 * (t + math.log(size)))) for t in times]
    # Errors of 1e-10 a step, a thousand steps or so.
    np.testing.assert_allclose(path.points.prod(1), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e-9])
def test_flow_from_small_weights_ends_at_the_minimum_norm_solution(scale):
    """Where the saddle was left, weights are of order 1, and so is the rounding of their laws."""
    X, Y, W1, W2 = draw(4, 9, 6, 2)
    path = two_layer_flow(X, Y, scale * W1, scale * W2, [1.0, 1000.0])
    (A, _), (B, _) = DenseNetwork((9, 6, 2), "linear", bias=False).split(path.x)
    # What starts outside the span of the examples stays: of order scale^(1 + 1).
    np.testing.assert_allclose(B @ A, (np.linalg.pinv(X) @ Y).T, atol=10 * scale + 1e-7)


def test_flow_that_the_integrator_lost_is_refused(monkeypatch):
    X, Y, W1, W2 = draw(5, 3, 4, 2)
    import scipy.integrate

    true = scipy.integrate.solve_ivp

    def lost(change):
        def solve(*args, **options):
            run = true(*args, **options)
            run.y = change(run.y)
            return run

        monkeypatch.setattr(scipy.integrate, "solve_ivp", solve)

    lost(lambda y: y * 1.01)
    with pytest.raises(ArithmeticError, match=r"W1 W1\^T - W2\^T W2 is off"):
        two_layer_flow(X, Y, W1, W2, [1.0])
    lost(lambda y: -y[:, ::-1])  # backwards: balanced as it should be, without decay
    with pytest.raises(ArithmeticError, match="the loss rose"):
        two_layer_flow(X, Y, W1, W2, [0.5, 1.0, 2.0])
    lost(lambda y: y * math.nan)
    with pytest.raises(ArithmeticError, match="lost the flow"):
        two_layer_flow(X, Y, W1, W2, [1.0])
    monkeypatch.undo()
    # Weights of 1e-25 and 1e-50 from weights of 1: beyond the integrator.
    with pytest.raises(ArithmeticError, match="scale the data"):
        two_layer_flow([[1e50]], [1.0], [[1.0]], [[1.0]], [1.0])
    with pytest.raises(ArithmeticError, match="Scale the data"):
        two_layer_flow([[1e100]], [1.0], [[1.0]], [[1.0]], [1.0])


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-6])
def test_descent_from_near_the_saddle_converges(size):
    path = two_layer_descent([[1.0]], [1.0], [[size]], [[size]], 0.1)
    assert path.stopped == "converged"
    assert path.steps < 1000
    assert float(path.losses[-1]) < 1e-23


def test_one_output_may_be_a_vector():
    X, Y, W1, W2 = draw(3, 6, 2, 1)
    path = two_layer_flow(X, Y[:, 0], W1, W2, [1.0])
    torch.testing.assert_close(path.x, two_layer_flow(X, Y, W1, W2, [1.0]).x)
    assert torch.equal(two_layer_flow(X, Y, W1, W2, [0.0]).x, joined(W1, W2))


def test_too_large_a_step_is_an_error():
    X, Y, W1, W2 = draw(5, 3, 4, 2)
    with pytest.raises(StepTooLarge, match="The loss rose"):
        two_layer_descent(X, Y, W1, W2, 10.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: two_layer_loss(a[0], a[1], a[3], a[2]), "Examples are rows"),
        (lambda a: two_layer_gradient(*a, decay=-1.0), "negative"),
        (lambda a: two_layer_gradient(*a, decay=[1.0, 2.0]), "not one number"),
        (lambda a: two_layer_descent(1e200 * a[0], *a[1:], step=0.1), "overflows"),
        (lambda a: two_layer_flow(1e155 * a[0], *a[1:], [1.0]), "overflows"),
        (lambda a: two_layer_hessian(a[0] * math.nan, *a[1:]), "NaN"),
        (lambda a: two_layer_descent(*a, step=0.0), "step = 0.0"),
        (lambda a: two_layer_descent(*a, step=0.1, steps=0), "too small"),
        (lambda a: two_layer_descent(*a, step=0.1, batch=6), "more than the 5"),
        (lambda a: two_layer_descent(*a, step=0.1, tol=-1.0), "tol = -1"),
        (lambda a: two_layer_flow(*a, [1.0, 0.5]), "must increase"),
        (lambda a: two_layer_flow(*a, []), "must increase"),
        (lambda a: two_layer_flow(*a, [math.inf]), "infinite"),
        (lambda a: two_layer_flow(*a, [1.0], rtol=0.5), "rtol = 0.5"),
    ],
)
def test_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call(draw(5, 3, 4, 2))
