"""Dense networks as functions of a vector, against torch's modules; polynomials for the ReLU."""

import copy
import itertools
import math
from collections import namedtuple

import numpy as np
import pytest
import torch
from implicit_bias.models.activations import (
    PolynomialActivation,
    activation_named,
    fit_polynomial,
)
from implicit_bias.models.dense import DenseNetwork
from implicit_bias.models.pure import along, as_pure, flatten, jacobian, outputs_like
from numpy.polynomial import chebyshev, legendre
from scipy.integrate import quad

MODULES = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "linear": torch.nn.Identity}


def module(widths, activation, bias=True):
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [torch.nn.Linear(before, after, bias=bias), MODULES[activation]()]
    return torch.nn.Sequential(*layers[:-1]).double()


# ---- networks


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(MODULES))
@pytest.mark.parametrize("widths", [(3, 2), (2, 5, 1), (3, 4, 5, 2)])
def test_is_the_network_that_torch_builds(widths, activation, bias):
    theirs = module(widths, activation, bias)
    function, flat = as_pure(theirs)
    ours = DenseNetwork(widths, activation, bias)
    assert ours.size == flat.vector.numel()
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((7, widths[0])))
    # The order of the parameters is theirs too.
    torch.testing.assert_close(ours(flat.vector, X), theirs(X).detach(), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(
        jacobian(lambda t: ours(t, X), flat.vector)[1],
        jacobian(lambda t: function(t, X), flat.vector)[1],
        rtol=1e-12,
        atol=1e-13,
    )


def test_takes_a_square_and_any_function():
    X = [[1.0, -2.0]]
    theta = [2.0, 1.0, 1.0, 1.0, 3.0, 5.0]
    square = DenseNetwork((2, 2, 1), "square", bias=False)
    assert float(square(theta, X)) == 3 * 0 + 5 * 1
    own = DenseNetwork((2, 2, 1), lambda z: z + 1, bias=False)
    assert float(own(theta, X)) == 3 * 1 + 5 * 0
    ahead = DenseNetwork((2, 2, 1), bias=False).hidden(theta, X)
    assert [h.tolist() for h in ahead] == [[[0.0, -1.0]]]


def test_start_is_reproducible_and_scaled():
    network = DenseNetwork((50, 400, 3))
    theta = network.initial(seed=3, scale=0.5, bias_scale=2.0)
    assert torch.equal(theta, network.initial(seed=3, scale=0.5, bias_scale=2.0))
    assert not torch.equal(theta, network.initial(seed=4, scale=0.5, bias_scale=2.0))
    (W, b), _ = network.split(theta)
    # Of 20,000 and 400 draws: within four standard errors.
    assert float(W.std()) == pytest.approx(0.5 * math.sqrt(2 / 50), rel=0.02)
    assert float(b.std()) == pytest.approx(2.0, rel=0.15)
    assert torch.equal(network.join(network.split(theta)), theta)
    tanh = DenseNetwork((50, 400, 3), "tanh").initial(seed=3)
    torch.testing.assert_close(2**0.5 * tanh, network.initial(seed=3))
    for relu in (torch.relu, torch.nn.functional.relu):
        by_function = DenseNetwork((50, 400, 3), relu).initial(seed=3)
        assert torch.equal(by_function, network.initial(seed=3))


@pytest.mark.parametrize("bias", [True, False])
def test_join_undoes_split(bias):
    network = DenseNetwork((2, 2, 2), bias=bias)
    theta = network.initial(seed=0, bias_scale=1.0)
    assert torch.equal(network.join(network.split(theta)), theta)
    if not bias:
        assert torch.equal(network.join([W for W, _ in network.split(theta)]), theta)


def test_keeps_the_precision_of_tensors():
    network = DenseNetwork((2, 3, 1), fit_polynomial(4))
    theta = network.initial().float()
    assert network(theta, torch.ones(2, 2)).dtype == torch.float32
    # Lists follow the tensor; of two tensors the finer precision counts, and integers are numbers.
    assert network(theta, [[1.0, 1.0]]).dtype == torch.float32
    assert network([1.0] * 13, torch.ones(2, 2)).dtype == torch.float32
    for t, x in [
        (theta, torch.ones(2, 2).double()),
        (theta.double(), torch.ones(2, 2)),
        (theta.double(), torch.ones(2, 2, dtype=torch.int64)),
        ([1.0] * 13, torch.ones(2, 2, dtype=torch.int64)),
    ]:
        exact = network(torch.as_tensor(t).double(), torch.ones(2, 2).double())
        torch.testing.assert_close(network(t, x), exact, rtol=1e-15, atol=0)
    assert "DenseNetwork((2, 3, 1)" in repr(network)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: DenseNetwork((3,)), ValueError, "no layer"),
        (lambda: DenseNetwork(3), TypeError, "sequence of widths"),
        (lambda: DenseNetwork((3, 0, 1)), ValueError, "too small"),
        (lambda: DenseNetwork((3, 2.5, 1)), TypeError, "not an integer"),
        (lambda: DenseNetwork((3, 1), "selu"), ValueError, "activation = 'selu'"),
        (lambda: DenseNetwork((2, 1))([1.0], [[1.0, 1.0]]), ValueError, "3 parameters"),
        (lambda: DenseNetwork((2, 1))([1.0, 1.0, 1.0], [1.0, 1.0]), ValueError, "2 inputs"),
        (lambda: DenseNetwork((2, 1)).initial(scale=-1.0), ValueError, "negative"),
        (lambda: DenseNetwork((2, 1)).initial(bias_scale=math.nan), ValueError, "NaN"),
        (lambda: DenseNetwork((2, 1)).initial(seed=-1), ValueError, "too small"),
        (lambda: DenseNetwork((2, 1)).join([([[1.0]], [0.0])]), ValueError, "a row for each"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- parameters as one vector


def test_flattens_what_torch_has_and_back():
    given = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7.0)}
    flat = flatten(given)
    assert flat.vector.dtype == torch.float32
    assert all(torch.equal(flat.rebuild(flat.vector)[k], v) for k, v in given.items())
    pair = flatten((torch.ones(2), torch.ones(1).double()))
    assert pair.vector.dtype == torch.float64
    assert isinstance(pair.rebuild(pair.vector), tuple)
    assert flatten(np.ones((2, 2))).rebuild(torch.zeros(4)).shape == (2, 2)
    assert flatten(np.ones(2, np.float32)).vector.dtype == torch.float32
    two = namedtuple("two", "a b")(torch.ones(2), torch.zeros(1))
    assert flatten(two).rebuild(torch.arange(3.0)).b.tolist() == [2.0]


def test_a_module_may_have_its_parameters_as_a_vector_or_by_name():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    net.eval()
    x = torch.randn(5, 3)
    function, flat = as_pure(net)
    # Twice as fine as the module itself, buffers and all.
    moved = flat.vector.double() + 0.25
    wide = copy.deepcopy(net).double()
    torch.nn.utils.vector_to_parameters(moved, wide.parameters())
    expected = wide(x.double()).detach()
    torch.testing.assert_close(function(moved, x.double()), expected, rtol=1e-14, atol=1e-14)
    given, again = as_pure(net, moved)
    assert torch.equal(again.vector, moved)
    torch.testing.assert_close(given(moved, x.double()), expected, rtol=1e-14, atol=1e-14)
    # One by name: the others stay, and are no parameters.
    name = "2.weight"
    part, only = as_pure(net, {name: torch.ones(2, 4).double()})
    with torch.no_grad():
        wide = copy.deepcopy(net).double()
        wide[2].weight.fill_(1.0)
        torch.testing.assert_close(part(only.vector, x.double()), wide(x.double()))
    assert jacobian(lambda t: part(t, x.double()), only.vector)[1].shape == (10, 8)
    assert not part(only.vector, x.double()).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: flatten({}), ValueError, "no parameters"),
        (lambda: flatten([]), ValueError, "no parameters"),
        (lambda: flatten({"w": torch.ones(0)}), ValueError, "no parameters"),
        (lambda: flatten({"w": {"b": torch.ones(1)}}), TypeError, "parameter 'w' cannot be read"),
        (lambda: flatten({"w": torch.tensor(math.nan)}), ValueError, "parameter 'w' has a NaN"),
        (lambda: as_pure(torch.nn.Linear(2, 1), [1.0]), ValueError, "has 3 of them"),
        (
            lambda: as_pure(torch.nn.Linear(2, 1), {"w": torch.ones(2)}),
            ValueError,
            "no param.* 'w'",
        ),
        (lambda: as_pure(torch.nn.BatchNorm1d(2)), ValueError, r"BatchNorm1d in training.*eval\("),
        (
            lambda: as_pure(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout())),
            ValueError,
            "1 is a Dropout in training",
        ),
        (lambda: flatten([torch.tensor([math.nan])]), ValueError, "NaN"),
        (lambda: flatten([torch.ones(1), torch.ones(1, device="meta")]), ValueError, "devices"),
        (lambda: as_pure(3.0), TypeError, "cannot be called"),
        (lambda: as_pure(lambda w, x: x), TypeError, "no parameters of its own"),
        (lambda: jacobian(lambda t: t.log(), torch.zeros(2)), ValueError, "not all finite"),
        (lambda: jacobian(lambda t: t[:0], torch.zeros(2)), ValueError, "empty"),
        (lambda: jacobian(lambda t: t.sqrt(), torch.zeros(2)), ValueError, "not differentiable"),
        (lambda: outputs_like(torch.ones(3, 1), torch.ones(1, 3)), ValueError, "broadcast"),
    ],
)
def test_pure_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("n", [2, 40])
def test_both_ways_to_a_jacobian_agree_with_differences(n):
    """From the outputs where these are fewer, from the parameters otherwise."""
    network = DenseNetwork((3, 4, 2), "tanh")
    theta = network.initial(seed=1)
    X = torch.from_numpy(np.random.default_rng(n).standard_normal((n, 3)))
    value, J = jacobian(lambda t: network(t, X), theta)
    assert value.shape == (2 * n,)
    assert J.shape == (2 * n, network.size)
    h = 1e-6
    for j in range(0, network.size, 5):
        e = torch.zeros_like(theta)
        e[j] = h
        slope = (network(theta + e, X) - network(theta - e, X)).reshape(-1) / (2 * h)
        torch.testing.assert_close(J[:, j], slope, rtol=0, atol=1e-9)
    v = torch.randn(network.size, dtype=torch.float64, generator=torch.manual_seed(0))
    torch.testing.assert_close(along(lambda t: network(t, X).reshape(-1), theta, v), J @ v)


# ---- polynomials


@pytest.mark.parametrize("degree", [0, 1, 2, 7, 10, 60])
@pytest.mark.parametrize("radius", [1.0, 5.0])
def test_closed_forms_of_the_relu(degree, radius):
    z = torch.linspace(-radius, radius, 101, dtype=torch.float64)
    t = z.numpy() / radius
    # |t| = 2/pi - (4/pi) sum (-1)^k T_2k / (4k^2 - 1).
    c = np.zeros(degree + 1)
    c[0] = 1 / math.pi
    if degree:
        c[1] = 0.5
    for k in range(1, degree // 2 + 1):
        c[2 * k] = -2 / math.pi * (-1) ** k / (4 * k * k - 1)
    ours = fit_polynomial(degree, radius, "chebyshev")
    np.testing.assert_allclose(ours(z), radius * chebyshev.chebval(t, c), atol=1e-13 * radius)
    # Integral of t P_k(t) over [0, 1], by the antiderivative of polynomials of low degree.
    if degree <= 10:
        series = []
        for k in range(degree + 1):
            p = legendre.Legendre.basis(k).convert(kind=np.polynomial.Polynomial)
            q = (p * np.polynomial.Polynomial([0, 1])).integ()
            series.append((k + 0.5) * (q(1) - q(0)))
        uniform = fit_polynomial(degree, radius)
        assert uniform.degree == degree
        np.testing.assert_allclose(
            uniform(z), radius * legendre.legval(t, series), atol=1e-13 * radius
        )


def test_error_is_orthogonal_to_polynomials_for_any_function():
    """The normal equations of a smooth function, integrated by SciPy."""
    for weight, omega in {"uniform": lambda t: 1.0, "chebyshev": None}.items():
        q = fit_polynomial(6, 3.0, weight, torch.nn.functional.softplus)

        def gap(t, q=q):
            z = torch.tensor(3.0 * t, dtype=torch.float64)
            return float(torch.nn.functional.softplus(z) - q(z))

        for k in range(7):
            if omega is None:
                value = quad(lambda a, k=k: gap(math.cos(a)) * math.cos(k * a), 0, math.pi)[0]
            else:
                value = quad(lambda t, k=k: gap(t) * t**k, -1, 1)[0]
            assert abs(value) < 1e-12


def test_worst_error_falls_like_one_over_the_degree():
    """A Chebyshev series of |t|/2 is off by 1/(pi k) at 0; the best (Bernstein) by 0.1401/k."""
    for degree in (10, 40, 160):
        q = fit_polynomial(degree, 1.0, "chebyshev")
        t = torch.linspace(-1, 1, 4001, dtype=torch.float64)
        worst = float((q(t) - torch.relu(t)).abs().max())
        assert worst == pytest.approx(1 / (math.pi * degree), rel=0.11)
        assert worst > 0.9 * 0.2802 / 2 / degree


def test_derivative_and_growth_outside():
    q = fit_polynomial(10, 2.0)
    z = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(q(z).sum(), z)
    torch.testing.assert_close(q.derivative()(z.detach()), slope, rtol=1e-12, atol=1e-12)
    assert fit_polynomial(0).derivative()(z.detach()).abs().max() == 0
    # Twice the radius: hundreds of times the ReLU's own value there.
    assert abs(float(fit_polynomial(10)(torch.tensor(2.0).double()))) > 500


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fit_polynomial(-1), ValueError, "too small"),
        (lambda: fit_polynomial(201), ValueError, "beyond the quadrature"),
        (lambda: fit_polynomial(2, 0.0), ValueError, "not a positive"),
        (lambda: fit_polynomial(2, 1.0, "gauss"), ValueError, "weight = 'gauss'"),
        (lambda: fit_polynomial(2, function=torch.log), ValueError, "function on"),
        (lambda: fit_polynomial(2, function=torch.sum), ValueError, "each number by itself"),
        (lambda: PolynomialActivation([[1.0]]), ValueError, "constant first"),
        (lambda: PolynomialActivation([1.0], -1.0), ValueError, "not a positive"),
        (lambda: activation_named("elu"), ValueError, "not known here"),
    ],
)
def test_polynomials_refuse(call, error, words):
    with pytest.raises(error, match=words):
        call()
