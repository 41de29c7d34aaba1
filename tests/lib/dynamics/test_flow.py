"""The flow on separable data: closed forms, another integrator, and where theory says it goes."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from implicit_bias.dynamics.flow import margin_flow
from implicit_bias.limits.margin import max_margin
from implicit_bias.problems import Classification, Regression
from implicit_bias.records import NotSeparable
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

LOSSES = ["exponential", "logistic", "inverse"]
FAR = 1e8


def log_slope(m, loss):
    """log of minus the derivative of the loss, written down once more."""
    if loss == "exponential":
        return -m
    if loss == "logistic":
        return -np.logaddexp(0, m)
    r = np.sqrt(m**2 + 4)
    return np.where(m > 0, np.log(2 / r / (r + np.abs(m))), np.log((r + np.abs(m)) / r / 2))


def curvature_over_slope(m, loss):
    if loss == "exponential":
        return np.ones_like(m)
    if loss == "logistic":
        return 1 / (1 + np.exp(-m))
    r = np.sqrt(m**2 + 4)
    return (r + m) / r**2


def oracle(Z, w0, log_times, loss):
    """Radau in x = log t; before t = 1, DOP853 in t."""

    def slopes(x, w):
        return np.exp(x + log_slope(Z @ w, loss))

    def jacobian(x, w):
        return -(Z.T * slopes(x, w) * curvature_over_slope(Z @ w, loss)) @ Z

    early = solve_ivp(
        lambda t, w: Z.T @ slopes(0.0, w), (0, 1), w0, "DOP853", rtol=1e-12, atol=1e-14
    )
    late = solve_ivp(
        lambda x, w: Z.T @ slopes(x, w),
        (0, log_times[-1]),
        early.y[:, -1],
        "Radau",
        log_times,
        rtol=1e-11,
        atol=1e-13,
        jac=jacobian,
    )
    assert late.success
    return late.y.T


def separable(n, d, seed, gap=0.1, kind="plain"):
    """Rows Z with a planted separator."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d)) / math.sqrt(d)
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    Z += np.outer(np.abs(Z @ u) + gap - Z @ u, u)
    if kind == "thin":  # the mean of two examples of a pair is gap * u
        V = Z - np.outer(Z @ u, u)
        Z = np.concatenate([V, -V * rng.uniform(0.3, 3, (n, 1))]) + gap * u
    if kind == "duplicates":
        Z = np.concatenate([Z, Z[: max(1, n // 2)], Z[:1]])
    if kind in ("zero multiplier", "near"):
        limit = max_margin(signed(Z))
        w = limit.x.numpy()
        R = rng.standard_normal((2, d))
        R -= np.outer(R @ w, w) / (w @ w)
        R /= np.linalg.norm(R, axis=1, keepdims=True)
        if kind == "near":  # beside the support vectors, and on the margin
            top = np.argsort(-limit.dual.numpy())[:2]
            Z = np.concatenate([Z, Z[top] + gap * R[: len(top)]])
        else:  # on the margin, and the limit stays where it was
            Z = np.concatenate([Z, R / 2 + w / (w @ w)])
    return Z


def signed(Z, seed=0):
    y = np.random.default_rng(seed).choice([-1.0, 1.0], len(Z))
    return Classification(y[:, None] * Z, y)


def angle(u, v):
    """Accurate for small angles, where it is the distance of the unit vectors."""
    u, v = torch.as_tensor(u), torch.as_tensor(v)
    return 2 * math.asin(float((u / u.norm() - v / v.norm()).norm()) / 2)


def log_loss(m, loss):
    if loss == "exponential":
        return logsumexp(-m)
    if loss == "logistic":
        return math.log(np.logaddexp(0, -m).sum())
    return math.log(np.where(m > 0, 2 / (np.sqrt(m**2 + 4) + np.abs(m)), 0.0).sum())


# ---- against another integrator


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("n", "d", "wrong"), [(3, 6, 0.0), (8, 3, 0.0), (4, 4, 2.0), (3, 7, 3.0), (9, 2, 3.0)]
)
def test_against_an_integrator(n, d, wrong, loss):
    """``wrong`` is the length of a start that misclassifies."""
    rng = np.random.default_rng(n)
    Z = separable(n, d, n * d, gap=0.3)
    mean = Z.mean(0)
    w0 = rng.standard_normal(d) / 2 - wrong * mean / np.linalg.norm(mean)
    assert not wrong or (Z @ w0).min() < 0
    log_times = np.array([0.5, 3.0, math.log(1e3), 15.0, 30.0])[: 4 if loss == "inverse" else 5]
    path = margin_flow(signed(Z), log_times, w0, loss)
    other = oracle(Z, w0, log_times, loss)
    # The default rtol is 1e-8 a step, relative to the distance gone; so many digits in the end.
    scale = np.linalg.norm(other, axis=1)
    error = np.linalg.norm(path.points.numpy() - other, axis=1) / scale
    assert error.max() <= 1e-7
    for w, value in zip(path.points.numpy(), path.log_losses.tolist(), strict=True):
        if (Z @ w).min() > 0:
            assert value == pytest.approx(log_loss(Z @ w, loss), abs=1e-12)
    np.testing.assert_allclose(path.losses, path.log_losses.exp())
    if loss != "inverse":
        limit = max_margin(signed(Z)).x
        ours, theirs = angle(path.points[2], limit), angle(other[2], limit)
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_finer_tolerance_is_obeyed():
    Z = separable(6, 4, 5)
    w0 = -Z.mean(0)
    log_times = np.array([1.0, 5.0, 10.0, 20.0])
    other = oracle(Z, w0, log_times, "logistic")
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        path = margin_flow(signed(Z), log_times, w0, "logistic", rtol)
        errors.append(np.abs(path.points.numpy() - other).max())
        assert errors[-1] <= 30 * rtol
    assert errors[0] > 1e3 * errors[3]


# ---- closed forms


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_one_example(scale):
    """m' = |z|^2 e^-m, so that e^m = e^(m_0) + |z|^2 t."""
    z = scale * np.array([3.0, -4.0, 0.0])
    log_times = np.array([-50.0, -40.0, -5.0, 0.0, 1.0, 30.0, 1e4, 1e8, 1e12])
    for m0 in (0.0, -30.0, 20.0):
        w0 = m0 * z / (z @ z) + [0, 0, 5.0]
        path = margin_flow(Classification([z], [1.0]), log_times, w0)
        m = np.logaddexp(m0, log_times + math.log(z @ z))
        expected = np.outer(m, z) / (z @ z) + [0, 0, 5.0]
        error = np.linalg.norm(path.points.numpy() - expected, axis=1) * np.linalg.norm(z)
        # A convex combination of one example is this example: the only errors are in time.
        assert (error <= 1e-12 + 1e-15 * (abs(m0) + np.abs(m))).all(), error
        np.testing.assert_allclose(path.log_losses, -m, rtol=1e-14, atol=1e-12)
        assert path.times.tolist() == log_times.tolist()
        assert path.stopped == "reached"
        assert math.isnan(path.step)
        assert path.steps > 0


def test_relative_accuracy_when_it_has_hardly_begun():
    """w = t Z^T g(0) (1 + O(t))."""
    log_times = torch.tensor([-300.0, -50.0, -30.0, -27.0, -25.0, -20.0], dtype=torch.float64)
    Z = separable(5, 3, 0)
    for loss in LOSSES:
        path = margin_flow(signed(Z), log_times, loss=loss)
        expected = torch.outer(log_times.exp(), torch.from_numpy(Z.sum(0)))
        expected *= 1.0 if loss == "exponential" else 0.5
        error = (path.points - expected).norm(dim=1) / expected.norm(dim=1)
        assert bool((error <= 1e-9 + 10 * log_times.exp()).all()), error


@pytest.mark.parametrize("m0", [0.0, -3.0, -40.0])
def test_one_example_with_the_other_losses(m0):
    """The inverse of 1/g is elementary: F(m) = F(m_0) + |z|^2 t."""
    z = np.array([0.6, 0.8])
    log_times = np.array([-3.0, 0.0, 3.0, 10.0, 30.0])
    forms = {
        "logistic": lambda m: m + np.exp(m),
        # For m << 0 terms cancel: (m^3 + r^3) = (m + r)(m^2 - m r + r^2).
        "inverse": lambda m: (
            (m + np.hypot(m, 2)) * (m * m - m * np.hypot(m, 2) + m * m + 4) / 6 + 2 * m
        ),
    }
    for loss, form in forms.items():
        path = margin_flow(Classification([z], [1.0]), log_times, m0 * z, loss)
        m = path.points.numpy() @ z
        # Of about 20 steps, errors of 1e-8 relative to the distance.
        passed = form(m) - form(np.array(m0))
        speed = np.exp(-log_slope(m, loss))  # dF/dm
        assert (np.abs(passed - np.exp(log_times)) <= 3e-7 * speed * (1 + np.abs(m - m0))).all()
        across = path.points.numpy() @ [0.8, -0.6]
        np.testing.assert_allclose(across, 0, atol=1e-15 * np.abs(m).max())


def test_orthogonal_examples_do_not_see_each_other():
    Z = np.array([[2.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    w0 = np.array([-1.0, 2.0, 0.5])
    log_times = np.array([-10.0, 0.0, 2.0, 10.0, 1e3, 1e6, 1e8])
    path = margin_flow(signed(Z), log_times, w0)
    size = np.diag(Z)
    m = np.logaddexp(size * w0, log_times[:, None] + 2 * np.log(size))
    # 1e-8 of a distance of 100 margins, over a few hundred steps that contract.
    np.testing.assert_allclose(path.points, m / size, atol=2e-5, rtol=1e-12)
    np.testing.assert_allclose(path.points[:4], (m / size)[:4], atol=3e-7)
    np.testing.assert_allclose(path.log_losses[:4], logsumexp(-m, axis=1)[:4], atol=1e-6)


# ---- where it ends


def residual(Z, limit):
    """Soudry's w~ on the span of the support vectors, where exp(-<z_i, w~>) = alpha_i."""
    alpha = limit.dual.numpy()
    S = alpha > 0
    return np.linalg.lstsq(Z[S], -np.log(alpha[S]), rcond=None)[0], Z[S], alpha[S]


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize(("n", "d"), [(4, 4), (12, 3), (5, 12), (30, 10)])
def test_the_residual_and_the_angle(n, d, loss):
    """w - w_hat log t tends to w~, and so the angle to |P w~| / (|w_hat| log t)."""
    Z = separable(n, d, n + d)
    limit = max_margin(signed(Z))
    tilde, ZS, alpha = residual(Z, limit)
    what = limit.x.numpy()
    path = margin_flow(signed(Z), [1e4, FAR], loss=loss)
    V = np.linalg.qr(ZS.T)[0]
    assert len(alpha) == np.linalg.matrix_rank(ZS)
    for log_t, w, tol in zip([1e4, FAR], path.points.numpy(), [1e-6, 1e-4], strict=True):
        # Margins of 1e8 have absolute errors of 1e-8, times the condition of the examples.
        np.testing.assert_allclose(V.T @ (w - what * log_t), V.T @ tilde, atol=tol)
    # What lies outside the span has settled long before.
    outside = path.points.numpy() @ (np.eye(d) - V @ V.T)
    np.testing.assert_allclose(outside[1], outside[0], atol=1e-4)
    rest = tilde + outside[1]
    rest -= (rest @ what) * what / (what @ what)
    predicted = np.linalg.norm(rest) / np.linalg.norm(what) / FAR
    assert angle(path.x, what) == pytest.approx(predicted, rel=1e-3)
    assert predicted < 1e-6
    # The loss times t tends to |w_hat|^2, the sum of the multipliers.
    assert float(path.log_losses[1]) + FAR == pytest.approx(math.log(what @ what), abs=1e-6)
    p = np.exp(logsumexp(-(Z @ path.x.numpy())) * -1 - Z @ path.x.numpy())
    dual = limit.dual.numpy()
    np.testing.assert_allclose(p, dual / dual.sum(), atol=1e-6)


def power_limit(Z):
    """The fixed point of the flow of a loss with slope m^-2, in cvxpy."""
    u = cp.Variable(Z.shape[1])
    cp.Problem(cp.Minimize(cp.sum(cp.inv_pos(Z @ u)) + cp.sum_squares(u) / 2)).solve(
        cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10
    )
    v = u.value
    for _ in range(4):  # Newton's method mends the digits that a conic solver leaves
        m = Z @ v
        v = v - np.linalg.solve(np.eye(v.size) + (Z.T * 2 * m**-3.0) @ Z, v - Z.T @ m**-2.0)
    assert np.linalg.norm(v - u.value) <= 1e-4 * np.linalg.norm(v)
    return v


@pytest.mark.parametrize(("n", "d"), [(4, 4), (12, 3), (5, 12)])
def test_a_loss_without_an_exponential_tail_goes_elsewhere(n, d):
    """With -l' = m^-2 (1 + O(m^-2)), w = (3t)^(1/3) v solves v = sum z_i / <z_i, v>^2.

    That is stationarity of sum 1/<z_i, v> + |v|^2/2. Corrections are O(t^(-2/3)), and the start is
    forgotten at least like t^(-1/3).
    """
    Z = separable(n, d, n + d)
    u = power_limit(Z)
    path = margin_flow(signed(Z), [30.0, 100.0], loss="inverse")
    for log_t, w, tol in zip([30.0, 100.0], path.points, [3e-4, 3e-7], strict=True):
        assert angle(w, u) <= tol
        expected = math.exp((log_t + math.log(3)) / 3) * np.linalg.norm(u)
        assert float(w.norm()) == pytest.approx(expected, rel=tol)
    # Not cvxpy's word: stationarity at the path's own direction.
    v = path.x.numpy() / math.exp((100 + math.log(3)) / 3)
    np.testing.assert_allclose(v, Z.T @ (Z @ v) ** -2.0, rtol=0, atol=1e-6 * np.linalg.norm(v))
    # The control: this is not the largest margin, by far.
    assert angle(path.x, max_margin(signed(Z)).x) > 0.03


def test_a_support_vector_without_a_multiplier_slows_the_angle():
    """Z = (1, 0), (1, 1): the second example is on the margin, and not needed."""
    Z = np.array([[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(max_margin(signed(Z)).x, [1, 0], atol=1e-12)
    path = margin_flow(signed(Z), [1e2, 1e4, 1e6, 1e8])
    x = path.times.numpy()
    # With x = log t, w_1' = e^(x - w_1)(1 + e^(-w_2)) and w_2' = e^(x - w_1 - w_2): w_1 is near x,
    # e^(w_2) w_2' near 1, and w_2 = log x + O(log x / x).
    np.testing.assert_allclose(path.points[:, 1], np.log(x), rtol=0.3)
    np.testing.assert_allclose(path.points[2:, 1], np.log(x)[2:], atol=1e-3)
    assert angle(path.x, [1.0, 0.0]) == pytest.approx(math.log(FAR) / FAR, rel=1e-3)


# ---- what must not matter


@pytest.mark.parametrize("loss", LOSSES)
def test_rotations_scales_orders_copies_and_parts_that_the_data_do_not_see(loss):
    rng = np.random.default_rng(3)
    Z, w0 = separable(5, 3, 7), rng.standard_normal(3)
    log_times = np.array([-3.0, 0.0, 4.0, 20.0] + ([1e8] if loss != "inverse" else []))
    base = margin_flow(signed(Z), log_times, w0, loss).points.numpy()

    def same(Z, start, change=0.0, back=lambda w: w, tol=2e-7):
        points = back(margin_flow(signed(Z, 1), log_times + change, start, loss).points.numpy())
        size = 1 + np.linalg.norm(base, axis=1, keepdims=True)
        # The last time is 1e8, and a margin of 1e8 is known to 1e-8: 1e-16 relative.
        assert (np.abs(points - base) <= tol * size).all()

    R = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    same(Z @ R.T, R @ w0, back=lambda w: w @ R)
    same(Z[::-1], w0)
    same(np.concatenate([Z, Z]), w0, -math.log(2))
    for c in (1e-6, 1e6):
        same(c * Z, w0 / c, -2 * math.log(c), back=lambda w, c=c: w * c)
    wide, extra = np.linalg.qr(rng.standard_normal((9, 9)))[0], rng.standard_normal(6)
    lifted = wide @ np.concatenate([w0, extra])
    same(Z @ wide[:, :3].T, lifted, back=lambda w: w @ wide[:, :3])
    # Outside the row space it stays, to the rounding of the longest point.
    path = margin_flow(signed(Z @ wide[:, :3].T), log_times, lifted, loss)
    kept = path.points.numpy() @ wide[:, 3:] - extra
    assert (np.abs(kept) <= 1e-14 * (1 + np.linalg.norm(base, axis=1, keepdims=True))).all()


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_more_times_and_a_second_start_change_nothing(loss):
    Z = separable(6, 4, 1)
    few = margin_flow(signed(Z), [2.0, 30.0, FAR], loss=loss)
    many = margin_flow(signed(Z), np.r_[np.linspace(-5, 30, 71), 1e3, 1e6, FAR], loss=loss)
    assert many.times[14] == 2
    for ours, theirs in zip(few.points, many.points[[14, 70, 73]], strict=True):
        assert float((ours - theirs).norm()) <= 3e-7 * (1 + float(theirs.norm()))
    assert bool((many.log_losses[1:] < many.log_losses[:-1]).all())
    # From t = e^2 on for e^3 - e^2 more.
    again = margin_flow(signed(Z), [math.log(math.exp(3) - math.exp(2))], few.points[0], loss)
    assert float((again.x - margin_flow(signed(Z), [3.0], loss=loss).x).norm()) <= 1e-7


# ---- degenerate data


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize(
    ("kind", "gap", "allowed"),
    [
        ("duplicates", 0.1, 1e-6),
        ("zero multiplier", 0.1, 1e-5),  # log s / s, times a constant
        ("near", 1e-2, 1e-4),
        ("near", 1e-4, 1e-4),
        ("near", 1e-6, 1e-4),
        ("thin", 1e-1, 1e-6),
        ("thin", 1e-3, 1e-6),
        ("thin", 1e-4, 1e-6),
        ("plain", 10.0, 1e-6),
    ],
)
@pytest.mark.parametrize(("n", "d"), [(4, 3), (15, 6), (5, 20)])
def test_degenerate_data(kind, gap, allowed, n, d, loss):
    for scale in (1e-6, 1e6):
        problem = signed(scale * separable(n, d, n, gap, kind))
        path = margin_flow(problem, [FAR], loss=loss)
        limit = max_margin(problem)
        assert angle(path.x, limit.x) <= allowed
        # L t tends to |w_hat|^2 in units of 1 / x^2; a zero multiplier costs O(1 / log s), and a
        # pair at a distance of 1e-6 has not taken up its weights after an arc of 1e8.
        excess = float(path.log_losses[0]) + FAR - 2 * math.log(limit.objective)
        assert abs(excess) <= (0.5 if kind == "near" else 1e-5)


def test_a_thousand_separable_problems(record_property, capsys):
    """n and d from 2 to 300, log-uniform up to 15 but for one in fifty; rtol 1e-6, for speed.

    Kinds in turn; scales from 1e-6 to 1e6; three in ten from a start that is not zero. The angle to
    the largest margin falls like C / log t. Where support vectors are independent (their Gram
    matrix has a condition below 1e4) and their multipliers within a factor of 1000, C is below 100.
    A pair of support vectors at distance e has C of order 1/e until log t is 1/e^2, and before
    that an angle of order e: never worse than 1e-4.
    """
    rng = np.random.default_rng(0)
    kinds = ["plain", "duplicates", "zero multiplier", "near", "thin"]
    worst, regular = dict.fromkeys(kinds, (0.0, "")), []
    farthest = 0.0
    for i in range(1000):
        kind = kinds[i % 5]
        top = 300 if i % 50 == i // 50 % 50 else 15
        n, d = (round(math.exp(v)) for v in rng.uniform(math.log(2), math.log(top), 2))
        gap = {"near": (-6, -2), "thin": (-4, -1)}.get(kind, (-2, 1))
        scale = 10 ** rng.uniform(-6, 6)
        Z = separable(n, d, i, 10 ** rng.uniform(*gap), kind)
        start = None
        if rng.random() < 0.3:
            start = rng.standard_normal(d) / (scale * math.sqrt(d))
        problem = signed(scale * Z, i)
        what = f"{kind}, {len(Z)} x {d}, seed {i}"
        limit = max_margin(problem)
        assert limit.residual <= 1e-9, what
        farthest = max(farthest, limit.residual)
        error = angle(margin_flow(problem, [FAR], start, rtol=1e-6).x, limit.x)
        assert error < 1e-4, f"{what}: {error:.1e}"
        worst[kind] = max(worst[kind], (error, what))
        alpha, m = limit.dual.numpy(), problem.Z.numpy() @ limit.x.numpy()
        S = alpha > 0
        s = np.linalg.svd(Z[S], compute_uv=False)
        condition = (s[0] / s[-1]) ** 2 if S.sum() <= d else math.inf
        distinct = (m < 1 + 1e-9).sum() == S.sum()
        if condition < 1e4 and alpha[S].min() > 1e-3 * alpha.max() and distinct:
            regular.append(error)
            assert error < 1e-6, f"{what}: {error:.1e}"
    assert len(regular) > 200
    with capsys.disabled():
        for kind, (error, what) in worst.items():
            record_property(f"worst {kind}", f"{error:.1e} ({what})")
            print(f"\n  worst angle of 200: {error:.1e} ({what})", end="")
        print(f"\n  of {len(regular)} regular ones: {max(regular):.1e}; ", end="")
        print(f"worst residual of max_margin: {farthest:.1e}", end="")


# ---- what cannot be


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize(
    "Z",
    [
        [[1.0], [-1.0]],
        [[1.0], [-3.0]],
        [[0.0, 0.0]],
        [[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.9]],
        [[1e6, 0.0], [-1e6, 0.0], [1e5, 1e6]],  # one that could be separated, two that cannot
        np.random.default_rng(0).standard_normal((40, 3)),
    ],
)
def test_data_that_cannot_be_separated(Z, loss):
    Z = np.array(Z)
    with pytest.raises(NotSeparable, match=r"comes to rest.*no direction to converge to") as info:
        margin_flow(signed(Z), [FAR], loss=loss)
    alpha = info.value.certificate.numpy()
    assert (alpha >= 0).all()
    assert alpha.sum() == pytest.approx(1, rel=1e-14)
    assert np.linalg.norm(Z.T @ alpha) <= 1e-12 * np.linalg.norm(Z, axis=1).max()


@pytest.mark.parametrize("loss", LOSSES)
def test_before_it_rests_the_flow_can_be_followed(loss):
    Z = np.array([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.9]])
    w0, log_times = np.array([2.0, 1.0]), np.array([0.1, 0.7, 1.2])
    path = margin_flow(signed(Z), log_times, w0, loss)
    np.testing.assert_allclose(path.points, oracle(Z, w0, log_times, loss), atol=1e-7)


PROBLEM = Classification([[1.0, 0.0], [0.0, 1.0]], [1, -1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"log_times": []}, ValueError, "log_times must be increasing"),
        ({"log_times": [2.0, 1.0]}, ValueError, "log_times must be increasing.*got .2.0, 1.0."),
        ({"log_times": [1.0, 1.0]}, ValueError, "log_times must be increasing"),
        ({"log_times": [1.1e12]}, ValueError, "none above 1e12"),
        ({"log_times": [math.nan]}, ValueError, "log_times"),
        ({"log_times": [1.0, math.inf]}, ValueError, "log_times"),
        ({"log_times": ["a"]}, TypeError, "log_times"),
        ({"log_times": [1j]}, TypeError, "log_times"),
        ({"rtol": 1e-13}, ValueError, "rtol = 1e-13: below 1e-12 rounding"),
        ({"rtol": 0.1}, ValueError, "rtol = 0.1.*above 1e-2 a step may jump"),
        ({"rtol": math.nan}, ValueError, "rtol = nan"),
        ({"loss": "square"}, ValueError, "'square' is not a loss of a margin.*exponential"),
        ({"loss": "inverse", "log_times": [1e4]}, ValueError, "above 1000.*cube root of time"),
        ({"start": [1.0]}, ValueError, "start has shape"),
        ({"start": [1.0, math.nan]}, ValueError, "start"),
        ({"problem": Regression([[1.0]], [1.0])}, TypeError, "Regression.*use gradient_flow"),
        ({"problem": Classification([[1.0]], [[1.0]])}, ValueError, "one output"),
    ],
)
def test_mistakes(change, error, message):
    with pytest.raises(error, match=message):
        margin_flow(**({"problem": PROBLEM, "log_times": [1.0]} | change))


@pytest.mark.parametrize("loss", LOSSES)
def test_all_of_time(loss):
    """Finite everywhere, and float32 data are data like any others."""
    end = 1e12 if loss != "inverse" else 300
    times = np.r_[np.linspace(-50, 50, 21), np.geomspace(60, end, 12)]
    for dtype in (torch.float32, torch.float64):
        X = torch.tensor(separable(7, 4, 2), dtype=dtype)
        path = margin_flow(Classification(X, torch.ones(7)), times, -X.sum(0), loss)
        assert path.points.dtype == path.losses.dtype == path.log_losses.dtype == torch.float64
        assert path.points.shape == (33, 4)
        for values in (path.points, path.losses, path.log_losses):
            assert bool(values.isfinite().all())
        assert bool((path.log_losses[1:] <= path.log_losses[:-1]).all())
        assert torch.equal(path.times, torch.from_numpy(times))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("length", [-1e4, 1e4])
def test_starts_far_away(length, loss):
    """On one side the loss overflows, on the other it underflows."""
    Z = separable(5, 3, 4)
    u = max_margin(signed(Z)).x.numpy()
    w0 = length * u
    path = margin_flow(signed(Z), [0.0, 5.0, 500.0], w0, loss)
    assert bool(path.points.isfinite().all())
    assert bool(path.log_losses.isfinite().all())
    if length > 0 and loss != "inverse":
        np.testing.assert_allclose(path.points[0], w0, rtol=1e-14)
    if length < 0 and loss == "logistic":  # every slope is 1 as long as margins are negative
        np.testing.assert_allclose(
            path.points.numpy()[:2] - w0, np.outer([1, math.exp(5)], Z.sum(0))
        )
