"""Max margin: optimality conditions, answers known by hand, other solvers, proofs of failure."""

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from implicit_bias.limits import polish
from implicit_bias.limits.conic import fourier_groups, newton_nuclear
from implicit_bias.limits.margin import _residual, max_margin
from implicit_bias.norms import PowerNorm, as_norm, margin
from implicit_bias.problems import Classification, Regression
from implicit_bias.records import NotSeparable
from sklearn.svm import SVC

K3 = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 3.0]])
SMOOTH = [1.05, 1.5, 2, 3, 10]


def separable(n, d, kind="plain", seed=0, scale=1.0):
    """Separable data with random labels; the kinds are the ways in which they degenerate."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(d)
    Z = rng.standard_normal((n, d))
    Z *= np.sign(Z @ w)[:, None]
    if kind == "duplicates":
        Z = np.vstack([Z, Z[: max(1, n // 2)]])
    if kind == "nearly dependent":
        Z = np.vstack([Z, Z + 1e-9 * rng.standard_normal(Z.shape)])
    if kind == "all active":  # n may exceed d, and then most multipliers can be zero
        Z = Z + np.outer(1 - Z @ w, w) / (w @ w)
        Z = np.vstack([Z, (Z[:1] + Z[-1:]) / 2])
    if kind == "lengths":
        Z = Z * np.exp(rng.standard_normal((len(Z), 1)))
    y = rng.choice([-1.0, 1.0], len(Z))
    return Classification(scale * y[:, None] * Z, y)


KINDS = ["plain", "duplicates", "nearly dependent", "all active", "lengths"]


def check(problem, norm, limit, tol):
    """Feasible, complementary, and stationary: Z^T dual = |x| * subgradient, sum dual = |x|^2."""
    form = as_norm(norm, problem.d)
    margins = problem.y * (problem.X @ limit.x)
    pulled = problem.X.T @ (problem.y * limit.dual)
    size = limit.objective
    assert limit.x.dtype == limit.dual.dtype == torch.float64
    assert limit.dual.shape == problem.y.shape
    assert limit.status == "separates"
    assert size == pytest.approx(form.value(limit.x), rel=1e-14)
    assert float(margins.min()) == pytest.approx(1, abs=tol)
    assert bool((limit.dual >= 0).all())
    # |g|_* = |x| and <g, x> = |x|^2 say that g / |x| is a subgradient of the norm at x.
    assert form.dual(pulled) == pytest.approx(size, rel=tol)
    assert float((pulled * limit.x).sum()) == pytest.approx(size**2, rel=tol)
    assert float(limit.dual.sum()) == pytest.approx(size**2, rel=tol)
    slackness = limit.dual * (margins - 1) / size**2
    assert float(slackness.abs().max()) <= tol
    assert 0 <= limit.residual <= tol
    assert margin(problem, limit.x, norm) == pytest.approx(1 / size, rel=tol)


# ---- the Euclidean norm


def test_300_random_problems(capsys):
    """Rounding alone: it grows with (longest row) / margin, here up to some 1e4."""
    worst = (0.0, None)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        largest = math.log(300) if seed % 20 == 0 else math.log(60)
        n, d = np.exp(rng.uniform(math.log(2), largest, 2)).astype(int)
        kind, scale = KINDS[seed % len(KINDS)], 10.0 ** rng.integers(-6, 7)
        limit = max_margin(separable(n, d, kind, seed, scale))
        worst = max(worst, (limit.residual, (int(n), int(d), kind, seed)))
    with capsys.disabled():
        print(f"\nworst residual of 300 Euclidean margins: {worst[0]:.1e} at {worst[1]}")
    assert worst[0] <= 1e-11


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-60, 1e-6, 1.0, 1e6, 1e60])
def test_euclidean_conditions(kind, scale):
    for seed, (n, d) in enumerate([(2, 2), (10, 3), (30, 10), (8, 30), (1, 4)]):
        problem = separable(n, d, kind, seed, scale)
        limit = max_margin(problem)
        check(problem, 2, limit, 1e-11)
        combination = problem.Z.T @ limit.dual
        assert float((combination - limit.x).abs().max()) <= 1e-12 * float(limit.x.abs().max())


@pytest.mark.parametrize(("n", "d"), [(20, 3), (40, 12), (15, 40)])
def test_agrees_with_scikit_learn(n, d):
    """LIBSVM fits an intercept; data mirrored through the origin have none. It gives six digits."""
    problem = separable(n, d, seed=5)
    Z = problem.Z.numpy()
    mirrored, labels = np.vstack([Z, -Z]), np.repeat([1, -1], n)
    svm = SVC(kernel="linear", C=1e10, tol=1e-12).fit(mirrored, labels)
    np.testing.assert_allclose(svm.intercept_, 0, atol=1e-6)
    limit = max_margin(problem)
    assert np.linalg.norm(limit.x.numpy() - svm.coef_[0]) <= 1e-6 * limit.objective


def smallest_by_enumeration(Z):
    """The shortest feasible of all w that some rows, as equations, determine."""
    best = None
    for size in range(1, min(Z.shape) + 1):
        for rows in itertools.combinations(range(len(Z)), size):
            w = np.linalg.pinv(Z[list(rows)]) @ np.ones(size)
            feasible = (Z @ w).min() >= 1 - 1e-9
            if feasible and (best is None or w @ w < best @ best):
                best = w
    return best


@pytest.mark.parametrize("seed", range(30))
def test_agrees_with_enumeration(seed):
    problem = separable(6, 2 + seed % 4, KINDS[seed % 2], seed)
    expected = smallest_by_enumeration(problem.Z.numpy())
    np.testing.assert_allclose(max_margin(problem).x, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", range(10))
def test_a_bad_guess_of_the_active_set_is_mended(seed, monkeypatch):
    """Rows enter and leave until the conditions hold, whatever non-negative least squares said."""
    problem = separable(25, 8, KINDS[seed % 4], seed)
    expected = max_margin(problem)
    n = problem.n

    def guess(A, b):
        u = np.zeros(n)
        u[np.random.default_rng(seed).integers(n, size=3)] = 1.0
        return u, 0.1

    monkeypatch.setattr(polish, "_lawson_hanson", guess)
    limit = max_margin(problem)
    torch.testing.assert_close(limit.x, expected.x, rtol=0, atol=1e-10 * limit.objective)
    assert limit.residual <= 1e-11


def test_one_and_two_points():
    z = torch.tensor([3.0, -4.0]).double()
    limit = max_margin(Classification(z[None], [1]))
    torch.testing.assert_close(limit.x, z / 25, rtol=1e-15, atol=0)
    assert limit.dual.tolist() == pytest.approx([1 / 25], rel=1e-15)
    # Orthogonal points: each is answered by itself. The short one dominates.
    limit = max_margin(Classification([[2.0, 0.0], [0.0, -0.1]], [1, -1]))
    assert limit.x.tolist() == pytest.approx([0.5, 10.0], rel=1e-14)
    # A point that is farther along the same ray is no support vector.
    limit = max_margin(Classification([[1.0, 1.0], [3.0, 3.0]], [1, 1]))
    assert limit.dual.tolist() == pytest.approx([0.5, 0.0], rel=1e-15)


# ---- other norms


@pytest.mark.parametrize("kind", ["plain", "duplicates", "all active", "lengths"])
@pytest.mark.parametrize("norm", [1, 1.05, 1.5, 3, 10, math.inf, "fourier", "matrix"], ids=str)
def test_conditions_in_every_norm(norm, kind):
    for seed, (n, d) in enumerate([(10, 4), (20, 9), (8, 25)]):
        problem = separable(n, d, kind, seed + 1, [1e-6, 1.0, 1e6][seed])
        rng = np.random.default_rng(seed)
        B = rng.standard_normal((d, d))
        form = B @ B.T + np.eye(d) if isinstance(norm, str) and norm == "matrix" else norm
        check(problem, form, max_margin(problem, form), 1e-10)


@pytest.mark.parametrize("norm", [1, 1.05, 1.5, 2, 3, math.inf, "fourier"], ids=str)
def test_nearly_dependent_rows(norm):
    """Rows 1e-9 apart: which of them are active is decided beyond the solver's digits."""
    problem = separable(12, 8, "nearly dependent", 3)
    check(problem, norm, max_margin(problem, norm), 1e-8)


@pytest.mark.parametrize("p", SMOOTH)
def test_smooth_norms_are_stationary(p):
    """For 1 < p < inf the subgradient is a gradient: |x_j|^(p-1) sign x_j, up to a factor."""
    problem = separable(20, 10, seed=2)
    limit = max_margin(problem, p)
    gradient = limit.x.sign() * (limit.x.abs() / limit.objective) ** (p - 1) * limit.objective
    torch.testing.assert_close(problem.Z.T @ limit.dual, gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", [1, 1.5, 4, math.inf], ids=str)
def test_agrees_with_convex_solver(norm):
    """Clarabel's own word, to its own tolerance, in a form without scaling and polish."""
    problem = separable(15, 6, seed=8)
    w = cp.Variable(6)
    other = cp.Problem(cp.Minimize(cp.pnorm(w, norm)), [problem.Z.numpy() @ w >= 1])
    other.solve(solver="CLARABEL")
    assert max_margin(problem, norm).objective == pytest.approx(other.value, rel=1e-6)


def test_l1_picks_a_coordinate_and_the_largest_entry_picks_signs():
    problem = Classification([[3.0, -4.0, 1.0]], [1])
    assert max_margin(problem, 1).x.tolist() == pytest.approx([0, -0.25, 0], abs=1e-15)
    assert max_margin(problem, math.inf).x.tolist() == pytest.approx([0.125, -0.125, 0.125])
    # One point z, any p: |w| = 1 / |z|_q.
    for p in SMOOTH:
        limit = max_margin(problem, p)
        assert limit.objective == pytest.approx(1 / PowerNorm(p).dual(problem.Z[0]), rel=1e-12)


def test_power_norms_are_continuous_in_p():
    problem = separable(12, 5, seed=4)
    sizes = [max_margin(problem, p).objective for p in (1, 1.001, 1.2, 2, 4, 100, math.inf)]
    assert all(a >= b for a, b in itertools.pairwise(sizes))  # the p-norm falls as p grows
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-2)
    assert sizes[-1] == pytest.approx(sizes[-2], rel=3e-2)
    assert max_margin(problem, 2 + 1e-9).objective == pytest.approx(sizes[3], rel=1e-8)


def test_a_quadratic_norm_is_a_change_of_variables():
    problem = separable(10, 3, seed=6)
    limit = max_margin(problem, K3)
    check(problem, K3, limit, 1e-12)
    root = np.linalg.cholesky(K3)  # v = root^T w
    other = max_margin(Classification(problem.X.numpy() @ np.linalg.inv(root).T, problem.y))
    np.testing.assert_allclose(root.T @ limit.x.numpy(), other.x, rtol=1e-12)
    np.testing.assert_allclose(limit.dual, other.dual, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(K3 @ limit.x.numpy(), problem.Z.T @ limit.dual, rtol=1e-12)
    plain = max_margin(problem, np.eye(3))
    torch.testing.assert_close(plain.x, max_margin(problem).x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, math.inf, "fourier", K3], ids=str)
def test_data_that_grow_make_weights_that_shrink(norm):
    problem = separable(10, 3, seed=7)
    once = max_margin(problem, norm)
    for c in (1e-50, 1e-3, 7.0, 1e50):
        scaled = max_margin(Classification(c * problem.X, problem.y), norm)
        torch.testing.assert_close(c * scaled.x, once.x, rtol=1e-10, atol=1e-11)
        assert c * scaled.objective == pytest.approx(once.objective, rel=1e-12)


def test_fourier_in_the_frequency_domain():
    """One wave z of frequency k: |w| = 1 / max |z_hat|, reached by the wave itself."""
    d, k = 12, 3
    z = np.cos(2 * np.pi * k * np.arange(d) / d + 0.4)
    limit = max_margin(Classification(z[None], [1]), "fourier")
    np.testing.assert_allclose(limit.x, z / (z @ z), atol=1e-12)
    # Of two waves in one signal the stronger is used alone.
    mixed = z + 0.5 * np.cos(2 * np.pi * np.arange(d) / d)
    limit = max_margin(Classification(mixed[None], [1]), "fourier")
    np.testing.assert_allclose(limit.x, z / (z @ z), atol=1e-10)
    # Shifting the signals in a circle shifts the answer.
    problem = separable(6, d, seed=9)
    shifted = Classification(np.roll(problem.X.numpy(), 5, axis=1), problem.y)
    expected = np.roll(max_margin(problem, "fourier").x, 5)
    np.testing.assert_allclose(max_margin(shifted, "fourier").x, expected, atol=1e-9)


def test_fourier_agrees_with_complex_variables():
    problem = separable(8, 7, seed=3)
    F = np.fft.fft(np.eye(7), norm="ortho")
    w = cp.Variable(7)
    size = cp.sum(cp.norm(cp.vstack([F.real @ w, F.imag @ w]), 2, axis=0))
    other = cp.Problem(cp.Minimize(size), [problem.Z.numpy() @ w >= 1])
    other.solve(solver="CLARABEL")
    assert max_margin(problem, "fourier").objective == pytest.approx(other.value, rel=1e-6)


@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, math.inf, "fourier"], ids=str)
def test_the_residual_sees_what_is_wrong(norm):
    """It is recomputed from the data; each part of the conditions alone can raise it."""
    problem = separable(10, 4, seed=2)
    limit, form = max_margin(problem, norm), as_norm(norm, 4)
    assert _residual(problem, form, limit.x, limit.dual) == limit.residual <= 1e-12
    assert 0.0099 <= _residual(problem, form, 0.99 * limit.x, limit.dual) <= 0.0102
    assert _residual(problem, form, 1.01 * limit.x, limit.dual) <= 0.02
    even = torch.full_like(limit.dual, float(limit.dual.mean()))
    assert _residual(problem, form, limit.x, even) >= 0.01
    longer = limit.x + 0.3 * problem.Z.mean(0)
    longer = longer / float((problem.Z @ longer).min())
    assert _residual(problem, form, longer, limit.dual) >= 1e-3
    negative = limit.dual.clone()
    negative[0] -= 0.1 * limit.dual.sum()
    assert _residual(problem, form, limit.x, negative) >= 0.05


@pytest.mark.parametrize("norm", [1.2, 1.7, 3, 8, 1, math.inf, "fourier", "nuclear"], ids=str)
def test_newton_restores_the_digits_that_a_guess_lacks(norm):
    """From six digits to twelve, without the candidates that could hide a wrong Jacobian."""
    rng = np.random.default_rng(0)

    def shaken(v):
        return v.numpy() * (1 + 1e-6 * rng.standard_normal(v.shape))

    problem = separable(12, 5, seed=2)
    if norm == "nuclear":
        X, W = rng.standard_normal((6, 5)), rng.standard_normal((5, 2))
        problem = Classification(X, np.sign(X @ W))
    limit = max_margin(problem, norm)
    w, alpha = shaken(limit.x), shaken(limit.dual)
    Z = problem.Z.numpy() if norm != "nuclear" else None
    if norm == "nuclear":
        w, alpha = newton_nuclear(problem.X.numpy(), problem.y.numpy(), w, alpha)
    elif norm == "fourier":
        basis, groups, cost = fourier_groups(5)
        w, alpha = polish.newton_groups(Z @ basis, basis.T @ w, alpha, groups, cost, 1e3)
        w = basis @ w
    elif norm == 1:
        singles = [np.array([j]) for j in range(5)]
        w, alpha = polish.newton_groups(Z, w, alpha, singles, np.ones(5), 1e3)
    elif norm == math.inf:
        w, alpha = polish.newton_box(Z, w, alpha, 1e3)
    else:
        w, alpha = polish.newton_power(Z, w, alpha, norm, 1e3)
    np.testing.assert_allclose(w, limit.x, rtol=0, atol=1e-11 * limit.objective)
    np.testing.assert_allclose(alpha, limit.dual, rtol=0, atol=1e-10 * limit.objective**2)


# ---- the nuclear norm


def test_nuclear_with_one_output_is_euclidean():
    problem = separable(10, 4, seed=2)
    nuclear = max_margin(Classification(problem.X, problem.y[:, None]), "nuclear")
    euclidean = max_margin(problem)
    torch.testing.assert_close(nuclear.x[:, 0], euclidean.x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(nuclear.dual[:, 0], euclidean.dual, rtol=1e-7, atol=1e-7)


def test_nuclear_by_hand():
    """X = I: every |w_ij| is at least 1, and the matrix of signs itself is optimal.

    Signs of rank one have norm sqrt(2 * 2) = 2, the least that four entries of size 1 can have;
    signs of a rotation have two singular values sqrt 2.
    """
    for y, size in (([[1, 1], [-1, -1]], 2.0), ([[1, 1], [1, -1]], 2 * math.sqrt(2))):
        limit = max_margin(Classification(torch.eye(2), y), "nuclear")
        assert limit.objective == pytest.approx(size, rel=1e-10)
        torch.testing.assert_close(limit.x, torch.tensor(y).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n", "d", "k"), [(6, 4, 2), (5, 12, 3), (10, 6, 3)])
def test_nuclear_conditions(n, d, k):
    rng = np.random.default_rng(n)
    X, W = rng.standard_normal((n, d)), rng.standard_normal((d, k))
    problem = Classification(X, np.sign(X @ W))
    limit = max_margin(problem, "nuclear")
    assert limit.x.shape == (d, k)
    check(problem, "nuclear", limit, 1e-9)
    # Rotated features, and outputs in another order, change nothing else.
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    turned = max_margin(Classification(X @ Q, problem.y.flip(1)), "nuclear")
    torch.testing.assert_close(
        torch.from_numpy(Q) @ turned.x, limit.x.flip(1), rtol=1e-6, atol=1e-6
    )


# ---- what cannot be separated, and what is refused


def certified(problem, error):
    alpha = error.certificate
    assert alpha.shape == problem.y.shape
    assert bool((alpha >= 0).all())
    assert float(alpha.sum()) == pytest.approx(1, rel=1e-12)
    pulled = problem.X.T @ (problem.y * alpha)
    assert float(pulled.norm()) <= 1e-13 * float(problem.X.norm(dim=1).max())


@pytest.mark.parametrize("seed", range(40))
def test_inseparable_data_are_proved_to_be(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(2, 60), rng.integers(1, 12)
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-6, 7)
    y = rng.choice([-1.0, 1.0], n)
    if seed % 2:  # one contradiction, touching only
        X, y = np.vstack([X, 2 * X[:1]]), np.append(y, -y[0])
    else:
        X[-1] = -y[-1] * (y[:-1, None] * X[:-1]).sum(0)
    problem = Classification(X, y)
    with pytest.raises(NotSeparable, match=r"not linearly separable.*\.certificate") as caught:
        max_margin(problem, [1, 2, math.inf, "fourier"][seed % 4])
    certified(problem, caught.value)


def test_xor_and_zero():
    X = [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
    xor = Classification(X, [1, 1, -1, -1])
    with pytest.raises(NotSeparable) as caught:
        max_margin(xor)
    certified(xor, caught.value)
    blank = Classification([[1.0, 0.0], [0.0, 0.0]], [1, 1])
    with pytest.raises(NotSeparable) as caught:
        max_margin(blank, 1)
    assert caught.value.certificate.tolist() == [0.0, 1.0]
    both = Classification([[1.0], [2.0]], [[1, 1], [1, -1]])
    with pytest.raises(NotSeparable, match=r"Output 1: ") as caught:
        max_margin(both, "nuclear")
    certified(both, caught.value)
    assert caught.value.certificate[:, 0].tolist() == [0.0, 0.0]


def thin(gap):
    return Classification([[1.0, gap], [-1.0, gap], [3.0, gap]], [1, 1, 1])


def test_thin_margins_are_found_or_refused_but_never_invented():
    for gap in (1e-3, 1e-6, 1e-9):
        # w = (0, 1 / gap); violations are roundings of numbers of size 1 / gap.
        limit = max_margin(thin(gap))
        assert limit.objective == pytest.approx(1 / gap, rel=1e-9)
        assert limit.residual <= 1e-15 / gap
    with pytest.raises(ValueError, match=r"neither clearly separable.*at most 1e-13") as caught:
        max_margin(thin(1e-13))
    assert not isinstance(caught.value, NotSeparable)


@pytest.mark.parametrize(
    ("y", "norm", "message"),
    [
        ([1, 1], 0.5, "triangle inequality"),
        ([1, 1], "spectral", "no norm named"),
        ([1, 1], np.eye(3), r"K of shape \(2, 2\)"),
        ([1, 1], "nuclear", r"y of shape \(n, k\)"),
        ([[1], [1]], 2, "norm='nuclear'"),
    ],
)
def test_what_is_refused(y, norm, message):
    with pytest.raises(ValueError, match=message):
        max_margin(Classification(np.eye(2), y), norm)


def test_labels_are_needed():
    with pytest.raises(TypeError, match=r"labels.*Classification\(X, y\)"):
        max_margin(Regression([[1.0]], [1.0]))


def test_degenerate_data_on_the_margin_are_separable():
    """86 examples on the margin in 39 dimensions: SciPy's nnls calls a wrong answer exact here."""
    rng = np.random.default_rng([1, 734])
    rng.uniform(math.log(2), math.log(300), 2)
    u = rng.standard_normal(39)
    u /= np.linalg.norm(u)
    V = rng.standard_normal((43, 39)) / math.sqrt(39)
    V -= np.outer(V @ u, u)
    Z = np.concatenate([V, -V * rng.uniform(0.3, 3, (43, 1))]) + 1e-3 * u
    limit = max_margin(Classification(Z, np.ones(86)))
    assert limit.objective == pytest.approx(1000, rel=1e-9)
    assert limit.residual <= 1e-9
