"""Lines and rank correlations, against SciPy, formulas and known answers."""

import itertools
import math

import numpy as np
import pytest
from implicit_bias.evidence.relation import (
    _resamples,
    _spearmans,
    _taus,
    kendall,
    linear_relation,
    partial_rank_correlation,
)
from scipy import stats


def scattered(n=30, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    b = a + rng.normal(size=n)
    return (a, b) if decimals is None else (a.round(decimals), b.round(decimals))


# ---- the line


@pytest.mark.parametrize("seed", range(5))
def test_the_line_is_the_least_squares_one(seed):
    x, y = scattered(seed=seed)
    line = linear_relation(x, y)
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - slope * x - intercept
    # Both solve a system of condition number near 1.
    assert line.slope == pytest.approx(slope, rel=1e-12)
    assert line.intercept == pytest.approx(intercept, rel=1e-12, abs=1e-13)
    assert line.rmse == pytest.approx(math.sqrt((rest**2).sum() / 28), rel=1e-12)
    assert line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-12)
    # The usual formula: one minus the ratio of the two variances without bias.
    unbiased = 1 - line.rmse**2 / y.var(ddof=1)
    assert line.adjusted_r2 == pytest.approx(unbiased, rel=1e-12)
    assert line(2.0) == line.slope * 2 + line.intercept
    assert line.n == 30


def test_no_other_line_is_closer():
    x, y = scattered()
    line = linear_relation(x, y)

    def error(slope, intercept):
        return ((y - slope * x - intercept) ** 2).sum()

    best = error(line.slope, line.intercept)
    for a, b in itertools.product([-1e-3, 0, 1e-3], repeat=2):
        assert error(line.slope + a, line.intercept + b) >= best


@pytest.mark.parametrize("spread", [1.0, 1e-5, 1e-9])
def test_keeps_its_digits_where_all_points_are_near_one(spread):
    """Normalised losses: all near log 10."""
    x, y = scattered()
    centre = math.log(10)
    near = linear_relation(centre + spread * x, centre + spread * y)
    far = linear_relation(x, y)
    # The points are rounded by 4e-16: relative to their spread, as much as that over it.
    tol = 1e-12 + 1e-14 / spread
    assert near.slope == pytest.approx(far.slope, rel=tol)
    assert near.r2 == pytest.approx(far.r2, rel=tol)
    assert near.rmse == pytest.approx(spread * far.rmse, rel=tol)
    assert near(centre) == pytest.approx(centre + spread * far.intercept, abs=tol * spread + 1e-14)


@pytest.mark.parametrize("size", [1e-200, 1e-100, 1e100, 1e150])
def test_sizes_do_not_matter(size):
    x, y = scattered()
    one, other = linear_relation(x, y), linear_relation(size * x, size * y)
    assert other.slope == pytest.approx(one.slope, rel=1e-12)
    assert other.r2 == pytest.approx(one.r2, rel=1e-12)
    assert other.rmse == pytest.approx(size * one.rmse, rel=1e-12)


def test_a_perfect_line_is_perfect():
    x = np.array([0.5, 1.0, 3.0, 4.0])
    line = linear_relation(x, 1.0083 * x - 0.0191)
    assert line.slope == pytest.approx(1.0083, rel=1e-14)
    assert line.intercept == pytest.approx(-0.0191, rel=1e-12)
    assert line.r2 == pytest.approx(1, abs=1e-15)
    assert line.rmse < 1e-15


def test_a_line_that_explains_nothing():
    line = linear_relation([-1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (line.slope, line.r2) == (0.0, 0.0)
    assert line.adjusted_r2 == -1.0  # of three points two parameters fit that much by chance


# ---- Kendall's tau


@pytest.mark.parametrize("decimals", [None, 0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_tau_is_the_count_of_pairs(decimals, seed):
    a, b = scattered(12, seed, decimals)
    agree = sum(
        np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in itertools.combinations(range(12), 2)
    )
    untied = [sum(v[i] != v[j] for i, j in itertools.combinations(range(12), 2)) for v in (a, b)]
    found = kendall(a, b, repeats=100)
    assert found.tau == pytest.approx(agree / math.sqrt(untied[0] * untied[1]), rel=1e-14)
    assert found.value == found.tau
    assert found.tau == pytest.approx(stats.kendalltau(a, b).statistic, rel=1e-14)


@pytest.mark.parametrize("decimals", [None, 0])
def test_resamples_have_the_correlations_that_scipy_gives_them(decimals):
    a, b = scattered(15, decimals=decimals)
    counts = _resamples(15, 50, seed=3)
    taus, spearmans = _taus(a, b, counts), _spearmans(a, b, counts)
    assert (counts.sum(1) == 15).all()
    for row, tau, r in zip(counts.astype(int), taus, spearmans, strict=True):
        x, y = np.repeat(a, row), np.repeat(b, row)
        assert tau == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-14)
        assert r == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-14)


def test_the_interval_is_that_of_scipys_bootstrap():
    a, b = scattered(20)
    ours = kendall(a, b, repeats=4000, seed=1)
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y: stats.kendalltau(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1500,
        method="percentile",
        rng=2,
    ).confidence_interval
    # An end of a 95 % interval from 1,500 draws has a standard error of about .006 here.
    assert ours.interval[0] == pytest.approx(theirs.low, abs=0.03)
    assert ours.interval[1] == pytest.approx(theirs.high, abs=0.03)


def test_the_interval_covers_about_as_often_as_it_says():
    """Normal variables of correlation .6: tau is 2/pi arcsin .6."""
    rng = np.random.default_rng(0)
    truth = 2 / math.pi * math.asin(0.6)
    hits = 0
    for _ in range(200):
        a = rng.normal(size=30)
        b = 0.6 * a + 0.8 * rng.normal(size=30)
        low, high = kendall(a, b, repeats=200, level=0.9).interval
        hits += low <= truth <= high
    # 180 expected, standard deviation 4; percentile intervals of 30 points cover somewhat less.
    assert 160 <= hits <= 195


def test_order_alone_matters_and_signs_turn_it_round():
    a, b = scattered()
    found = kendall(a, b)
    assert kendall(np.exp(a), b**3) == found
    assert kendall(b, a).tau == found.tau
    turned = kendall(a, -b)
    assert turned.tau == -found.tau
    # Quantiles turned round: interpolation rounds differently.
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=1e-14)


def test_repeats_itself_and_changes_with_the_seed():
    a, b = scattered()
    assert kendall(a, b, seed=4) == kendall(a, b, seed=4)
    assert kendall(a, b, seed=4).interval != kendall(a, b, seed=5).interval
    assert kendall(a, b, seed=4).tau == kendall(a, b, seed=5).tau


def test_a_wider_interval_for_more_confidence_and_for_fewer_networks():
    def width(n, level):
        low, high = kendall(*scattered(n), level=level).interval
        return high - low

    assert width(30, 0.5) < width(30, 0.95) < width(30, 0.99)
    assert width(100, 0.95) < width(30, 0.95)


def test_perfect_agreement_leaves_no_width():
    found = kendall(range(10), range(10))
    assert (found.tau, found.interval, found.undefined) == (1.0, (1.0, 1.0), 0)


def test_resamples_without_a_correlation_are_counted():
    # a varies in one network of six: (5/6)^6 = .335 of the resamples leave it out, and as few
    # hold nothing else.
    found = kendall([0, 0, 0, 0, 0, 1], range(6), repeats=10_000)
    assert found.undefined == pytest.approx(3350, abs=5 * math.sqrt(10_000 * 0.335 * 0.665))
    with pytest.raises(ValueError, match=r"Only \d+ of 100 resamples have a correlation"):
        kendall([0, 0, 0, 0, 0, 1], range(6), repeats=100)


# ---- given a third


@pytest.mark.parametrize("seed", range(5))
def test_partial_spearman_is_the_correlation_of_what_lines_in_the_ranks_leave(seed):
    rng = np.random.default_rng(seed)
    g = rng.normal(size=40)
    a, b = g + rng.normal(size=(2, 40))
    ranks = [stats.rankdata(v) for v in (a, b, g)]
    left = [v - np.polyval(np.polyfit(ranks[2], v, 1), ranks[2]) for v in ranks[:2]]
    found = partial_rank_correlation(a, b, g, repeats=100)
    # Two formulas for one number; a polynomial fit of ranks up to 40 loses two digits.
    assert found.value == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-13)
    assert found.method == "spearman"


def test_partial_kendall_by_hand():
    a, b, g = [1, 2, 3, 4, 5], [1, 2, 4, 3, 5], [2, 1, 3, 4, 5]
    # One pair of ten is turned in ab (.8) and in ag (.8), two in bg (.6).
    found = partial_rank_correlation(a, b, g, method="kendall")
    assert found.value == pytest.approx((0.8 - 0.48) / math.sqrt(0.36 * 0.64), rel=1e-14)
    assert found.tau == found.value


def test_spearman_clears_what_the_third_explains_and_kendall_does_not():
    """Independent given g, correlation .9 with it: the limits in the module's first lines."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=1500)
    a, b = 0.9 * g + math.sqrt(0.19) * rng.normal(size=(2, 1500))

    def limit(correlation):
        r, s = correlation(0.9), correlation(0.81)
        return (s - r**2) / (1 - r**2)

    kendalls = limit(lambda r: 2 / math.pi * math.asin(r))
    spearmans = limit(lambda r: 6 / math.pi * math.asin(r / 2))
    assert (round(kendalls, 2), round(spearmans, 2)) == (0.19, 0.01)
    # Standard errors: 1/sqrt(1500) = .026, less for tau.
    by = {
        m: partial_rank_correlation(a, b, g, 100, method=m).value for m in ("kendall", "spearman")
    }
    assert by["kendall"] == pytest.approx(kendalls, abs=0.06)
    assert by["spearman"] == pytest.approx(spearmans, abs=0.08)


def test_what_the_third_does_not_touch_stays():
    rng = np.random.default_rng(1)
    g = rng.normal(size=200)
    a = rng.normal(size=200)
    b = a + 0.3 * rng.normal(size=200)
    found = partial_rank_correlation(a, b, g)
    plain = stats.spearmanr(a, b).statistic
    assert found.value == pytest.approx(plain, abs=0.02)  # r_ag, r_bg are of order .07
    assert found.interval[0] > 0.8


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_a_third_that_fixes_one_of_them_leaves_nothing(method):
    a, b = scattered(25)
    for arguments in [(a, b, np.exp(a)), (a, b, -b)]:
        with pytest.raises(ValueError, match="fixes the ranks of a or b entirely"):
            partial_rank_correlation(*arguments, method=method)
    # One pair exchanged is enough for an answer.
    g = np.argsort(np.argsort(a)).astype(float)
    i, j = np.flatnonzero(g == 10)[0], np.flatnonzero(g == 11)[0]
    g[[i, j]] = g[[j, i]]
    found = partial_rank_correlation(a, b, g, method=method)
    assert -1 <= found.interval[0] <= found.interval[1] <= 1
    assert found.undefined > 0  # resamples without both of the pair


# ---- refusals


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linear_relation([1.0, 2.0], [1.0, 2.0]), ValueError, "train, test need.*for 3"),
        (lambda: linear_relation([1, 2, 3], [1, 2]), ValueError, r"got shapes \(3,\), \(2,\)"),
        (lambda: linear_relation([[1, 2, 3]], [[1, 2, 4]]), ValueError, r"\(1, 3\), \(1, 3\)"),
        (lambda: linear_relation([1, 1, 1], [1, 2, 3]), ValueError, r"All entries of train are 1"),
        (lambda: linear_relation([1, 2, 3], [2, 2, 2]), ValueError, r"All entries of test are 2"),
        (lambda: linear_relation([1, 2, math.nan], [1, 2, 3]), ValueError, "train has a NaN"),
        (lambda: linear_relation([1, 2, 3], [1, 2, math.inf]), ValueError, "test has a NaN or inf"),
        (lambda: linear_relation([1, 2, 3], [1, 2, 3j]), TypeError, "test is complex"),
        (
            lambda: linear_relation([0, 1e-300, 3e-300], [0, 1e300, 1e299]),
            ValueError,
            "train varies by 3e-300 and test by 1e.300: .* leaves float64. Divide",
        ),
        (lambda: kendall([1, 2, 3], [1, 2, 3]), ValueError, "a, b need.*for 4 networks"),
        (lambda: kendall([1] * 4, range(4)), ValueError, "All entries of a are 1.*Pass networks"),
        (lambda: kendall(range(4), range(4), repeats=99), ValueError, "repeats = 99 is too small"),
        (lambda: kendall(range(4), range(4), seed=-1), ValueError, "seed = -1 is too small"),
        (lambda: kendall(range(4), range(4), repeats=1e3), TypeError, "repeats = 1000.0 is not"),
        (lambda: kendall(range(4), range(4), level=95), ValueError, "level = 95 is not"),
        (lambda: kendall(range(4), [1, 2, math.nan, 3]), ValueError, "b has a NaN"),
        (
            lambda: partial_rank_correlation(range(5), range(5), range(4)),
            ValueError,
            r"a, b, given need.*for 5.*\(4,\)",
        ),
        (
            lambda: partial_rank_correlation(*scattered(9), [1] * 9),
            ValueError,
            "All entries of given are 1",
        ),
        (
            lambda: partial_rank_correlation(*scattered(9), range(9), method="pearson"),
            ValueError,
            "method = 'pearson'; pass 'spearman'",
        ),
        (
            lambda: partial_rank_correlation(*scattered(9), range(9)).tau,
            AttributeError,
            "Spearman's correlation, not a tau",
        ),
    ],
)
def test_refuses_and_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
