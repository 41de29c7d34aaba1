"""Certificates: zero at points known to be stationary, and not at their neighbours."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from implicit_bias import Classification, NotSeparable, Regression, max_margin
from implicit_bias.certificates import bridge_certificate, parameter_certificate
from implicit_bias.models.factorisations import balanced_parameters, unitary_dft
from implicit_bias.models.linear import LinearNetwork
from implicit_bias.models.parameterisation import Parameterisation


def random_problem(n, d, seed, outputs=None):
    rng = np.random.default_rng(seed)
    shape = (n,) if outputs is None else (n, outputs)
    return Classification(rng.standard_normal((n, d)), np.sign(rng.standard_normal(shape)))


def one_example(d, seed):
    """With one example any predictor on a single coefficient is stationary, at every depth."""
    return Classification(np.random.default_rng(seed).standard_normal((1, d)), [1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("basis", "norm"), [("fourier", "fourier"), ("identity", 1)])
def test_optimal_points_at_depth_2(basis, norm, seed):
    problem = random_problem(5, 9, seed)
    limit = max_margin(problem, norm)
    certificate = bridge_certificate(problem, 3 * limit.x, 2, basis)
    # The solver's points satisfy their own optimality conditions to 1e-13.
    assert certificate.residual < 1e-10
    assert certificate.scale == pytest.approx(1 / 3, rel=1e-9)
    # The multipliers are those of the norm: their sum is its value, whatever the basis.
    assert float(certificate.multipliers.sum()) == pytest.approx(limit.objective, rel=1e-9)
    torch.testing.assert_close(
        certificate.multipliers * limit.objective, limit.dual, rtol=1e-6, atol=1e-8
    )
    coefficients = unitary_dft(limit.x).abs() if basis == "fourier" else limit.x.abs()
    assert torch.equal(certificate.support, coefficients > 1e-8 * coefficients.max())


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_euclidean_at_every_depth(depth):
    problem = random_problem(6, 8, depth)
    limit = max_margin(problem)
    certificate = bridge_certificate(problem, limit.x, depth, "euclidean")
    assert certificate.residual < 1e-13
    torch.testing.assert_close(certificate.multipliers, limit.dual, rtol=1e-10, atol=1e-12)
    other = bridge_certificate(problem, max_margin(problem, 1).x, depth, "euclidean")
    assert other.residual > 0.1


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("basis", ["identity", "fourier"])
def test_one_example(basis, depth):
    """min |b|_p with <z, b> >= 1: every single coefficient is stationary below p = 1."""
    problem = one_example(6, depth)
    z = problem.Z[0]
    for k in range(4):
        if basis == "identity":
            beta = torch.zeros(6, dtype=torch.float64)
            beta[k] = 1 / z[k]
            best = int(z.abs().argmax()) == k
        else:
            spectrum = unitary_dft(z)
            wave = torch.zeros_like(spectrum)
            wave[k], wave[-k] = spectrum[k], spectrum[k].conj()
            beta = torch.fft.ifft(wave, norm="ortho").real
            best = int(spectrum.abs()[:4].argmax()) == k
        residual = bridge_certificate(problem, beta, depth, basis).residual
        if depth > 2 or best:
            assert residual < 1e-13
        else:
            assert residual > 1e-2


def stationary_diagonal(depth, seed):
    """A stationary point of the bridge problem in coordinates, built backwards.

    Choose support, moduli, phases and multipliers; then pick examples that make them stationary.
    """
    rng = np.random.default_rng(seed)
    d, n, p = 7, 3, 2 / depth
    beta = np.zeros(d)
    beta[:4] = rng.standard_normal(4)
    alpha = rng.random(n) + 0.2
    Z = rng.standard_normal((n, d))
    for _ in range(200):  # alternate between the margins and the equations of stationarity
        goal = np.sign(beta[:4]) * np.abs(beta[:4]) ** (p - 1)
        both = np.kron(np.vstack([alpha[None]]), np.eye(4))
        margins = np.kron(np.eye(n), beta[None, :4])
        A = np.vstack([both, margins])
        b = np.concatenate([goal, np.ones(n)])
        # sum alpha_i = |beta|_p^p is implied by both, so they must agree.
        alpha = alpha * (np.abs(beta[:4]) ** p).sum() / alpha.sum()
        move = np.linalg.lstsq(A, b - A @ Z[:, :4].reshape(-1), rcond=None)[0]
        Z[:, :4] += move.reshape(n, 4)
    return Classification(np.vstack([Z, 3 * Z]), np.ones(2 * n)), beta, alpha


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_stationary_by_construction(depth):
    problem, beta, alpha = stationary_diagonal(depth, depth)
    certificate = bridge_certificate(problem, 0.1 * beta, depth, "identity")
    assert certificate.residual < 1e-12
    np.testing.assert_allclose(certificate.multipliers[:3], alpha, rtol=1e-8)
    # The others have margin 3: support vectors only may have multipliers.
    assert float(certificate.multipliers[3:].max()) < 1e-12
    assert certificate.support.tolist() == [True] * 4 + [False] * 3
    # The balanced network of a stationary predictor is stationary in the parameters.
    network = LinearNetwork("diagonal", 7, depth)
    w = balanced_parameters(network, beta)
    parameters = parameter_certificate(problem, network, 5 * w)
    assert parameters.residual < 1e-12
    np.testing.assert_allclose(parameters.multipliers[:3], alpha, rtol=1e-8)
    assert parameters.support.tolist() == [True] * 3 + [False] * 3
    # Wrong depth, and a neighbour on the same support: the residual is of the size of the error.
    assert bridge_certificate(problem, beta, depth + 1, "identity").residual > 1e-2
    moved = beta.copy()
    for size in (1e-2, 1e-5):
        moved[1] = beta[1] * (1 + size)
        for residual in (
            bridge_certificate(problem, moved, depth, "identity").residual,
            parameter_certificate(problem, network, balanced_parameters(network, moved)).residual,
        ):
            assert 1e-2 * size < residual < 1e2 * size


def test_both_certificates_are_one_on_balanced_networks():
    """The weights of the predictor's equations are what the layers multiply them by."""
    rng = np.random.default_rng(2)
    for depth in (2, 3, 4):
        problem = random_problem(4, 6, depth)
        for kind, basis in (("diagonal", "identity"), ("convolutional", "fourier")):
            network = LinearNetwork(kind, 6, depth)
            beta = max_margin(problem).x.numpy() + 0.01 * rng.standard_normal(6)
            w = balanced_parameters(network, beta)
            one = parameter_certificate(problem, network, w)
            two = bridge_certificate(problem, beta, depth, basis)
            # At p = 1 the predictor's residual also has the excess over 1.
            assert one.residual <= two.residual * (1 + 1e-9)
            if depth > 2:
                assert one.residual == pytest.approx(two.residual, rel=1e-9)


def test_against_a_convex_programme():
    """For depth 2 the residual is zero exactly at the least l1 norm: another solver's point."""
    problem = random_problem(6, 10, 3)
    beta = cp.Variable(10)
    Z = problem.Z.numpy()
    cp.Problem(cp.Minimize(cp.norm1(beta)), [Z @ beta >= 1]).solve(solver=cp.HIGHS)
    assert bridge_certificate(problem, beta.value, 2, "identity").residual < 1e-7


def test_a_zero_that_is_not_one():
    """Coefficients below the threshold count as zero, and their share is reported."""
    problem, beta, _ = stationary_diagonal(3, 0)
    noisy = beta.copy()
    noisy[5] = 1e-9
    assert bridge_certificate(problem, noisy, 3, "identity").residual < 1e-8
    # Without a threshold a coefficient of 1e-9 should have |v| = 1e3: it counts with its root.
    assert bridge_certificate(problem, noisy, 3, "identity", zero=0.0).residual > 1e-4
    noisy[5] = 1e-3
    blind = problem.X.clone()
    blind[:, 5] = 0  # no example sees it, so that nothing else is wrong
    loose = bridge_certificate(Classification(blind, problem.y), noisy, 3, "identity", zero=1e-2)
    assert loose.residual == pytest.approx(1e-3 / np.linalg.norm(noisy), rel=1e-6)
    assert not loose.support[5]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_free(scale):
    problem = random_problem(4, 6, 8)
    beta = max_margin(problem).x
    bigger = Classification(scale * problem.X, problem.y)
    for depth in (2, 3):
        expected = bridge_certificate(problem, beta, depth).residual
        assert bridge_certificate(bigger, beta / 7, depth).residual == pytest.approx(expected)
    network = LinearNetwork("diagonal", 6, 3)
    w = balanced_parameters(network, beta)
    one, two = (parameter_certificate(p, network, w) for p in (problem, bigger))
    assert one.residual == pytest.approx(two.residual)
    assert one.second_order == pytest.approx(two.second_order)


def test_two_dimensional_transform():
    problem = random_problem(5, 12, 4)
    shape = (3, 4)
    beta = cp.Variable(12)
    rows, columns = (np.fft.fft(np.eye(m), norm="ortho") for m in shape)
    matrix = np.kron(rows, columns)
    sizes = cp.norm(cp.vstack([matrix.real @ beta, matrix.imag @ beta]), 2, axis=0)
    Z = problem.Z.numpy()
    cp.Problem(cp.Minimize(cp.sum(sizes)), [Z @ beta >= 1]).solve(solver=cp.CLARABEL)
    # The cone programme's accuracy: its square root in the coefficients that vanish.
    assert bridge_certificate(problem, beta.value, 2, shape=shape, zero=1e-5).residual < 1e-4
    assert bridge_certificate(problem, beta.value, 2, zero=1e-5).residual > 1e-2


# ---- multipliers that are not unique


@pytest.mark.parametrize("rows", [[[1.0, -2.0], [1.0, 0.5]], [[1.0, 0.5], [1.0, -2.0]]])
def test_an_optimum_in_any_order_of_the_examples(rows):
    """Both examples are active at (1, 0); alpha = (1, 0) alone gives |v_2| = 2, others less."""
    problem = Classification(rows, [1, 1])
    torch.testing.assert_close(max_margin(problem, 1).x, torch.tensor([1.0, 0.0]).double())
    certificate = bridge_certificate(problem, [1.0, 0.0], 2, "identity")
    assert certificate.residual < 1e-14
    alpha = certificate.multipliers
    assert float(alpha.min()) >= 0
    assert float((alpha @ problem.Z)[0]) == pytest.approx(1)
    assert abs(float((alpha @ problem.Z)[1])) <= 1 + 1e-14
    # (0, 1) does not even separate; a neighbour with both coordinates does, and is no optimum.
    assert bridge_certificate(problem, [1.0, 0.1], 2, "identity").residual > 0.1


@pytest.mark.parametrize(
    ("basis", "norm", "n", "d"), [("identity", 1, 8, 6), ("fourier", "fourier", 6, 8)]
)
def test_optima_of_data_of_signs(basis, norm, n, d):
    """Entries of +-1 make dependent active examples: the answer is still that of the programme."""
    optima = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        X = rng.choice([-1.0, 1.0], (n, d))
        y = np.sign(X @ rng.standard_normal(d)) if n > d else rng.choice([-1, 1], n)
        problem = Classification(X, y)
        try:
            limit = max_margin(problem, norm)
        except NotSeparable:
            continue
        # The accuracy of the limit.
        assert bridge_certificate(problem, limit.x, 2, basis).residual < 1e-9
        optima += 1
        # What is not optimal is not made so by a better choice of multipliers.
        other = max_margin(problem).x
        coefficients = unitary_dft(other).abs() if basis == "fourier" else other.abs()
        if float(coefficients.sum()) > limit.objective * (1 + 1e-6):
            assert bridge_certificate(problem, other, 2, basis).residual > 1e-3
    assert optima >= 25


def test_unique_multipliers_are_judged_as_before():
    """The residual of the Euclidean separator, where no other multipliers fit the equations."""
    rng = np.random.default_rng(0)
    problem = Classification(rng.standard_normal((10, 24)), rng.choice([-1, 1], 10))
    residual = bridge_certificate(problem, max_margin(problem).x, 2).residual
    assert residual == pytest.approx(0.41971680, abs=1e-8)


@pytest.mark.parametrize("slope", [2.0, 5.0])
@pytest.mark.parametrize("swap", [False, True])
def test_second_order_at_a_global_minimum(slope, swap):
    """w is the least |w|^2 = 2; the best multipliers have v_2 = 0, and then the curvature is 1."""
    rows = [[1.0, -slope], [1.0, 0.5]]
    problem = Classification(rows[::-1] if swap else rows, [1, 1])
    network = LinearNetwork("diagonal", 2, 2)
    certificate = parameter_certificate(problem, network, [1.0, 0.0, 1.0, 0.0])
    assert certificate.residual < 1e-14
    assert certificate.second_order == pytest.approx(1.0, abs=1e-7)
    assert not certificate.saddle


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_the_best_multipliers_against_a_cone_programme():
    """max over the multipliers of the least eigenvalue, as a semidefinite programme."""
    seen = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.choice([-1.0, 1.0], (6, 5))
        problem = Classification(X, np.sign(X @ rng.standard_normal(5)))
        network = LinearNetwork("diagonal", 5, 2)
        w = balanced_parameters(network, max_margin(problem, 1).x).numpy()
        w = w / math.sqrt(float((problem.Z @ network.predictor(w)).min()))
        certificate = parameter_certificate(problem, network, w)
        assert not certificate.saddle  # it is the global minimum
        Z = problem.Z.numpy()
        active = Z[Z @ network.predictor(w).numpy() < 1 + 1e-9]
        gradients = active @ network.jacobian(w).numpy()
        hessians = [network.hessian(w, z).numpy() for z in active]
        alpha, s = cp.Variable(len(active), nonneg=True), cp.Variable()
        fits = [gradients.T @ alpha == w]
        reach = []
        for i in range(len(active)):
            cp.Problem(cp.Maximize(alpha[i]), fits).solve(solver=cp.HIGHS)
            reach.append(float(alpha.value[i]))
        strict = gradients[np.array(reach) > 1e-6]
        _, sizes, Vh = np.linalg.svd(strict)
        T = Vh[int((sizes > 1e-9).sum()) :]
        M = np.eye(len(T)) - sum(alpha[i] * (T @ h @ T.T) for i, h in enumerate(hessians))
        cone = cp.Problem(cp.Maximize(s), [*fits, (M + M.T) / 2 - s * np.eye(len(T)) >> 0])
        cone.solve(solver=cp.CLARABEL)
        # Interior-point accuracy.
        assert certificate.second_order == pytest.approx(cone.value, abs=1e-6)
        seen += len(active) > np.linalg.matrix_rank(gradients)
    assert seen >= 3


# m_1 = a^2 + 3 c^2 alone has a saddle at w = (1, 0, 0): the Hessian is diag(0, 1, -2).
CORNER = Parameterisation(
    lambda w: torch.stack([w[0] ** 2, w[2] ** 2, w[0] * w[1], w[0] * w[2]]), 2
)


@pytest.mark.parametrize(
    ("more", "saddle"),
    [
        ([], True),
        ([[1.0, 0.0, 1.0, 0.0]], True),  # permits b >= 0
        ([[1.0, 0.0, 0.0, 1.0]], True),  # permits c >= 0: along +c the norm still falls
        # permit |c| <= b/2 only, and there b^2 - 2 c^2 > 0
        ([[1.0, 0.0, 1.0, 2.0], [1.0, 0.0, 1.0, -2.0]], False),
        # permit |c| <= 10 b: from (0, 1) the nearest permitted direction is of curvature < 0
        ([[1.0, 0.0, 10.0, 1.0], [1.0, 0.0, 10.0, -1.0]], True),
    ],
)
def test_active_margins_of_multiplier_zero(more, saddle):
    """Unique multipliers, (1/2, 0, ...): tangents go farther than what the margins permit."""
    rows = [[1.0, 3.0, 0.0, 0.0], *more]
    problem = Classification(rows, np.ones(len(rows)))
    certificate = parameter_certificate(problem, CORNER, [1.0, 0.0, 0.0])
    assert certificate.residual < 1e-14
    assert certificate.multipliers.tolist() == pytest.approx([0.5] + [0.0] * len(more))
    assert certificate.second_order == pytest.approx(-2.0)
    assert certificate.saddle == saddle
    # Feasible points near w: is one of them shorter?
    rng = np.random.default_rng(0)
    steps = 1e-3 * rng.standard_normal((20000, 2))
    Z = problem.Z.numpy()
    a = np.zeros(len(steps))
    for z in Z:  # a^2 + 3 c^2 z_2 + a (b z_3 + c z_4) >= 1: the larger root
        lin, rest = steps @ z[2:], z[1] * steps[:, 1] ** 2 - 1
        a = np.maximum(a, (-lin + np.sqrt(lin**2 - 4 * rest)) / 2)
    assert bool((a**2 + (steps**2).sum(1)).min() < 1 - 1e-9) == saddle


# ---- maps that are not homogeneous


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0, 10.0, 150.0])
def test_the_length_of_w_does_not_matter_without_homogeneity(size):
    """P(w) = (w_0^2, w_1): at (c, s) with c^2 + s = 1 the gradient is (2 c, 1)."""
    problem = Classification([[1.0, 1.0]], [1])
    mixed = Parameterisation(lambda w: torch.stack([w[0] ** 2, w[1]]), 2, 2, homogeneous=False)
    w = np.array([0.8, 0.36])
    certificate = parameter_certificate(problem, mixed, size * w)
    assert certificate.scale == pytest.approx(1 / size, rel=1e-12)
    gradient = np.array([1.6, 1.0])
    cosine = float(w @ gradient / np.linalg.norm(w) / np.linalg.norm(gradient))
    assert certificate.residual == pytest.approx(math.sqrt(1 - cosine**2), rel=1e-9)


def test_no_multiple_has_margin_one():
    bounded = Parameterisation(lambda w: torch.tanh(w) / 2, 1, 2, homogeneous=False)
    with pytest.raises(ValueError, match=r"no multiple of w .* at most 0\.5"):
        parameter_certificate(Classification([[1.0, 0.0]], [1]), bounded, [1.0, 1.0])
    with pytest.raises(ValueError, match="no multiple of w"):
        parameter_certificate(Classification([[1.0, 0.0]], [1]), bounded, [0.0, 0.0])


# ---- second order


def test_second_order():
    """min (u^2 + v^2) with z u v >= 1: a minimum at u = v, curvature 2 across."""
    problem = Classification([[4.0]], [1])
    network = LinearNetwork("diagonal", 1, 2)
    certificate = parameter_certificate(problem, network, [1.0, 1.0])
    assert certificate.residual < 1e-15
    assert certificate.second_order == pytest.approx(2.0)


def test_second_order_saddle():
    """Two coefficients, equal examples: the smaller one is stationary, and not a minimum."""
    problem = Classification([[1.0, 2.0]], [1])
    network = LinearNetwork("diagonal", 2, 2)
    worse = parameter_certificate(problem, network, [1.0, 0.0, 1.0, 0.0])
    best = parameter_certificate(problem, network, [0.0, 1.0, 0.0, 1.0])
    assert max(worse.residual, best.residual) < 1e-15
    # I - alpha z_2 [[0, 1], [1, 0]] with alpha = 1: eigenvalues 1 -+ 2; with alpha = 1/2, 1 -+ 1/2.
    assert worse.second_order == pytest.approx(-1.0)
    assert best.second_order == pytest.approx(0.5)


def test_symmetries_give_zeros():
    problem = random_problem(4, 5, 1)
    network = LinearNetwork("full", 5, 2, width=3)
    w = balanced_parameters(network, max_margin(problem).x)
    certificate = parameter_certificate(problem, network, w)
    assert certificate.residual < 1e-13
    assert abs(certificate.second_order) < 1e-12


def test_several_outputs_and_own_maps():
    problem = random_problem(3, 6, 5, outputs=2)
    limit = max_margin(problem, "nuclear")
    network = LinearNetwork("full", 6, 2, width=3, outputs=2)
    certificate = parameter_certificate(problem, network, balanced_parameters(network, limit.x))
    assert certificate.residual < 1e-9  # the accuracy of the limit
    assert certificate.multipliers.shape == (3, 2)
    own = Parameterisation(lambda w: torch.outer(w[:6], w[6:]), 2, 8)
    rank_one = torch.cat([torch.ones(6), torch.ones(2)]).double()
    data = Classification(problem.X.abs(), np.ones((3, 2)))
    assert parameter_certificate(data, own, rank_one).residual > 0.1


def test_no_tangent_is_left():
    certificate = parameter_certificate(
        Classification([[2.0]], [1]), LinearNetwork("full", 1, 1), [1.0]
    )
    assert certificate.second_order == math.inf


# ---- messages


def test_messages():
    problem = random_problem(3, 4, 0)
    beta = max_margin(problem).x
    network = LinearNetwork("diagonal", 4, 2)
    with pytest.raises(ValueError, match="predictor does not separate the data"):
        bridge_certificate(problem, -beta, 3)
    with pytest.raises(ValueError, match="predictor of w does not separate"):
        parameter_certificate(problem, network, np.zeros(8))
    with pytest.raises(ValueError, match="no basis 'wavelet'"):
        bridge_certificate(problem, beta, 3, "wavelet")
    with pytest.raises(ValueError, match="depth = 1 is too small"):
        bridge_certificate(problem, beta, 1)
    with pytest.raises(ValueError, match="4 features"):
        bridge_certificate(problem, beta, 3, shape=(3, 2))
    with pytest.raises(ValueError, match="the predictor has 3 entries"):
        bridge_certificate(problem, beta[:3], 3)
    with pytest.raises(TypeError, match="shape = 4 is not a tuple"):
        bridge_certificate(problem, beta, 3, shape=4)
    with pytest.raises(ValueError, match="two sides of an image"):
        bridge_certificate(problem, beta, 3, shape=(1, 2, 2))
    for basis in ("identity", "euclidean"):
        with pytest.raises(ValueError, match="for basis='fourier' only"):
            bridge_certificate(problem, beta, 3, basis, shape=(2, 2))
    with pytest.raises(TypeError, match="zero is not a single real number"):
        bridge_certificate(problem, beta, 3, zero="small")
    with pytest.raises(TypeError, match="network is a str"):
        parameter_certificate(problem, "net", np.ones(8))
    with pytest.raises(ValueError, match="zero = 2"):
        bridge_certificate(problem, beta, 3, zero=2)
    with pytest.raises(TypeError, match="needs a Classification"):
        bridge_certificate(Regression(problem.X, problem.y), beta, 3)
    with pytest.raises(ValueError, match="one output"):
        bridge_certificate(random_problem(3, 2, 0, outputs=2), beta, 3)
    with pytest.raises(ValueError, match="need 8"):
        parameter_certificate(random_problem(3, 4, 0, outputs=2), network, np.ones(8))
    with pytest.raises(ValueError, match="NaN"):
        bridge_certificate(problem, [math.nan] * 4, 3)
