"""Gibbs masses against plain quadrature, and robustness against what is known of quadratics."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.limits.gibbs import crossover_temperature, gibbs_shares, robust_value
from implicit_bias.models.wells import TwoWells, noise_across
from scipy import integrate


@pytest.mark.parametrize("T", [0.03, 0.3, 2.0])
@pytest.mark.parametrize(
    "wells",
    [
        TwoWells(4.0, 1.0),
        TwoWells(4.0, 1.0, tilt=0.2, height=0.5),
        TwoWells(4.0, 1.0, powers=(2, 4)),
        TwoWells(0.3, 2.0, powers=(4, 4)),
    ],
)
def test_is_the_integral_of_the_density_in_the_plane(wells, T):
    """A midpoint rule in the plane, which is spectrally accurate for what decays smoothly."""
    x = np.linspace(-4, 4, 1601)[:-1] + 0.0025
    y = np.linspace(-25, 25, 2501)
    U = np.stack([wells(torch.from_numpy(np.stack([np.full_like(y, a), y], -1))) for a in x])
    density = np.exp(-U / T).sum(1)
    odds = math.log(density[x > 0].sum() / density[x < 0].sum())
    found = gibbs_shares(wells, T)
    # The rule ends at x = 0, where it is of second order in the spacing, 0.005.
    assert found.log_odds == pytest.approx(odds, abs=2e-5)
    assert float(found.shares.sum()) == pytest.approx(1, abs=1e-15)
    assert float(found.shares[1] / found.shares[0]) == pytest.approx(math.exp(found.log_odds))


def test_odds_grow_like_a_power_of_the_dimension():
    """Cold, equally deep: (k_left / k_right)^((D - 1) / 2), a thousand dimensions included."""
    for D in (1, 2, 5, 30, 1000):
        found = gibbs_shares(TwoWells(4.0, 1.0, dimension=D), 1e-5)
        expected = (D - 1) / 2 * math.log(4)
        assert found.laplace == pytest.approx(expected, rel=1e-12, abs=1e-12)
        # The wells are alike in x, so that nothing is left of the correction in T but D T^..., the
        # passage between the wells, which is exponentially small; what is left is rounding.
        assert found.log_odds == pytest.approx(expected, abs=1e-8)


def test_a_degenerate_well_wins_as_the_temperature_falls():
    m = 3
    wells = TwoWells(4.0, 1.0, dimension=m + 1, powers=(2, 4))
    cold, colder = (gibbs_shares(wells, T).log_odds for T in (1e-4, 1e-6))
    assert colder - cold == pytest.approx(m / 4 * math.log(100), abs=1e-8)


def test_equal_wells_share_equally_and_mirror_images_swap():
    for wells, swapped in (
        (TwoWells(2.0, 2.0, dimension=7), TwoWells(2.0, 2.0, dimension=7)),
        (TwoWells(4.0, 1.0, powers=(2, 4)), TwoWells(1.0, 4.0, powers=(4, 2))),
    ):
        for T in (1e-3, 0.5):
            a, b = gibbs_shares(wells, T).log_odds, gibbs_shares(swapped, T).log_odds
            assert a == pytest.approx(-b, abs=1e-9)


def test_flatness_is_of_the_coordinates():
    """In z = 2 y the flat well is the stiff one's equal: volumes change, minima do not."""
    before = gibbs_shares(TwoWells(4.0, 1.0, dimension=11), 0.01).log_odds
    after = gibbs_shares(TwoWells(4.0, 4.0, dimension=11), 0.01).log_odds
    assert before == pytest.approx(10 * math.log(2), abs=1e-8)
    assert after == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("D", [2, 11, 101])
def test_crossover_is_where_depth_and_volume_balance(D):
    wells = TwoWells(4.0, 1.0, dimension=D, tilt=0.02)
    T = crossover_temperature(wells)
    assert gibbs_shares(wells, T).log_odds == pytest.approx(0, abs=1e-8)
    assert pytest.approx(2 * 0.02 / ((D - 1) * math.log(4)), rel=0.01) == T
    assert gibbs_shares(wells, T / 2).log_odds < 0 < gibbs_shares(wells, 2 * T).log_odds
    mirrored = TwoWells(1.0, 4.0, dimension=D, tilt=-0.02)
    assert crossover_temperature(mirrored) == pytest.approx(T, rel=1e-9)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (1.0, 3.0), (5.0, 0.4)])
def test_law_of_uneven_noise_has_no_current(ends):
    """T (S p)' + V' p = 0 for the marginal of x divided by the volume of y, by quadrature."""
    wells, T = TwoWells(4.0, 1.0, dimension=1, tilt=0.1), 0.4
    x = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    slope, S = wells.line(x)[1].numpy(), noise_across(x, *ends).numpy()
    effort = integrate.cumulative_simpson(slope / S, dx=1e-4, initial=0)
    density = np.exp(-(effort - effort.min()) / T) / S
    odds = math.log(density[30_001:].sum() + density[30_000] / 2)
    odds -= math.log(density[:30_000].sum() + density[30_000] / 2)
    found = gibbs_shares(wells, T, noise=ends)
    assert found.log_odds == pytest.approx(odds, abs=1e-7)
    if ends == (1.0, 1.0):
        assert found.log_odds == gibbs_shares(wells, T).log_odds
    current = T * np.gradient(S * density, 1e-4) + slope * density
    # Second differences at a spacing of 1e-4.
    assert np.abs(current[1:-1]).max() < 1e-5 * density.max()


def test_cold_noise_prefers_the_quiet_well_over_the_flat_one():
    wells = TwoWells(4.0, 1.0, dimension=10)  # the right one is flatter
    assert gibbs_shares(wells, 0.02).shares[1] > 0.99
    for T in (0.02, 0.01, 0.005):
        loud = gibbs_shares(wells, T, noise=(1.0, 3.0))
        assert loud.shares[0] > 0.99
        # The integral of V'/S is not what the end's S alone says, but linear in 1/T.
        assert loud.log_odds == pytest.approx(loud.laplace, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_robust_value_of_a_quadratic_is_half_its_largest_curvature(seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((6, 6))
    A = torch.from_numpy(A + A.T)
    top = float(torch.linalg.eigvalsh(A)[-1])

    def bowl(x):
        return ((x @ A) * x).sum(-1) / 2

    assert robust_value(bowl, np.zeros(6), 0.3, starts=0) == pytest.approx(0.045 * top, rel=1e-12)


def test_robust_value_off_the_minimum_solves_the_trust_region():
    """max b.d + d.A d/2 on a ball, A diagonal: d = b/(mu - a) with |d| = radius."""
    from scipy.optimize import brentq

    a, b, rho = np.array([3.0, 1.0, -2.0]), np.array([0.3, -0.5, 0.2]), 0.7
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    mu = brentq(lambda m: np.sum((b / (m - a)) ** 2) - rho**2, 3 + 1e-9, 100, xtol=1e-14)
    d = b / (mu - a)
    found = robust_value(lambda x: x @ tb + (x * x) @ ta / 2, np.zeros(3), rho)
    assert found == pytest.approx(b @ d + d @ (a * d) / 2, rel=1e-9)


def test_robust_value_sees_interior_peaks_and_a_radius_of_zero():
    def hump(x):
        return -(x - 0.2).square().sum(-1)

    assert robust_value(hump, [0.0, 0.0], 1.0) == pytest.approx(0, abs=1e-12)
    assert robust_value(hump, [0.0, 0.0], 0.0) == pytest.approx(-0.08, rel=1e-12)


def test_volume_and_robustness_disagree():
    """Curvatures (1, 1) against (0.1, 4): the second has the volume, the first is robust."""
    wells = TwoWells((1.0, 1.0), (0.1, 4.0), height=0.05)
    left, right = (robust_value(wells, point, 0.2) for point in wells.minima)
    assert left == pytest.approx(0.5 * 0.04, rel=1e-9)
    assert right == pytest.approx(0.5 * 4 * 0.04, rel=1e-9)
    found = gibbs_shares(wells, 1e-3)
    assert found.log_odds == pytest.approx(0.5 * math.log(1 / 0.4), abs=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda w: gibbs_shares(w, 0.0), ValueError, "positive"),
        (lambda w: gibbs_shares(lambda x: x, 1.0), TypeError, "TwoWells only"),
        (lambda w: gibbs_shares(w, 1.0, noise=(1.0, 0.0)), ValueError, "two positive"),
        (lambda w: crossover_temperature(w), ValueError, "No temperature"),
        (lambda w: crossover_temperature(TwoWells(1, 4, tilt=0.1)), ValueError, "No temperature"),
        (lambda w: robust_value(w, [[1.0]], 1.0), ValueError, "one point"),
        (lambda w: robust_value(w, [1.0, 0.0], -1.0), ValueError, "not negative"),
        (lambda w: robust_value(w, [1.0, 0.0], 1e200), ValueError, "not finite"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(TwoWells(4.0, 1.0))
