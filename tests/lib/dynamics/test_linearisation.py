"""The flow of a loss, and that of its linearisation: where they agree and where they do not."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import Regression, gradient_flow
from implicit_bias.dynamics import linearisation
from implicit_bias.dynamics.linearisation import expand, linearised_flow, loss_flow
from implicit_bias.limits.rest_point import rest_point
from implicit_bias.models.dense import DenseNetwork

DECAY = 0.1


def tanh_net(seed=0, widths=(2, 3, 1), n=12):
    rng = np.random.default_rng([seed, 7])
    net = DenseNetwork(widths, "tanh", bias=bool(seed % 2))
    X = torch.from_numpy(rng.standard_normal((n, widths[0])))
    y = torch.from_numpy(rng.standard_normal((n, widths[-1])))

    def loss(w):
        return 0.5 * (net(w, X) - y).square().sum() + DECAY / 2 * w.square().sum()

    return loss, net.initial(seed), torch.from_numpy(rng.standard_normal(net.size))


def quartic(w):
    return w[0] ** 2 / 2 + w[1] ** 4 / 4


@pytest.mark.parametrize("size", [(4, 7), (8, 5), (3, 3), (1, 4)])
def test_least_squares_is_its_own_linearisation(size):
    rng = np.random.default_rng(size)
    X, y = (
        torch.from_numpy(rng.standard_normal(size)),
        torch.from_numpy(rng.standard_normal(size[0])),
    )
    w0 = torch.from_numpy(rng.standard_normal(size[1]))
    times = [0.0, 0.01, 0.3, 2.0, 50.0, 1e4]

    def loss(w):
        return 0.5 * (X @ w - y).square().sum()

    exact = gradient_flow(Regression(X, y), times, w0)
    rest = rest_point(loss, w0).x
    found = linearised_flow(loss, rest, w0, times)
    # Two decompositions, of X and of X^T X: eps times its condition, below 100 here.
    torch.testing.assert_close(found.points, exact.points, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.losses, exact.losses, rtol=1e-9, atol=1e-12)
    assert found.stopped == "exact"
    assert torch.equal(found.points[0], w0)
    flow = loss_flow(loss, w0, times)
    # rtol = 1e-10 a step, and the flow contracts.
    torch.testing.assert_close(flow.points, exact.points, rtol=0, atol=1e-8)
    assert torch.equal(flow.points[0], w0)
    assert flow.stopped == "reached"
    assert flow.losses[0] == loss(w0)


def test_the_null_space_does_not_move_at_infinity():
    X = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)

    def loss(w):
        return 0.5 * (X @ w - 4).square().sum()

    rest = torch.linalg.pinv(X)[:, 0] * 4
    end = linearised_flow(loss, rest, start, [math.inf]).x
    exact = gradient_flow(Regression(X, [4.0]), [math.inf], start).x
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-14)


def test_a_quartic_direction_moves_and_its_linearisation_does_not():
    """E-P18-locally-quadratic: x e^-t and y / sqrt(1 + 2 y^2 t); the linearisation keeps y."""
    times = np.array([0.0, 1.0, 10.0, 1e3, 1e6])
    flow = loss_flow(quartic, [0.5, 0.8], times, rtol=1e-12)
    np.testing.assert_allclose(flow.points[:, 1], 0.8 / np.sqrt(1 + 1.28 * times), rtol=1e-8)
    np.testing.assert_allclose(flow.points[:, 0], 0.5 * np.exp(-times), atol=1e-10)
    linear = linearised_flow(quartic, [0, 0], [0.5, 0.8], times)
    np.testing.assert_allclose(linear.points[:, 0], 0.5 * np.exp(-times), atol=1e-15)
    assert (linear.points[:, 1] == 0.8).all()
    # The distance is not small beside the displacement, however small that is.
    for s in (1e-1, 1e-2):
        late = [0.0, 1e4 / s**2]
        gap = loss_flow(quartic, [s, s], late).x - linearised_flow(quartic, [0, 0], [s, s], late).x
        assert float(gap.norm()) > 0.99 * s


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_decay_the_flows_part_by_the_square_of_the_displacement(seed):
    loss, start, v = tanh_net(seed)
    rest = rest_point(loss, start)
    values, vectors = torch.linalg.eigh(expand(loss, rest.x)[3])
    assert rest.status == "isolated"
    assert values[0] > 0.5 * DECAY
    times = np.concatenate([[0.0], np.geomspace(1e-2, 12 / float(values[0]), 30)])
    relative = []
    for s in (1e-2, 1e-3):
        begin = rest.x + s * v / v.norm()
        true = loss_flow(loss, begin, times, rtol=1e-12).points
        linear = linearised_flow(loss, rest.x, begin, times).points
        gaps = (true - linear).norm(dim=1)
        relative.append(float(gaps.max()) / s)
        # Also beside what is left of the displacement, until that is the integrator's error.
        left = (linear - rest.x).norm(dim=1)
        assert bool((gaps <= s * left)[left > 1e-4 * s].all())
    # Slope 1; the next order changes it by a few times s.
    assert math.log10(relative[0] / relative[1]) == pytest.approx(1, abs=0.02)
    # What is left lies along the slowest direction, up to the ratio of the two slowest.
    end = linear[-1] - rest.x
    other = math.exp(-float(values[1] - values[0]) * times[-1])
    shares = (vectors.T @ (v / v.norm())).abs()
    bound = other * float(shares[1:].norm()) / float(shares[0])
    assert float((vectors[:, 1:].T @ end).norm() / end.norm()) <= 1.01 * bound + 1e-6


def test_at_a_saddle_one_direction_escapes():
    """Eigenvalues 3 and -1: a positive sum, and a direction that grows (E-P18-eigenvalue-sum)."""

    def loss(w):
        return 1.5 * w[0] ** 2 - 0.5 * w[1] ** 2

    path = linearised_flow(loss, [0, 0], [1.0, 1e-3], [0.0, 10.0])
    np.testing.assert_allclose(path.x, [math.exp(-30), 1e-3 * math.exp(10)], rtol=1e-13)
    assert linearised_flow(loss, [0, 0], [1.0, 0.0], [math.inf]).x.tolist() == [0, 0]
    with pytest.raises(ArithmeticError, match="eigenvalue -1 < 0"):
        linearised_flow(loss, [0, 0], [1.0, 1e-3], [1e4])


def test_refuses_what_is_no_rest_point():
    with pytest.raises(ValueError, match="not a rest point"):
        linearised_flow(quartic, [1e-3, 0.0], [1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="not a rest point"):
        linearised_flow(lambda w: w.sum(), [0.0], [1.0], [1.0])
    # The same point in other units is refused, and accepted, alike.
    for unit in (1e-8, 1e8):
        with pytest.raises(ValueError, match="not a rest point"):
            linearised_flow(lambda w, u=unit: (w[0] / u - 1) ** 2, [1.0001 * unit], [0.0], [1.0])
        linearised_flow(lambda w, u=unit: (w[0] / u - 1) ** 2, [unit * (1 + 1e-10)], [0.0], [1.0])


def test_follows_stiff_flows_and_large_models(monkeypatch):
    def loss(w):
        return 0.5 * (1e5 * w[0] ** 2 + 1e-5 * w[1] ** 2)

    for dense in (1000, 1):
        monkeypatch.setattr(linearisation, "_DENSE", dense)
        path = loss_flow(loss, [1.0, 1.0], [1e-5, 1e5])
        np.testing.assert_allclose(path.points[:, 0], [math.exp(-1), 0], atol=1e-8)
        np.testing.assert_allclose(path.points[:, 1], [1, math.exp(-1)], rtol=1e-8)
    assert loss_flow(loss, [1.0, 1.0], [0.0]).points.tolist() == [[1, 1]]
    assert loss_flow(lambda w: torch.tensor(1.0), [2.0], [5.0]).points.tolist() == [[2]]


def test_losses_without_an_end_are_errors(monkeypatch):
    # sqrt(w) comes to 0 at time 4/3, and has no gradient there.
    with pytest.raises(ArithmeticError, match=r"not finite where the flow comes at time 1\.33"):
        loss_flow(lambda w: w[0].sqrt(), [1.0], [0.0, 2.0])
    monkeypatch.setattr(linearisation, "_BUDGET", 200)
    with pytest.raises(ArithmeticError, match="After 200 gradients"):
        loss_flow(lambda w: w.abs().sum(), [1.0, 0.3], [0.0, 2.0])


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: loss_flow(quartic, [[1.0]], [1.0]), ValueError, "one vector"),
        (lambda: loss_flow(quartic, [1.0, math.nan], [1.0]), ValueError, "NaN"),
        (lambda: loss_flow(3, [1.0], [1.0]), TypeError, "cannot be called"),
        (lambda: loss_flow(lambda w: w, [1.0, 1.0], [1.0]), ValueError, "one number"),
        (lambda: loss_flow(lambda w: 3.0, [1.0], [1.0]), ValueError, "float, not a tensor"),
        (lambda: loss_flow(quartic, [1.0, 1.0], []), ValueError, "increase"),
        (lambda: loss_flow(quartic, [1.0, 1.0], [2.0, 1.0]), ValueError, "increase"),
        (lambda: loss_flow(quartic, [1.0, 1.0], [-1.0]), ValueError, "increase"),
        (lambda: loss_flow(quartic, [1.0, 1.0], [math.inf]), ValueError, "infinite"),
        (lambda: loss_flow(quartic, [1.0, 1.0], [1.0], 0.0), ValueError, "rtol"),
        (lambda: loss_flow(lambda w: w.log().sum(), [0.0], [1.0]), ValueError, "no flow begins"),
        (lambda: linearised_flow(quartic, [0, 0], [1.0], [1.0]), ValueError, "one model"),
        (lambda: linearised_flow(quartic, [0, 0], [1, 1], [math.nan]), ValueError, "increase"),
        (lambda: expand(lambda w: w.sum(), torch.ones(5001)), ValueError, "too large"),
        (lambda: expand(lambda w: w.log().sum(), [0.0]), ValueError, "nothing to expand"),
        (lambda: expand(lambda w: w.norm(), [0.0, 0.0]), ValueError, "nothing to expand"),
    ],
)
def test_says_what_is_wrong(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
