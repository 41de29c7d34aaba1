"""Initialisations: densities against quadrature, draws against densities, and what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from implicit_bias.measures import as_measure
from implicit_bias.models.curvature_init import CurvatureInit
from implicit_bias.models.initialisations import BinaryUniformInit, GaussianInit, UniformInit
from implicit_bias.models.shallow import ShallowNetwork
from scipy import integrate, stats

POINTS = [-7.0, -1.3, -0.4, 0.0, 0.2, 0.9, 2.5, 30.0]
CURVED = CurvatureInit(lambda x: 1 + 10 * x**2, (-1.5, 1.0))
STEP = CurvatureInit(lambda x: np.where(x < 0.3, 1.0, 4.0), (-1.0, 2.0), kinks=(0.3,))
INITS = {
    "gaussian": GaussianInit(1.0, 1.0),
    "sharp": GaussianInit(1.3, 0.1),
    "binary": BinaryUniformInit(2.0),
    "uniform": UniformInit(0.7, 1.1),
    "curvature": CURVED,
    "step": STEP,
}
each = pytest.mark.parametrize("init", INITS.values(), ids=INITS.keys())


def quad(f, low, high, points=()):
    """An integral to 1e-13 or so, cut at the points."""
    cuts = [low, *(p for p in sorted(points) if low < p < high), high]
    return sum(
        integrate.quad(f, a, b, epsabs=0, epsrel=1e-13, limit=200)[0]
        for a, b in itertools.pairwise(cuts)
    )


def composite(f, low, high, points=()):
    """An integral by the 5-point Gauss rule on 2,000 cells; f maps arrays to arrays."""
    edges = np.unique([*np.linspace(low, high, 2001), *(p for p in points if low < p < high)])
    nodes, weights = np.polynomial.legendre.leggauss(5)
    half = np.diff(edges)[:, None] / 2
    at = edges[:-1, None] + half * (1 + nodes)
    return float((np.asarray(f(at)) * weights * half).sum())


# ---- zeta, M24 Theorem 6


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("x", POINTS)
@pytest.mark.parametrize(("sw", "sb"), [(1.0, 1.0), (1.3, 0.1), (0.2, 3.0)])
def test_gaussian_zeta_is_the_integral_of_the_joint_density(sw, sb, x, degree):
    """M24-T6-G."""

    def integrand(w):
        p = stats.norm.pdf(w, scale=sw) * stats.norm.pdf(-w * x, scale=sb)
        return abs(w) ** (2 * degree + 1) * p

    # Where the integrand lives: its width is that of the product of the two Gaussians.
    width = 1 / math.hypot(1 / sw, x / sb)
    expected = 2 * quad(integrand, 0, 14 * width, [width, 3 * width])
    assert float(GaussianInit(sw, sb).zeta(x, degree)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("x", POINTS)
@pytest.mark.parametrize(("aw", "ab"), [(1.0, 1.0), (0.7, 1.1), (3.0, 0.5)])
def test_uniform_zeta_is_the_integral_of_the_joint_density(aw, ab, x, degree):
    """M24-T6-U."""

    def integrand(w):
        return abs(w) ** (2 * degree + 1) / (4 * aw * ab) * (abs(w * x) <= ab)

    edge = ab / abs(x) if x else math.inf
    expected = quad(integrand, -aw, aw, [-edge, 0.0, edge])
    assert float(UniformInit(aw, ab).zeta(x, degree)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("x", POINTS)
def test_binary_zeta_is_the_sum_over_the_two_weights(x, degree):
    """M24-T6-BU: the integral over w of the joint law is a sum of two terms."""
    density = stats.uniform(-2.0, 4.0).pdf
    expected = sum(0.5 * abs(w) ** (2 * degree + 1) * density(-w * x) for w in (-1.0, 1.0))
    assert float(BinaryUniformInit(2.0).zeta(x, degree)) == pytest.approx(expected, rel=1e-14)


def test_zeta_is_constant_where_theorem_6_says_so():
    inside = torch.linspace(-1.5, 1.5, 50, dtype=torch.float64)
    for init in (BinaryUniformInit(1.5), UniformInit(2.0, 3.0)):
        zeta = init.zeta(inside)
        torch.testing.assert_close(zeta, zeta[0].expand(50), rtol=1e-15, atol=0)
    # The control: beyond a_b/a_w the uniform one falls like x^-4.
    outside = UniformInit(2.0, 3.0).zeta([3.0, 6.0])
    assert float(outside[0] / outside[1]) == pytest.approx(16, rel=1e-14)
    assert float(BinaryUniformInit(1.5).zeta(1.51)) == 0


@each
def test_breakpoints_have_a_probability_density(init):
    low, high = init.support or (-math.inf, math.inf)
    inner = (max(low, -50.0), min(high, 50.0))
    total = composite(init.breakpoints, *inner, [*init.kinks, *np.linspace(-1, 1, 200)])
    if init.support is None:  # the tails, in 1/x
        total += sum(
            composite(lambda u, s=s: init.breakpoints(s / u).numpy() / u**2, 0, 0.02)
            for s in (-1, 1)
        )
    assert total == pytest.approx(1, rel=1e-9)


# ---- draws


@each
def test_histogram_of_breakpoints_follows_the_density(init):
    """M24-BP: chi-square over cells of equal width, tails in the outermost."""
    w, b = init.sample(20_000, seed=7)
    c = (-b / w).numpy()
    low, high = init.support or (-3.0, 3.0)
    edges = np.linspace(low, high, 25)
    mass = [composite(init.breakpoints, a, e, init.kinks) for a, e in itertools.pairwise(edges)]
    counts = np.histogram(c, edges)[0]
    expected = 20_000 * np.array([*mass, max(1 - sum(mass), 0)])
    observed = np.array([*counts, 20_000 - counts.sum()])
    used = expected > 5
    assert observed[~used].sum() <= 20
    chi = ((observed - expected)[used] ** 2 / expected[used]).sum()
    # One in ten thousand fixed seeds would fail.
    assert stats.chi2.sf(chi, used.sum() - 1) > 1e-4
    # The control: another density.
    wrong = np.roll(expected[used], 7)
    assert stats.chi2.sf(((observed[used] - wrong) ** 2 / wrong).sum(), used.sum() - 1) < 1e-9 or (
        np.ptp(expected[used]) < 1e-9 * expected.max()
    )


CDFS = {
    "gaussian": stats.cauchy(scale=1.0).cdf,
    "sharp": stats.cauchy(scale=0.1 / 1.3).cdf,
    "binary": stats.uniform(-2.0, 4.0).cdf,
    "curvature": lambda x: (
        (np.arctan(x * math.sqrt(10)) - math.atan(-1.5 * math.sqrt(10)))
        / (math.atan(math.sqrt(10)) - math.atan(-1.5 * math.sqrt(10)))
    ),
}


@pytest.mark.parametrize("name", CDFS)
def test_breakpoints_follow_the_distribution_function(name):
    w, b = INITS[name].sample(50_000, seed=3)
    assert stats.kstest((-b / w).numpy(), CDFS[name]).pvalue > 1e-3
    assert stats.kstest((-b / w).numpy() + 0.05, CDFS[name]).pvalue < 1e-9


@pytest.mark.parametrize("k", [1, 2, 3])
@each
def test_empirical_measure_converges_to_zeta(init, k):
    """Integrals against bounded functions: within 4 standard errors, which fall like n^-1/2."""
    support = init.support or (-6.0, 6.0)
    for f in (np.cos, lambda x: np.exp(-(x**2))):
        expected = composite(lambda x, f=f: init.zeta(x, k).numpy() * f(x), *support, init.kinks)
        for n in (4000, 64_000):
            w, b = init.sample(n, seed=n + k)
            kept = (-b / w).abs() <= 6
            measure = ShallowNetwork(w[kept], b[kept], ["relu", "relu2", "relu3"][k - 1]).measure()
            terms = measure.weights.numpy() * int(kept.sum()) * f(measure.positions.numpy())
            terms = np.append(terms, np.zeros(n - terms.size))
            assert abs(terms.mean() - expected) <= 4 * terms.std() / math.sqrt(n) + 1e-12


@each
def test_equal_seeds_give_equal_units(init):
    one, two, other = (init.sample(100, seed) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[1], other[1])
    assert all(t.dtype == torch.float64 and t.shape == (100,) for t in one)


def test_several_inputs():
    w, b = BinaryUniformInit(2.0).sample(20_000, seed=1, d=3)
    torch.testing.assert_close(w.norm(dim=1), torch.ones(20_000).double())
    # Uniform on the sphere: mean 0 and covariance I/3, to sampling error.
    assert float(w.mean(0).abs().max()) < 0.02
    assert float((w.T @ w / 20_000 - torch.eye(3) / 3).abs().max()) < 0.02
    assert float(b.abs().max()) <= 2
    w, b = GaussianInit(2.0, 1.0).sample(20_000, seed=1, d=2)
    assert float((w.T @ w / 20_000 - 4 * torch.eye(2)).abs().max()) < 0.15
    w, b = UniformInit(2.0, 1.0).sample(1000, d=2)
    assert w.shape == (1000, 2)
    assert float(w.abs().max()) <= 2


@each
def test_an_initialisation_is_a_measure(init):
    measure = as_measure(init)
    x = torch.tensor([-0.7, 0.1, 0.4], dtype=torch.float64)
    assert torch.equal(measure(x), init.zeta(x))
    assert measure.support == init.support
    assert measure.kinks == init.kinks
    assert torch.equal(init.measure(3)(x), init.zeta(x, 3))


# ---- any penalty, M24 Proposition 7

PENALTIES = {
    "quadratic": (lambda x: 1 + 10 * x**2, (-1.0, 1.0), ()),
    "torch": (lambda x: torch.exp(-2 * x), (-1.0, 3.0), ()),
    "kink": (lambda x: 0.01 + np.abs(x - 0.2), (-1.0, 1.0), ()),
    "jump": (lambda x: np.where(x < 0.1, 1.0, 30.0), (-1.0, 1.0), ()),
    "steep": (lambda x: np.exp(60 * x**2), (-2.0, 2.0), ()),
    "spike": (lambda x: 1e-6 + (x - 0.3) ** 2, (-1.0, 1.0), ()),
    "constant": (lambda x: 3.0, (5.0, 7.0), ()),
    "waves": (lambda x: 2 + np.sin(40 * x), (-1.0, 1.0), ()),
}
penalties = pytest.mark.parametrize("name", PENALTIES)


@penalties
def test_zeta_is_in_proportion_to_one_over_the_penalty(name):
    penalty, interval, kinks = PENALTIES[name]
    init = CurvatureInit(penalty, interval, kinks)
    x = np.linspace(*interval, 101)
    rho = np.broadcast_to(np.asarray(penalty(torch.from_numpy(x) if name == "torch" else x)), 101)
    for k in (0, 1, 2, 3):
        np.testing.assert_allclose(init.zeta(x, k).numpy() * rho * init.Z, np.ones(101), rtol=1e-14)
    cuts = [*np.linspace(0.29, 0.31, 4001), 0.1, 0.2]

    def inverse(t):
        rho = np.asarray(penalty(torch.from_numpy(t) if name == "torch" else t))
        return np.broadcast_to(1 / rho, t.shape)

    assert pytest.approx(composite(inverse, *interval, cuts), rel=1e-11) == init.Z
    assert init.zeta([interval[0] - 1e-9, interval[1] + 1e-9]).tolist() == [0, 0]


@penalties
def test_breakpoints_of_a_penalty_follow_its_distribution_function(name):
    penalty, interval, kinks = PENALTIES[name]
    init = CurvatureInit(penalty, interval, kinks)
    w, b = init.sample(4000, seed=2)
    c = np.sort((-b / w).numpy())
    assert interval[0] <= c[0]
    assert c[-1] <= interval[1]
    # The masses between neighbours, by a trapezium rule that is blind to how c was made.
    grid = np.unique(np.concatenate([c, np.linspace(*interval, 400_001)]))
    values = init.breakpoints(grid).numpy()
    mass = integrate.cumulative_trapezoid(values, grid, initial=0)
    u = np.interp(c, grid, mass)
    assert mass[-1] == pytest.approx(1, abs=1e-4)
    assert stats.kstest(u, stats.uniform.cdf).pvalue > 1e-3


def test_quantiles_are_exact():
    """With the penalty 1 + x^2 on (-1, 1) the breakpoints are tan((2u - 1) pi/4)."""
    w, b = CurvatureInit(lambda x: 1 + x**2, (-1.0, 1.0)).sample(120_000, seed=4)
    rng = np.random.default_rng(4)
    sign, u = 2.0 * rng.integers(0, 2, 120_000) - 1, rng.random(120_000)
    np.testing.assert_array_equal(w, sign)
    np.testing.assert_allclose(-b / w, np.tan((2 * u - 1) * math.pi / 4), atol=1e-14)


def test_moments_that_proposition_7_needs_are_there():
    w, b = CURVED.sample(10_000)
    assert float((w**4).mean()) == 1
    assert float(b.abs().max()) <= 1.5
    # The control: 1 + x^2 on the whole line makes B Cauchy, and its largest of order n.
    c = np.random.default_rng(0).standard_cauchy(10_000)
    assert np.abs(c).max() > 1000


# ---- what is refused


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 1e40])
@pytest.mark.parametrize(
    "build",
    [
        lambda a: GaussianInit(a, 1.0),
        lambda a: GaussianInit(1.0, a),
        lambda a: BinaryUniformInit(a),
        lambda a: UniformInit(a, 1.0),
        lambda a: UniformInit(1.0, a),
    ],
)
def test_refuses_scales(build, bad):
    with pytest.raises(ValueError, match=r"not a number between 1e-30 and 1e30.*breakpoints"):
        build(bad)


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ((1.0, 1.0), r"two numbers \(low, high\)"),
        ((1.0, 0.0), r"two numbers \(low, high\)"),
        ((0.0, math.nan), r"two numbers \(low, high\)"),
        ((0.0, 1.0, 2.0), r"two numbers \(low, high\)"),
        ((0.0, math.inf), r"unbounded.*not sub-Gaussian.*Cauchy.*bounded interval"),
        ((-math.inf, math.inf), r"unbounded.*not sub-Gaussian.*Cauchy.*bounded interval"),
    ],
)
def test_refuses_intervals(interval, message):
    with pytest.raises(ValueError, match=message):
        CurvatureInit(lambda x: 1 + x**2, interval)


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (lambda x: x, r"penalty\(-1\) = -1.*positive and finite.*Shorten"),
        (lambda x: x * 0, r"= -?0.*positive and finite.*Shorten"),
        (lambda x: x * math.nan, r"= nan.*positive and finite.*Shorten"),
        (lambda x: 1 + 0 * x + math.inf, r"= inf.*positive and finite.*Shorten"),
        (lambda x: np.ones(3), r"shape \(3,\).*one number for each"),
        (lambda x: np.abs(x) + 1e-140, r"no integral.*near x = .*too close to zero.*Bound it away"),
        (lambda x: (x - 1 / 3) ** 2 + 1e-149, r"no integral.*Bound it away from zero"),
    ],
)
def test_refuses_penalties(penalty, message):
    with pytest.raises(ValueError, match=message):
        CurvatureInit(penalty, (-1.0, 1.0))


def test_refuses_what_is_no_function():
    with pytest.raises(TypeError, match=r"penalty is a float, not a function.*lambda"):
        CurvatureInit(2.0, (-1.0, 1.0))


def test_refuses_arguments():
    init = BinaryUniformInit(1.0)
    with pytest.raises(ValueError, match=r"n = 0 is too small"):
        init.sample(0)
    with pytest.raises(TypeError, match=r"n = 1.5 is not an integer"):
        init.sample(1.5)
    with pytest.raises(ValueError, match=r"seed = -1 is too small"):
        init.sample(3, -1)
    with pytest.raises(ValueError, match=r"d = 2.*function on the line.*one input"):
        CURVED.sample(3, d=2)
    with pytest.raises(ValueError, match=r"degree = -1 is too small"):
        init.zeta(0.0, -1)
    with pytest.raises(ValueError, match=r"x has a NaN"):
        init.zeta(math.nan)
