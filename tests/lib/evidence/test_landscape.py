"""Zero eigenvalues and ranks: counted on many networks, known cases, Lanczos against dense."""

import itertools
import math

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.least_squares import reach_zero
from implicit_bias.evidence.landscape import hessian_spectrum, jacobian_rank
from implicit_bias.models.activations import fit_polynomial
from implicit_bias.models.dense import DenseNetwork

# A gap of 1e8 in the Hessian asks for a condition number of J below 1/sqrt(1e8 eps) = 6,700, so
# the networks are wide enough where p is above n d', and small and planted where it is below.
ABOVE = [(4, 12, 2), (5, 16, 1), (4, 10, 10, 2), (5, 8, 8, 3)]
BELOW = [(4, 8, 2), (5, 5, 1), (4, 4, 3, 2), (5, 3, 4, 3)]
DEEP_SQUARES = [(4, 8, 2), (5, 9, 1), (3, 3, 2, 2), (4, 2, 2, 3)]
AWAKE = {(3, 8, 2): 1, (4, 5, 1): 1, (2, 3, 5, 2): 2}  # seeds
ACTIVATIONS = ["relu", "tanh", "linear", "square"]


def zero(activation, widths, above, seed):
    """A network, data, and a zero of its loss, reached by Levenberg-Marquardt."""
    network = DenseNetwork(widths, activation)
    n = 6 if above else 3 * network.size // widths[-1]
    rng = np.random.default_rng([seed, network.size])
    X = torch.from_numpy(rng.standard_normal((n, widths[0])))
    scale = {"square": 0.7, "tanh": 1.5}.get(activation, 1.0)
    teacher = network.initial(seed=100 + seed, scale=scale, bias_scale=0.5)
    y = network(teacher, X)
    if above:
        start = network.initial(seed=seed, scale=scale, bias_scale=0.5)
        # A random start may lose its last awake units, and with them the gradient.
        start = (teacher + 0.5 * start) if activation == "relu" else start
    else:
        start = teacher + 0.002 * torch.from_numpy(rng.standard_normal(network.size))
    path = reach_zero(network, start, X, y, target=1e-28)
    return network, X, y, path


def half_squares(network, X, y):
    return lambda theta: 0.5 * (network(theta, X) - y).square().sum()


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_zeros_of_the_hessian_are_parameters_less_rank(activation, above):
    """64 networks in all: one and two hidden layers, p above and below n d'."""
    below = DEEP_SQUARES if activation == "square" else BELOW
    for widths, seed in itertools.product(ABOVE if above else below, range(2)):
        network, X, y, path = zero(activation, widths, above, seed)
        assert float(path.losses[-1]) < 1e-24, (widths, seed, path.stopped)
        assert (network.size > y.numel()) == above
        spectrum = hessian_spectrum(half_squares(network, X, y), path.x)
        rank = jacobian_rank(network, X, path.x)
        assert spectrum.zeros == network.size - rank.rank, (widths, seed)
        assert spectrum.negative == 0
        assert min(spectrum.gap, rank.gap) >= 1e8, (widths, seed)
        assert spectrum.residual < 1e-13
        # The two null spaces are one.
        N, M = spectrum.null_space, rank.null_space
        assert N.shape == M.shape
        assert float((N - M @ (M.T @ N)).abs().max() if N.numel() else 0.0) < 1e-6
        _known(activation, widths, above, y.numel(), spectrum.zeros, rank.rank)


def _known(activation, widths, above, outputs, zeros, rank):
    if activation == "linear":
        # A function x -> A x + b: as many numbers as that has, or as the data determine.
        assert rank == min(widths[0] + 1, outputs // widths[-1]) * widths[-1]
    elif above:
        assert rank == outputs
    elif activation == "tanh":
        assert zeros == 0
    elif activation == "relu":
        # One for each hidden unit, from its rescaling; a unit that no example wakes has more.
        assert zeros >= sum(widths[1:-1])


@pytest.mark.parametrize("widths", [(3, 8, 2), (4, 5, 1), (2, 3, 5, 2)])
def test_relu_has_one_zero_for_each_hidden_unit(widths):
    """All units awake, more equations than unknowns."""
    network = DenseNetwork(widths, "relu")
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((600, widths[0])))
    theta = network.initial(seed=AWAKE[widths], bias_scale=0.5)
    assert all(bool((z > 0).any(0).all()) for z in network.hidden(theta, X))
    found = jacobian_rank(network, X, theta)
    assert network.size - found.rank == sum(widths[1:-1])
    spectrum = hessian_spectrum(half_squares(network, X, network(theta, X)), theta)
    assert (spectrum.zeros, spectrum.negative) == (sum(widths[1:-1]), 0)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("d", "h", "k"), [(5, 4, 3), (4, 6, 4), (7, 3, 5)])
def test_linear_networks_have_p_less_r_times_d_plus_k_less_r(d, h, k, rank):
    """Both factors of rank r, at a minimum with the product as target."""
    rng = np.random.default_rng([d, h, k, rank])

    def low(m, n):
        return rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))

    network = DenseNetwork((d, h, k), "linear", bias=False)
    theta = network.join([low(h, d), low(k, h)])
    X = torch.from_numpy(rng.standard_normal((20, d)))
    spectrum = hessian_spectrum(half_squares(network, X, network(theta, X)), theta)
    assert spectrum.zeros == network.size - rank * (d + k - rank)
    assert spectrum.gap > 1e8


def test_where_the_loss_is_not_zero_there_are_negative_eigenvalues():
    network, X, y, path = zero("tanh", (5, 16, 1), True, 0)
    away = path.points[0]
    spectrum = hessian_spectrum(half_squares(network, X, y), away)
    assert spectrum.loss > 0.01
    assert spectrum.gradient > 0.01
    assert spectrum.negative > 0
    # The null space of J is no longer that of the Hessian.
    assert spectrum.zeros < network.size - jacobian_rank(network, X, away).rank


# ---- exactness


@pytest.mark.parametrize("activation", [*ACTIVATIONS, fit_polynomial(6, 3.0)], ids=str)
def test_eigenvalues_are_those_of_torch_s_own_hessian(activation):
    network = DenseNetwork((3, 4, 3, 1), activation)
    X = torch.from_numpy(np.random.default_rng(1).standard_normal((9, 3)))
    theta = network.initial(seed=2, scale=0.7, bias_scale=0.3)
    loss = half_squares(network, X, torch.ones(9, 1).double())
    spectrum = hessian_spectrum(loss, theta)
    H = torch.autograd.functional.hessian(loss, theta)
    expected = np.linalg.eigvalsh(H)
    np.testing.assert_allclose(spectrum.values, expected, atol=1e-12 * np.abs(expected).max())
    assert spectrum.loss == float(loss(theta))
    assert spectrum.gradient == pytest.approx(float(torch.func.grad(loss)(theta).norm()))


def test_parameters_in_any_form_and_precision():
    def loss(parts):
        return (parts["a"] ** 2).sum() + 3 * parts["b"] ** 2

    given = {"a": torch.ones(2), "b": torch.ones(())}
    spectrum = hessian_spectrum(loss, given)
    assert spectrum.values.tolist() == [2.0, 2.0, 6.0]
    assert (spectrum.values.dtype, spectrum.zeros) == (torch.float64, 0)
    # In float32 the gap cannot exceed what float32 can tell apart.
    flat = hessian_spectrum(lambda w: (w[0] + w[1]) ** 2, torch.ones(2))
    assert flat.zeros == 1
    assert flat.gap <= 1.01 * 2**23
    module = torch.nn.Linear(3, 2).double()
    assert jacobian_rank(module, np.eye(3)[:2]).rank == 4


def test_cutoff_may_be_given():
    values = torch.tensor([1.0, 1e-3, 1e-9]).double()
    loss = lambda w: 0.5 * (values * w**2).sum()  # noqa: E731
    assert hessian_spectrum(loss, [0.0] * 3).zeros == 0  # 1e-9 to rounding is the largest gap
    found = hessian_spectrum(loss, [0.0] * 3, rtol=1e-6)
    assert (found.zeros, round(found.gap)) == (1, 10**6)
    model = lambda w, x: values * w + 0 * x  # noqa: E731
    assert jacobian_rank(model, [0.0], [0.0] * 3).rank == 3
    assert jacobian_rank(model, [0.0], [0.0] * 3, rtol=1e-6).rank == 2


def test_nothing_but_zeros():
    found = hessian_spectrum(lambda w: (w**4).sum(), [0.0, 0.0])
    assert (found.zeros, found.negative, found.gap, found.residual) == (2, 0, math.inf, 0.0)
    rank = jacobian_rank(lambda w, x: w[0] * w[1] * x, [1.0, 2.0], [0.0, 0.0])
    assert (rank.rank, rank.gap, rank.null_space.shape) == (0, math.inf, (2, 2))


@pytest.mark.parametrize("scale", [1e-320, 1e-305, 1e-150, 1e300])
def test_counts_do_not_depend_on_the_scale(scale):
    found = hessian_spectrum(lambda w: scale * (w[0] ** 2 + w[1]), [0.0, 0.0])
    assert (found.zeros, found.negative) == (1, 0)
    assert found.gap == 2.0**52
    assert found.residual < 1e-12
    rank = jacobian_rank(lambda w, x: scale * w[0] * x, [1.0, 2.0], [1.0, 2.0])
    assert (rank.rank, rank.gap) == (1, 2.0**52)


def test_a_loss_that_holds_a_module_s_parameters_fixed():
    module = torch.nn.Linear(2, 1)
    x = torch.ones(1, 2)
    found = hessian_spectrum(lambda w: (module(x) * 0 + w.square().sum()).sum(), torch.ones(2))
    assert found.values.tolist() == [2.0, 2.0]


# ---- Lanczos


@pytest.mark.parametrize("which", ["both", "largest", "smallest"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "square"])
def test_lanczos_finds_the_ends_of_the_dense_spectrum(activation, which):
    network = DenseNetwork((3, 8, 5, 2), activation)
    X = torch.from_numpy(np.random.default_rng(3).standard_normal((20, 3)))
    theta = network.initial(seed=4, scale=0.7, bias_scale=0.3)
    loss = half_squares(network, X, torch.ones(20, 2).double())
    full = hessian_spectrum(loss, theta).values
    found = hessian_spectrum(loss, theta, k=6, which=which)
    expected = {
        "both": torch.cat([full[:3], full[-3:]]),
        "largest": full[-6:],
        "smallest": full[:6],
    }[which]
    top = float(full.abs().max())
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-9 * top)
    assert found.residual < 1e-8
    assert (found.zeros, found.negative) == (None, None)
    assert math.isnan(found.gap)
    again = hessian_spectrum(loss, theta, k=6, which=which)
    assert torch.equal(again.values, found.values)


def test_lanczos_serves_what_is_too_large_for_a_matrix():
    """40,000 parameters: a quadratic whose eigenvalues are known."""
    values = torch.linspace(-1, 1, 40_000, dtype=torch.float64)
    values[0], values[-1] = -3.0, 5.0
    loss = lambda w: 0.5 * (values * w**2).sum()  # noqa: E731
    found = hessian_spectrum(loss, torch.zeros(40_000).double(), k=2)
    np.testing.assert_allclose(found.values, [-3.0, 5.0], rtol=1e-9)
    with pytest.raises(ValueError, match="needs Hessian-vector products only"):
        hessian_spectrum(loss, torch.zeros(40_000).double())
    with pytest.raises(ValueError, match="null space is not known"):
        _ = found.null_space
    with pytest.raises(ArithmeticError, match="crowd together"):
        hessian_spectrum(loss, torch.zeros(40_000).double(), k=12, which="largest", steps=1)


@pytest.mark.parametrize("which", ["both", "largest", "smallest"])
def test_lanczos_of_nothing_and_of_almost_nothing(which):
    found = hessian_spectrum(lambda w: (w**4).sum(), [0.0] * 9, k=2, which=which)
    assert found.values.tolist() == [0.0, 0.0]
    assert found.residual == 0.0
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(2).double())
    one = hessian_spectrum(lambda w: w.sum() ** 2, [0.0] * 9, k=3, which=which)
    expected = {"both": [0, 0, 18], "largest": [0, 0, 18], "smallest": [0, 0, 0]}[which]
    np.testing.assert_allclose(one.values, expected, atol=1e-12)
    # A multiple eigenvalue makes Lanczos draw again: from the seed too.
    a, b = (hessian_spectrum(lambda w: (w**2).sum(), [0.0] * 9, k=3, which=which) for _ in range(2))
    assert torch.equal(a.vectors, b.vectors)


# ---- refusals


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: hessian_spectrum(f, []), ValueError, "no parameters"),
        (lambda f: hessian_spectrum(f, [math.nan]), ValueError, "NaN"),
        (lambda f: hessian_spectrum(f, [1.0], rtol=2.0), ValueError, "rtol = 2.0"),
        (lambda f: hessian_spectrum(f, [1.0, 1.0], k=2), ValueError, "fewer than p"),
        (lambda f: hessian_spectrum(f, [1.0] * 3, k=1), ValueError, "need two"),
        (lambda f: hessian_spectrum(f, [1.0] * 3, k=0), ValueError, "too small"),
        (lambda f: hessian_spectrum(f, [1.0] * 3, k=2, which="LM"), ValueError, "which = 'LM'"),
        (lambda f: hessian_spectrum(f, [1.0] * 3, k=2, tol=-1), ValueError, "tol = -1"),
        (lambda f: hessian_spectrum(lambda w: w, [1.0, 2.0]), ValueError, "one number"),
        (lambda f: hessian_spectrum(lambda w: 3.0, [1.0]), ValueError, "float"),
        (lambda f: hessian_spectrum(lambda w: w.log().sum(), [0.0]), ValueError, "no Hessian"),
        (lambda f: hessian_spectrum(lambda w: (w**1.5).sum(), [0.0]), ValueError, "twice"),
        (lambda f: hessian_spectrum(lambda w: (w**1.5).sum(), [0.0] * 9, 2), ValueError, "twice"),
        (lambda f: jacobian_rank(lambda w, x: w, torch.tensor(math.nan), [1.0]), ValueError, "NaN"),
        (lambda f: jacobian_rank(lambda w, x: x, [1.0]), TypeError, "no parameters of its own"),
        (lambda f: jacobian_rank(lambda w, x: w * x, [1.0], [1.0], 0.0), ValueError, "rtol"),
        (lambda f: jacobian_rank(torch.nn.ReLU(), [1.0]), ValueError, "no parameters"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(lambda w: (w**2).sum())
