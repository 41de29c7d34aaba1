"""Certificates: zero at points known to be stationary, and not at their neighbours."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from implicit_bias import Classification, Regression, max_margin
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
