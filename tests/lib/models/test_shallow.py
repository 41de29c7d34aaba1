"""Networks of one hidden layer: the formula itself, derivatives by other means, refusals."""

import itertools
import math

import numpy as np
import pytest
import torch
from implicit_bias.models.initialisations import BinaryUniformInit, GaussianInit
from implicit_bias.models.shallow import ShallowNetwork, monomials

ACTIVATIONS = {"relu": 1, "relu2": 2, "relu3": 3}
activations = pytest.mark.parametrize("activation", ACTIVATIONS)
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


def network_and_points(activation="relu", n=20, d=1, m=7, seed=0, **options):
    rng = np.random.default_rng(seed)
    w, b = GaussianInit(1.0, 1.0).sample(n, seed, d)
    terms = math.comb(ACTIVATIONS[activation] + d, d)
    skip = options.pop("skip", rng.standard_normal(terms))
    network = ShallowNetwork(w, b, activation, skip=skip, seed=seed, **options)
    return network, rng.standard_normal((m, d) if d > 1 else m)


def by_hand(network, x):
    """The formula of the module, one unit and one point at a time."""
    k, out = network.degree, []
    w, b, v, skip = (t.numpy() for t in (network.w, network.b, network.v, network.skip))
    for point in np.atleast_2d(np.asarray(x).T).T:
        total = 0.0
        for i in range(network.n):
            z = float(w[i] @ point) + b[i]
            total += v[i] * (z**k / math.factorial(k) if z > 0 else 0.0)
        terms = [
            math.prod(point[list(which)])
            for degree in range(k + 1)
            for which in itertools.combinations_with_replacement(range(network.d), degree)
        ]
        out.append(total / math.sqrt(network.n) + float(np.dot(skip, terms)))
    return np.array(out)


@activations
@pytest.mark.parametrize("d", [1, 2, 3])
def test_computes_the_formula(activation, d):
    network, x = network_and_points(activation, d=d)
    np.testing.assert_allclose(network(x), by_hand(network, x), rtol=1e-13, atol=1e-13)
    features = network.features(x)
    assert features.shape == (7, 20)
    polynomial = monomials(network.points(x), network.degree) @ network.skip
    torch.testing.assert_close(features @ network.v + polynomial, network(x), rtol=1e-13, atol=0)


@activations
def test_derivatives_are_those_of_the_polynomial_between_breakpoints(activation):
    """Fitted to values on a stretch without a breakpoint."""
    network, _ = network_and_points(activation)
    c = np.sort((-network.b / network.w[:, 0]).numpy())
    gap = int(np.argmax(np.diff(c[(c > -2) & (c < 2)])))
    low, high = c[(c > -2) & (c < 2)][gap : gap + 2]
    nodes = np.polynomial.chebyshev.chebpts1(network.degree + 1) * (high - low) / 2
    nodes += (low + high) / 2
    exact = np.polynomial.Polynomial.fit(nodes, network(nodes), network.degree)
    x = np.linspace(low, high, 7)[1:-1]
    for order in range(network.degree + 1):
        expected = exact.deriv(order)(x) if order else exact(x)
        np.testing.assert_allclose(network.derivative(x, order), expected, rtol=1e-9, atol=1e-9)


@activations
@pytest.mark.parametrize("d", [1, 2])
def test_kernel_is_the_product_of_derivatives(activation, d):
    """Automatic differentiation in all parameters; the hidden layer at the rate 1/n."""
    network, x = network_and_points(activation, d=d, skip=None)
    sizes = [network.n * d, network.n, network.n]

    def outputs(theta):
        w, b, v = theta.split(sizes)
        z = network.points(x) @ w.reshape(network.n, d).T + b
        return (
            torch.relu(z) ** network.degree @ v / math.factorial(network.degree) / (network.n**0.5)
        )

    theta = torch.cat([network.w.reshape(-1), network.b, network.v])
    J = torch.func.jacrev(outputs)(theta)
    D = torch.ones(theta.numel()).double() / network.n
    D[-network.n :] = 1
    torch.testing.assert_close(network.kernel(x, layers="all"), J * D @ J.T)
    Jv = J[:, -network.n :]
    torch.testing.assert_close(network.kernel(x), Jv @ Jv.T)
    torch.testing.assert_close(network.kernel(x[:3], x[2:]), (Jv @ Jv.T)[:3, 2:])
    # Near a kink the argument of a unit is a difference, and relative errors have no bound.
    np.testing.assert_allclose(network.features(x), Jv, rtol=1e-13, atol=1e-15)


def test_kernel_and_outputs_do_not_depend_on_blocks(monkeypatch):
    network, x = network_and_points(n=30)
    whole = network(x), network.kernel(x, layers="all")
    # Doctests may have imported the module twice: the one that the class is from.
    monkeypatch.setitem(ShallowNetwork.combine.__globals__, "_CHUNK", 45)
    torch.testing.assert_close((network(x), network.kernel(x, layers="all")), whole)


@activations
def test_measure_is_the_kernel_on_what_polynomials_do_not_meet(activation):
    r"""For l orthogonal to polynomials, l^T K l = int q^2 dmu, q = sum_j l_j (x_j - c)_+^k / k!.

    Signs and the power of w, unit by unit: half of the weights are negative.
    """
    network, x = network_and_points(activation, n=50, m=9)
    k = network.degree
    null = np.linalg.svd(np.vander(x, k + 1).T)[2][k + 1 :]
    measure = network.measure()
    c, mass = measure.positions.numpy(), measure.weights.numpy()
    K = network.kernel(x).numpy()
    for multipliers in null:
        q = np.maximum(x[:, None] - c, 0) ** k / math.factorial(k)
        energy = (mass * (multipliers @ q) ** 2).sum()
        scale = np.abs(multipliers) @ np.abs(K) @ np.abs(multipliers)
        assert multipliers @ K @ multipliers == pytest.approx(energy, abs=1e-13 * scale)


def test_measure_leaves_out_what_does_not_bend():
    network = ShallowNetwork([0.0, 2.0, -1e-300, -1.0], [1.0, 3.0, 1e20, 0.5])
    measure = network.measure()
    assert measure.positions.tolist() == [-1.5, 0.5]
    assert measure.weights.tolist() == [1.0, 0.25]


@activations
def test_antisymmetric_networks_begin_at_zero(activation):
    w, b = BinaryUniformInit(1.0).sample(40, seed=1)
    network = ShallowNetwork(w, b, activation, antisymmetric=True, seed=3)
    plain = ShallowNetwork(w, b, activation, seed=3)
    x = np.linspace(-2, 2, 11)
    assert network.n == 80
    assert not network(x).any()
    assert not network.derivative(x).any()
    # Exactly, and not because the output is not computed:
    assert float(network.combine(x, network.v).abs().max()) < 1e-15
    assert torch.equal(network.v[:40], -network.v[40:])
    assert torch.equal(network.v[:40], plain.v)
    # The same breakpoints with the same mass: only n/2 of them are distinct.
    torch.testing.assert_close(network.kernel(x), plain.kernel(x))
    torch.testing.assert_close(network.measure().weights.sum(), plain.measure().weights.sum())
    # Trained, it is no longer zero.
    theta = network.parameters.clone()
    theta[2 * network.n] += 1
    assert network.with_parameters(theta)(x).any()
    skip = [1.0] * (network.degree + 1)
    assert ShallowNetwork(w, b, activation, antisymmetric=True, skip=skip)([0.0]).tolist() == [1.0]


def test_output_weights_are_of_order_one():
    w, b = GaussianInit(1.0, 1.0).sample(10_000)
    one, two, other = (ShallowNetwork(w, b, seed=s).v for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert float(one.square().mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("d", [1, 3])
def test_parameters_go_round(d):
    network, x = network_and_points("relu2", d=d)
    again = network.with_parameters(network.parameters)
    assert torch.equal(again(x), network(x))
    assert again.parameters.numel() == 20 * (d + 2) + network.skip.numel()
    moved = network.with_parameters(2 * network.parameters)
    np.testing.assert_allclose(moved(x), by_hand(moved, x), rtol=1e-12)


def test_takes_what_arrays_are():
    network = ShallowNetwork([1, -1], np.array([0, 1]), v=(1.0, 2.0))
    assert network.w.dtype == torch.float64
    assert network([0, 1]).tolist() == network(np.array([0.0, 1.0])).tolist()
    assert network([[0.5]]).shape == (1,)
    assert network([]).shape == (0,)
    given = torch.ones(3).double()
    owned = ShallowNetwork(given, given, v=given)
    given += 1
    assert owned.w.tolist() == [[1.0]] * 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0], [0.0], "tanh"), {}, r"activation = 'tanh' is not known.*'relu', 'relu2'"),
        (([1.0, 2.0], [0.0]), {}, r"w of shape \(n,\) or \(n, d\) and b of shape.*got \(2,\)"),
        (([1.0], [[0.0]]), {}, r"w of shape \(n,\) or \(n, d\)"),
        (([], []), {}, r"at least one unit"),
        (([[[1.0]]], [0.0]), {}, r"w of shape \(n,\) or \(n, d\)"),
        (([1.0], [math.nan]), {}, r"b has a NaN"),
        (([1.0], [0.0]), {"v": [1.0, 2.0]}, r"v has shape \(2,\).*1 units.*length 1"),
        (([1.0], [0.0]), {"skip": [1.0]}, r"skip has shape \(1,\).*degree 1 in 1.*2 coefficients"),
        (([1.0], [0.0]), {"seed": -1}, r"seed = -1 is too small"),
    ],
)
def test_refuses_networks(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ShallowNetwork(*arguments, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, g: g([1.0, 2.0]), r"x has shape \(2,\).*d = 2 inputs.*\(m, 2\)"),
        (lambda f, g: f(np.ones((3, 2))), r"x has shape \(3, 2\).*d = 1 inputs.*\(m,\)"),
        (lambda f, g: f([math.inf]), r"x has a NaN or infinite"),
        (lambda f, g: f.features([1.0], 2), r"order = 2.*derivatives up to order 1"),
        (lambda f, g: g.derivative([[1.0, 2.0]]), r"order = 1.*2 inputs.*up to order 0"),
        (lambda f, g: f.derivative([1.0], -1), r"order = -1 is too small"),
        (lambda f, g: g.measure(), r"d = 2 inputs bend along hyperplanes.*kernel"),
        (lambda f, g: f.kernel([1.0], layers="hidden"), r"layers = 'hidden' must be"),
        (lambda f, g: f.with_parameters([1.0]), r"theta has shape \(1,\).*8 parameters"),
    ],
)
def test_refuses_points(call, message):
    one = ShallowNetwork([1.0, 2.0], [0.0, 1.0])
    two = ShallowNetwork([[1.0, 2.0]], [0.0])
    with pytest.raises(ValueError, match=message):
        call(one, two)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=gpu)])
@activations
def test_computes_the_same_on_cuda(activation, device):
    for d in (1, 2):
        network, x = network_and_points(activation, d=d)
        there = network.to(device)
        assert there(x).device.type == device
        torch.testing.assert_close(there(x).cpu(), network(x), rtol=1e-12, atol=1e-12)
        kernels = [net.kernel(x, layers="all").cpu() for net in (there, network)]
        torch.testing.assert_close(*kernels, rtol=1e-12, atol=1e-12)
        drawn = ShallowNetwork(network.w.to(device), network.b.to(device), activation, seed=5)
        assert torch.equal(drawn.v.cpu(), ShallowNetwork(network.w, network.b, seed=5).v)
    with pytest.raises(ValueError, match=r"different devices.*one device"):
        ShallowNetwork(network.w, network.b.to(device))


def test_output_weights_are_independent_of_a_sample_with_the_same_seed():
    w, b = GaussianInit(1.0, 1.0).sample(10_000, seed=3)
    network = ShallowNetwork(w, b, seed=3)
    # Correlations of independent draws are normal with deviation 1/sqrt(n): five of them.
    for hidden in (w, b):
        assert abs(float(torch.corrcoef(torch.stack([hidden, network.v]))[0, 1])) < 0.05
