"""Linearised training: dense algebra, matrix exponentials, real descent, and refusals.

What is tested goes through knots and banded matrices; what it is tested with knows only features.
"""

import math

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.wide import (
    LinearisedNetwork,
    linearised_training,
    polynomial_complement,
)
from implicit_bias.knots import TooFewBreakpoints
from implicit_bias.models.curvature_init import CurvatureInit
from implicit_bias.models.initialisations import BinaryUniformInit, GaussianInit, UniformInit
from implicit_bias.models.shallow import ShallowNetwork
from scipy.interpolate import CubicSpline, RBFInterpolator
from scipy.linalg import expm, null_space

ACTIVATIONS = {1: "relu", 2: "relu2", 3: "relu3"}
INITS = [
    GaussianInit(1.0, 1.0),
    BinaryUniformInit(1.5),
    UniformInit(1.0, 1.5),
    CurvatureInit(lambda x: 1 + 4 * x**2, (-1.5, 1.5)),
]
gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


def features_by_hand(network, x):
    """(m, n) in NumPy, from the definition."""
    w, b, k = network.w.numpy(), network.b.numpy(), network.degree
    z = np.asarray(x).reshape(-1, network.d) @ w.T + b
    return np.maximum(z, 0) ** k / math.factorial(k) / math.sqrt(network.n)


def powers(network, x):
    """All monomials in one or two variables, (m, p)."""
    x = np.asarray(x).reshape(-1, network.d)
    k = network.degree
    if network.d == 1:
        return x ** np.arange(k + 1)
    return np.stack(
        [x[:, 0] ** (t - j) * x[:, 1] ** j for t in range(k + 1) for j in range(t + 1)], 1
    )


def free_by_hand(network, x, y, tau):
    """Kernel algebra on the data without polynomials: (function, change of the output weights).

    The exponential is taken through the singular values of the features: the kernel squares their
    condition number.
    """
    F, P = features_by_hand(network, x), powers(network, x)
    N = null_space(P.T)
    r = y - network(x).numpy()
    U, s, Vh = np.linalg.svd(N.T @ F, full_matrices=False)
    gained = np.ones_like(s) if tau == math.inf else -np.expm1(-tau * s**2)
    dv = Vh.T @ (gained / s * (U.T @ (N.T @ r)))
    left = N @ (U @ ((1 - gained) * (U.T @ (N.T @ r))))
    line = np.linalg.lstsq(P, r - left - F @ dv, rcond=None)[0]

    def function(points):
        new = features_by_hand(network, points) @ dv + powers(network, points) @ line
        return network(points).numpy() + new

    return function, dv


def problem(seed, k=1, most=12):
    """A random network and data on it, well enough conditioned for 12 digits to be meant."""
    rng = np.random.default_rng(seed)
    M = int(rng.integers(k + 2, most + 1))
    n = int(rng.integers(20 * M, 60 * M))
    w, b = INITS[seed % 4].sample(n, seed)
    network = ShallowNetwork(w, b, ACTIVATIONS[k], antisymmetric=bool(seed % 3), seed=seed)
    # Random, but with gaps that hold breakpoints and are not so small that slopes are rounding.
    x = np.sort(rng.uniform(-1, 1, 4 * M))[2::4]
    return network, rng.permutation(x), rng.standard_normal(M)


def feasible(network, x, y, tau=math.inf):
    try:
        return linearised_training(network, x, y, tau)
    except TooFewBreakpoints:
        return None


# ---- the banded solution is the dense one


@pytest.mark.parametrize(("k", "most", "bound"), [(1, 30, 1e-10), (2, 10, 1e-10), (3, 8, 1e-9)])
def test_agrees_with_dense_algebra(k, most, bound):
    """Functions inside and outside the data, and every output weight, on hundreds of problems."""
    worst, worst_v, solved = 0.0, 0.0, 0
    points = np.linspace(-1.6, 1.6, 41)
    for seed in range(150):
        network, x, y = problem(seed, k, most)
        trained = feasible(network, x, y)
        if trained is None:
            continue
        solved += 1
        function, dv = free_by_hand(network, x, y, math.inf)
        expected = function(points)
        scale = np.abs(expected).max()
        worst = max(worst, np.abs(trained(points).numpy() - expected).max() / scale)
        found = trained.output_weights.numpy()
        worst_v = max(worst_v, np.abs(found - dv).max() / np.abs(dv).max())
        # Interpolation, and the residuals that are reported.
        assert float((trained(x) - torch.from_numpy(y)).abs().max()) < 1e-10 * scale
        assert float(trained.residuals.abs().max()) < 1e-12 * scale
    print(f"k = {k}: {solved} problems, worst {worst:.1e} in functions, {worst_v:.1e} in weights")
    assert solved >= 130
    assert max(worst, worst_v) <= bound


@pytest.mark.parametrize(("k", "most", "bound"), [(1, 30, 1e-10), (2, 10, 1e-10), (3, 8, 1e-9)])
def test_agrees_with_dense_algebra_at_finite_times(k, most, bound):
    worst, worst_v = 0.0, 0.0
    points = np.linspace(-1.6, 1.6, 41)
    for seed in range(50):
        network, x, y = problem(seed, k, most)
        s = np.linalg.svd(null_space(powers(network, x).T).T @ features_by_hand(network, x))[1]
        taus = [0.0, 0.1 / s[0] ** 2, 1 / s[0] ** 2, 1 / s[-1] / s[0], 1 / s[-1] ** 2]
        trained = linearised_training(network, x, y, taus)
        values, weights = trained(points).numpy(), trained.output_weights.numpy()
        assert values.shape == (5, 41)
        for tau, value, weight in zip(taus, values, weights, strict=True):
            function, dv = free_by_hand(network, x, y, tau)
            expected = function(points)
            worst = max(worst, np.abs(value - expected).max() / np.abs(expected).max())
            worst_v = max(worst_v, np.abs(weight - dv).max() / max(np.abs(dv).max(), 1e-300))
    print(f"k = {k}: worst {worst:.1e} in functions, {worst_v:.1e} in weights")
    assert max(worst, worst_v) <= bound


@pytest.mark.parametrize("skip", ["free", "common", "none"])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_finite_times_agree_with_the_matrix_exponential_of_all_parameters(k, d, skip):
    """The linear ODE of output weights and polynomial together, by scipy.linalg.expm."""
    rng = np.random.default_rng(k)
    w, b = GaussianInit(1.0, 1.0).sample(20, seed=k, d=d)
    network = ShallowNetwork(w, b, ACTIVATIONS[k], seed=1)
    M = 12
    x = rng.uniform(-1, 1, (M, d) if d > 1 else M)
    y = rng.standard_normal(M)
    F, P, r = features_by_hand(network, x), powers(network, x), y - network(x).numpy()
    if skip == "free":
        J, rates = F, np.ones(20)
        N = null_space(P.T)
        R = N @ N.T  # what is left after the best polynomial
    else:
        J, rates = np.hstack([F, P]), np.append(np.ones(20), np.full(P.shape[1], 1 / 20))
        R = np.eye(M)
        if skip == "none":
            J, rates = F, np.ones(20)
    size = J.shape[1]
    flow = np.zeros((size + 1, size + 1))
    flow[:size, :size] = -rates[:, None] * (J.T @ R @ J)
    flow[:size, size] = rates * (J.T @ R @ r)
    taus = [0.0, 0.3, 5.0, 80.0]
    trained = linearised_training(network, x, y, taus, skip=skip)
    points = rng.uniform(-1.3, 1.3, (30, d) if d > 1 else 30)
    for i, tau in enumerate(taus):
        theta = expm(flow * tau)[:size, size]
        dv, line = theta[:20], theta[20:]
        if skip == "free":
            line = np.linalg.lstsq(P, r - F @ dv, rcond=None)[0]
        elif skip == "none":
            line = np.zeros(P.shape[1])
        np.testing.assert_allclose(trained.output_weights[i], dv, atol=1e-10)
        np.testing.assert_allclose(trained.skip[i], line, atol=1e-9)
        change = features_by_hand(network, points) @ dv + powers(network, points) @ line
        np.testing.assert_allclose(trained.change(points)[i], change, atol=1e-10)
        np.testing.assert_allclose(trained.residuals[i], r - F @ dv - P @ line, atol=1e-10)


# ---- what descent does


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_is_where_descent_on_the_output_layer_ends(seed):
    """Real steps in v, with the line fitted anew after each, until the loss is rounding."""
    network, x, y = problem(seed, 1, 6)
    F, P = features_by_hand(network, x), powers(network, x)
    R = np.eye(x.size) - P @ np.linalg.pinv(P)
    step = 1.9 / np.linalg.norm(R @ F, 2) ** 2
    v, r = network.v.numpy().copy(), y - network(x).numpy() + F @ network.v.numpy()
    RF = R @ F
    for count in range(200_000):
        gap = R @ r - RF @ v
        if count % 100 == 0 and gap @ gap < 1e-24:
            break
        v += step * (gap @ RF)
    assert gap @ gap < 1e-16
    line = np.linalg.lstsq(P, r - F @ v, rcond=None)[0]
    points = np.linspace(-1.5, 1.5, 31)
    descended = features_by_hand(network, points) @ v + powers(network, points) @ line
    np.testing.assert_allclose(linearised_training(network, x, y)(points), descended, atol=1e-6)


def test_time_is_that_of_half_the_sum():
    """M24's descent, with step eta on the sum of squares: tau = 2 eta n steps."""
    network, x, y = problem(1, 1, 6)
    F, R = features_by_hand(network, x), polynomial_complement(torch.from_numpy(x)[:, None], 1)
    R = (R @ R.T).numpy()
    n, steps, dv = network.n, 2000, np.zeros(network.n)
    eta = 1e-3 / (2 * n)
    r = y - network(x).numpy()
    for _ in range(steps):  # M24's output weights are v / sqrt n, his features sqrt n F
        gradient = -2 * (math.sqrt(n) * F).T @ (R @ (r - F @ dv))
        dv = dv - math.sqrt(n) * eta * gradient
    tau = 2 * eta * n * steps
    expected = linearised_training(network, x, y, tau).output_weights.numpy()
    # Steps of 1e-3 deviate by half of that from the flow.
    assert np.abs(dv - expected).max() < 2e-3 * np.abs(expected).max()


# ---- special cases


def test_time_zero_is_the_least_squares_polynomial():
    for k in (1, 2, 3):
        network, x, y = problem(5, k)
        trained = linearised_training(network, x, y, 0.0)
        r = y - network(x).numpy()
        fit = np.polynomial.Polynomial.fit(x, r, k)
        points = np.linspace(-1.5, 1.5, 20)
        np.testing.assert_allclose(trained.change(points), fit(points), atol=1e-11)
        assert not trained.output_weights.any()
        assert not trained.filters.any()
        np.testing.assert_allclose(trained.skip, fit.convert().coef, atol=1e-11)


def test_late_times_tend_to_the_limit():
    network, x, y = problem(3, 1)
    slowest = float(linearised_training(network, x, y).rates.min())
    late = linearised_training(network, x, y, [1e3 / slowest, math.inf])
    points = np.linspace(-1.5, 1.5, 50)
    one, two = late(points)
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)
    assert late.filters.tolist() == [[1.0] * late.rates.numel()] * 2


def test_polynomials_cost_nothing():
    """The multipliers vanish: not one unit moves."""
    for k in (1, 2, 3):
        w, b = GaussianInit(1.0, 1.0).sample(400, seed=k)
        network = ShallowNetwork(w, b, ACTIVATIONS[k], antisymmetric=True)
        x = np.linspace(-1, 1, 9)
        y = np.polynomial.Polynomial([1.0, -2.0, 3.0, 5.0][: k + 1])(x)
        trained = linearised_training(network, x, y)
        assert float(trained.output_weights.abs().max()) < 1e-9
        at = np.array([-3.0, 0.33, 4.0])
        expected = np.polynomial.Polynomial([1.0, -2.0, 3.0, 5.0][: k + 1])(at)
        np.testing.assert_allclose(trained(at), expected, rtol=1e-10)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_network_computes_the_function(k):
    network, x, y = problem(4, k)
    points = np.linspace(-1.5, 1.5, 30)
    for tau in (3.0, math.inf):
        trained = linearised_training(network, x, y, tau)
        np.testing.assert_allclose(trained.network(points), trained(points), atol=1e-8)
        # Derivatives, where no breakpoint is: those of the function.
        step = 1e-4
        for order in range(1, k + 1):
            lower = trained.derivative(order - 1)
            slope = (lower(points + step) - lower(points - step)) / (2 * step)
            own = trained.derivative(order)(points)
            close = (slope - own).abs() < 1e-2 * own.abs().max()
            assert float(close.double().mean()) > 0.8


def test_modes_decay_at_their_rates():
    network, x, y = problem(7, 1)
    taus = [0.0, 1.0, 10.0, 300.0]
    trained = linearised_training(network, x, y, taus)
    M = x.size
    assert trained.modes.shape == (M, M - 2)
    torch.testing.assert_close(trained.modes.T @ trained.modes, torch.eye(M - 2).double())
    N = null_space(powers(network, x).T)
    kernel = N.T @ network.kernel(x).numpy() @ N
    expected = np.sort(np.linalg.eigvalsh(kernel))
    np.testing.assert_allclose(np.sort(trained.rates.numpy()), expected, rtol=1e-8)
    start = trained.modes.T @ trained.residuals[0]
    for i in range(4):
        left = start * (1 - trained.filters[i])
        torch.testing.assert_close(trained.modes.T @ trained.residuals[i], left, atol=1e-12, rtol=0)


def test_is_the_shortest_change_of_weights():
    """M24-RW-K: any other interpolating change of the output weights is longer (Pythagoras)."""
    rng = np.random.default_rng(0)
    network, x, y = problem(2, 1)
    dv = linearised_training(network, x, y).output_weights.numpy()
    blind = null_space(null_space(powers(network, x).T).T @ features_by_hand(network, x))
    for _ in range(20):
        other = dv + blind @ rng.standard_normal(blind.shape[1])
        assert other @ other > dv @ dv
    assert np.abs(blind.T @ dv).max() < 1e-9 * np.abs(dv).max()


def test_twins_change_nothing():
    """The limit depends on the units that differ; f0 = 0 is what twins give."""
    w, b = UniformInit(1.0, 1.0).sample(300)
    x, y = np.linspace(-0.9, 0.9, 6), np.array([0.0, 1.0, 0.0, -1.0, 1.0, 0.0])
    points = np.linspace(-1, 1, 21)
    twins = linearised_training(ShallowNetwork(w, b, antisymmetric=True), x, y, [1.0, math.inf])
    silent = linearised_training(ShallowNetwork(w, b, v=np.zeros(300)), x, y, [1.0, math.inf])
    torch.testing.assert_close(twins(points), silent(points), rtol=1e-10, atol=1e-10)
    half = twins.output_weights[:, :300]
    torch.testing.assert_close(half, twins.output_weights[:, 300:])


def test_units_that_never_bend_do_not_matter():
    w, b = UniformInit(1.0, 1.0).sample(100)
    zero = torch.zeros(100).double()
    x, y = [-0.5, 0.0, 0.6], [0.0, 1.0, 0.0]
    plain = linearised_training(ShallowNetwork(w, b, v=zero), x, y)
    wider = ShallowNetwork(
        torch.cat([w, zero]), torch.cat([b, zero + 1]), v=torch.cat([zero, zero])
    )
    with_idle = linearised_training(wider, x, y)
    points = np.linspace(-1, 1, 9)
    torch.testing.assert_close(with_idle(points), plain(points))
    assert not with_idle.output_weights[100:].any()


# ---- what the theorems say, roughly (the chapter measures rates)


def test_wide_networks_approach_the_cubic_spline():
    """M24-T5, T6-BU, and T9 for k = 1: n^-1/2 is 0.003 here."""
    w, b = BinaryUniformInit(1.0).sample(200_000, seed=1)
    x, y = np.linspace(-0.9, 0.9, 7), np.array([0.0, 1.0, 0.2, -1.0, 0.5, 1.0, 0.0])
    points = np.linspace(-0.9, 0.9, 101)
    trained = linearised_training(ShallowNetwork(w, b, antisymmetric=True), x, y)
    natural = CubicSpline(x, y, bc_type="natural")(points)
    assert np.abs(trained(points).numpy() - natural).max() < 0.01
    # The control: another zeta, another limit.
    w, b = CurvatureInit(lambda x: 0.02 + x**2, (-1.0, 1.0)).sample(200_000, seed=1)
    other = linearised_training(ShallowNetwork(w, b, antisymmetric=True), x, y)
    assert np.abs(other(points).numpy() - natural).max() > 0.05


def test_a_skip_connection_with_the_common_rate_is_trapped():
    """The control of M24-T5: the error has a floor, and the line hardly moves."""
    x, y = np.linspace(-0.9, 0.9, 5), np.array([1.0, 2.0, 2.2, 3.1, 4.0])
    natural = CubicSpline(x, y, bc_type="natural")
    points = np.linspace(-0.9, 0.9, 51)
    free, trapped, moved = [], [], []
    for n in (1000, 100_000):
        w, b = BinaryUniformInit(1.0).sample(n, seed=2)
        network = ShallowNetwork(w, b, antisymmetric=True)
        for skip, errors in (("free", free), ("common", trapped)):
            trained = linearised_training(network, x, y, skip=skip)
            np.testing.assert_allclose(trained(x), y, atol=1e-8)
            errors.append(np.abs(trained(points).numpy() - natural(points)).max())
        moved.append(float(trained.skip.abs().max()))
    assert free[1] < 0.3 * free[0]
    assert trapped[1] > 0.9 * trapped[0]
    assert trapped[1] > 10 * free[1]
    assert moved[1] < 0.02 * moved[0]
    silent = linearised_training(network, x, y, skip="none")
    assert not silent.skip.any()


@pytest.mark.parametrize("d", [2, 3])
def test_wide_networks_of_several_inputs_approach_the_polyharmonic_spline(d):
    """M24-T8 with directions uniform and biases beyond the data."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((9, d))
    X *= rng.uniform(0.2, 1, (9, 1)) / np.linalg.norm(X, axis=1, keepdims=True)
    y = rng.standard_normal(9)
    points = X.mean(0) + 0.5 * (X[:, None] - X.mean(0)).reshape(-1, d)
    expected = RBFInterpolator(X, y, kernel="cubic", degree=1)(points)
    errors = []
    for n in (1000, 25_000):
        sup = []
        for seed in range(5):
            w, b = BinaryUniformInit(1.0).sample(n, seed=seed, d=d)
            trained = linearised_training(ShallowNetwork(w, b, antisymmetric=True), X, y)
            np.testing.assert_allclose(trained(X), y, atol=1e-8)
            sup.append(float(np.abs(trained(points).numpy() - expected).max()))
        errors.append(float(np.median(sup)))
    assert errors[1] < 0.05
    assert 2.5 < errors[0] / errors[1] < 10  # a fifth, if like n^-1/2


# ---- what is refused

NET = ShallowNetwork(*UniformInit(1.0, 1.0).sample(100), antisymmetric=True)
X3, Y3 = [-0.5, 0.0, 0.6], [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X3, Y3, -1.0), {}, r"tau must be a time from 0 to infinity.*-1"),
        ((X3, Y3, math.nan), {}, r"tau must be a time"),
        ((X3, Y3, []), {}, r"tau must be a time"),
        ((X3, Y3, [[1.0]]), {}, r"tau must be a time"),
        ((X3, Y3), {"skip": "linear"}, r"skip = 'linear' must be 'free'.*'common'.*'none'"),
        ((X3, [0.0, 1.0]), {}, r"one target for each; got 3 points and y of shape \(2,\)"),
        ((X3, [[0.0, 1.0, 0.0]]), {}, r"one target for each"),
        (([], []), {}, r"at least one point"),
        (([0.0, 0.0, 1.0], Y3), {}, r"the same number.*two|values 0 and 1"),
        (([0.0], [1.0]), {}, r"1 data points do not determine a polynomial of degree 1"),
        (([0.0, math.nan], [1.0, 2.0]), {}, r"x has a NaN"),
        ((X3, [0.0, math.inf, 1.0]), {}, r"y has a NaN or infinite"),
    ],
)
def test_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        linearised_training(NET, *arguments, **options)


def test_refuses_what_is_no_network():
    with pytest.raises(TypeError, match=r"trains a ShallowNetwork.*got a function.*Build"):
        linearised_training(lambda x: x, X3, Y3)


def test_refuses_what_its_units_cannot_fit():
    """No breakpoint between data that bend: it says where; finite times are no problem."""
    network = ShallowNetwork([1.0, 1.0], [0.4, -0.8], antisymmetric=True)  # bends at -0.4, 0.8
    x, y = [-1.0, -0.5, 0.0, 0.3, 0.6, 1.0], [0.0, 1.0, 0.0, 2.0, 0.0, 1.0]
    with pytest.raises(TooFewBreakpoints) as caught:
        linearised_training(network, x, y)
    assert caught.value.gap[0] < caught.value.gap[1]
    early = linearised_training(network, x, y, 50.0)
    assert int((early.rates <= 1e-12).sum()) == 2
    assert bool(torch.isfinite(early([0.0, 5.0])).all())
    assert early.filters.min() == 0
    # In dense algebra too; data that ask for nothing are fitted.
    with pytest.raises(ValueError, match=r"2 units cannot fit|4 units cannot fit.*finite tau"):
        linearised_training(network, x, y, skip="none")
    plane = ShallowNetwork([[1.0, 0.0]], [0.0], antisymmetric=True)
    X = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 3.0]]
    with pytest.raises(ValueError, match=r"cannot fit the data.*never shrinks.*more units"):
        linearised_training(plane, X, [0.0, 1.0, 0.0, 3.0, 0.0])
    flat = linearised_training(plane, X, [1.0, 2.0, 0.0, 1.0, 0.0])  # 1 + x - y
    assert flat([[5.0, 1.0]]).tolist() == pytest.approx([5.0])
    slow = linearised_training(plane, X, [0.0, 1.0, 0.0, 3.0, 0.0], 10.0)
    assert slow.rates.numel() == 2
    assert bool(torch.isfinite(slow.output_weights).all())


def test_more_data_than_units_in_dense_algebra():
    """The modes that no unit meets have rate 0, and the others the right signs."""
    rng = np.random.default_rng(1)
    network = ShallowNetwork([[1.0, 0.0], [0.5, 1.0], [-1.0, 0.3]], [1.0, 0.5, 2.0])
    X, y = rng.standard_normal((9, 2)), rng.standard_normal(9)
    trained = linearised_training(network, X, y, [0.0, 2.0], skip="none")
    F = features_by_hand(network, X)
    r = y - network(X).numpy()
    np.testing.assert_allclose(trained.residuals[1], expm(-2.0 * F @ F.T) @ r, atol=1e-12)
    assert int((trained.rates == 0).sum()) == 6
    np.testing.assert_allclose(trained(X)[1], y - expm(-2.0 * F @ F.T) @ r, atol=1e-12)


def test_refuses_points_that_leave_the_plane_free():
    network = ShallowNetwork(*GaussianInit(1.0, 1.0).sample(50, d=2))
    line = [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    with pytest.raises(ValueError, match=r"4 points do not determine.*degree 1 in 2.*3 coeff"):
        linearised_training(network, line, [0.0, 1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"2 points do not determine"):
        linearised_training(network, line[:2], [0.0, 1.0])
    assert linearised_training(network, line, [0.0, 1.0, 0.0, 1.0], skip="none")(line).shape == (4,)


def test_refuses_derivatives_that_are_not_there():
    trained = linearised_training(NET, X3, Y3, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"order = 2.*up to order 1"):
        trained.derivative(2)
    with pytest.raises(ValueError, match=r"There are 2 networks.*one for each tau"):
        trained.network  # noqa: B018
    assert isinstance(trained, LinearisedNetwork)
    assert "tau=[1.0, 2.0]" in repr(trained)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=gpu)])
@pytest.mark.parametrize("skip", ["free", "common", "none"])
@pytest.mark.parametrize("d", [1, 2])
def test_gives_the_same_on_cuda(d, skip, device):
    rng = np.random.default_rng(d)
    w, b = GaussianInit(1.0, 1.0).sample(500, d=d)
    x, y = rng.uniform(-1, 1, (8, d) if d > 1 else 8), rng.standard_normal(8)
    points = rng.uniform(-1, 1, (20, d) if d > 1 else 20)
    here, there = (
        linearised_training(
            ShallowNetwork(w, b, seed=1).to(k), x, y, [0.0, 9.0, math.inf], skip=skip
        )
        for k in ("cpu", device)
    )
    for part in ("output_weights", "skip", "residuals", "rates", "filters"):
        one, two = getattr(here, part), getattr(there, part)
        assert two.device.type == device
        torch.testing.assert_close(two.cpu(), one, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(there(points).cpu(), here(points), rtol=1e-8, atol=1e-8)
