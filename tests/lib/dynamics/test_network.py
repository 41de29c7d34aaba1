"""The flow of linear networks: limits that are known, certificates, another integrator."""

import itertools
import math

import numpy as np
import pytest
import torch
from implicit_bias import Classification, NotSeparable, Regression, angle, margin, max_margin
from implicit_bias.certificates import bridge_certificate, parameter_certificate
from implicit_bias.dynamics.network import NetworkPath, network_flow
from implicit_bias.dynamics.stuck import Stuck
from implicit_bias.limits.bridge import brute_force_bridge
from implicit_bias.models.factorisations import unitary_dft
from implicit_bias.models.linear import LinearNetwork
from implicit_bias.models.parameterisation import Parameterisation
from scipy.integrate import quad, solve_ivp


def random_problem(n, d, seed, outputs=None):
    rng = np.random.default_rng(seed)
    shape = (n,) if outputs is None else (n, outputs)
    return Classification(rng.standard_normal((n, d)), np.sign(rng.standard_normal(shape)))


def check_record(path, problem, network):
    """What holds of every flow that converged."""
    assert isinstance(path, NetworkPath)
    assert path.stopped == "converged"
    times = path.times.tolist()
    assert times[0] == -math.inf
    assert times[-1] == math.inf
    assert all(a < b for a, b in itertools.pairwise(times))
    k = len(times)
    for values in (path.points, path.log_norms, path.kappas, path.residuals, path.log_losses):
        assert len(values) == k
    assert 0 < path.hand_off < k
    np.testing.assert_allclose(path.points.norm(dim=1), 1, rtol=1e-14)
    # The loss falls along a gradient flow.
    assert bool((path.log_losses[1:] < path.log_losses[:-1]).all())
    beta = network.predictor(path.x)
    torch.testing.assert_close(path.predictor, beta / beta.norm())
    # The flow's own multipliers prove less than the best ones. They know nothing of rounding.
    certificate = parameter_certificate(problem, network, path.x)
    assert certificate.residual <= float(path.residuals[-1]) * (1 + 1e-6) + 1e-13
    assert path.moved < 1e-7
    assert float((path.polished - path.x).norm()) == pytest.approx(path.moved)
    polished = network.predictor(path.polished)
    torch.testing.assert_close(path.polished_predictor, polished / polished.norm())
    assert parameter_certificate(problem, network, path.polished).residual < 1e-12


# ---- limits that are known


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("width", [1, 3])
def test_full_networks_end_at_the_l2_separator(depth, width):
    for seed in range(2):
        problem = random_problem(6, 7, seed)
        network = LinearNetwork("full", 7, depth, width=width)
        path = network_flow(problem, network, network.sample(seed, 0.5))
        check_record(path, problem, network)
        separator = max_margin(problem).x
        # kappa is capped at 1e10 over the size of the predictor: 1e-8 is 100 times that.
        assert angle(path.predictor, separator) < 1e-8
        assert angle(path.polished_predictor, separator) < 1e-13


def test_diagonal_depth_2_has_the_l1_margin():
    for seed in range(3):
        problem = random_problem(5, 8, seed)
        network = LinearNetwork("diagonal", 8, 2)
        path = network_flow(problem, network, network.sample(seed, 0.5))
        check_record(path, problem, network)
        best = 1 / max_margin(problem, 1).objective
        assert margin(problem, path.predictor, 1) == pytest.approx(best, rel=1e-6)
        assert bridge_certificate(problem, path.predictor, 2, "identity").residual < 1e-8


def test_convolutional_depth_2_is_the_same_from_every_start():
    problem = random_problem(6, 12, 0)
    network = LinearNetwork("convolutional", 12, 2)
    limit = max_margin(problem, "fourier")
    for seed in range(4):
        path = network_flow(problem, network, network.sample(seed, 0.2 + 0.3 * seed))
        check_record(path, problem, network)
        assert angle(path.predictor, limit.x) < 1e-8
        assert bridge_certificate(problem, path.predictor, 2).residual < 1e-8
    # Not what the other networks find.
    assert angle(path.predictor, max_margin(problem).x) > 0.1


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_both_certificates_of_deep_convolutional_networks(depth):
    problem = random_problem(8, 16, depth)
    network = LinearNetwork("convolutional", 16, depth)
    for seed in range(3):
        path = network_flow(problem, network, network.sample(seed, 0.3))
        check_record(path, problem, network)
        flow = parameter_certificate(problem, network, path.x)
        assert flow.residual < 1e-7
        assert flow.second_order > -1e-6  # no saddle; symmetries give zeros
        assert bridge_certificate(problem, path.predictor, depth).residual < 1e-7
        assert bridge_certificate(problem, path.polished_predictor, depth).residual < 1e-12
        # Its neighbours are not stationary.
        near = path.predictor + 1e-3 * torch.linspace(-1, 1, 16, dtype=torch.float64)
        assert bridge_certificate(problem, near, depth).residual > 1e-4
        # Sparse in frequency: no more pairs than examples.
        spectrum = unitary_dft(path.predictor).abs()
        assert int((spectrum[:9] > 1e-6 * spectrum.max()).sum()) <= 8


def test_residuals_fall_with_kappa():
    """From the flow's own weights; the last is the rest point at the capped temperature."""
    problem = random_problem(5, 10, 1)
    network = LinearNetwork("convolutional", 10, 3)
    path = network_flow(problem, network, network.sample(0, 0.3))
    late = path.kappas > 1e4
    products = (path.residuals * path.kappas)[late]
    assert float(path.residuals[-1]) < 1e-8
    assert float(path.residuals[late][0]) > 1e3 * float(path.residuals[-1])
    assert int(late.sum()) > 10
    assert bool(torch.isfinite(products).all())


@pytest.mark.parametrize("k", [2, 3])
def test_several_outputs_have_the_nuclear_margin(k):
    problem = random_problem(7, 8, k, outputs=k)
    network = LinearNetwork("full", 8, 2, width=4, outputs=k)
    best = 1 / max_margin(problem, "nuclear").objective
    for seed in range(2):
        path = network_flow(problem, network, network.sample(seed, 0.5))
        check_record(path, problem, network)
        assert path.predictor.shape == (8, k)
        assert margin(problem, path.predictor, "nuclear") == pytest.approx(best, rel=1e-6)
    # One layer: the Frobenius separator, that is the l2 separator of each output.
    single = LinearNetwork("full", 8, 1, outputs=k)
    path = network_flow(problem, single, single.sample(0))
    columns = [max_margin(Classification(problem.X, problem.y[:, j])).x for j in range(k)]
    assert angle(path.predictor.reshape(-1), torch.stack(columns, 1).reshape(-1)) < 1e-8
    assert margin(problem, path.predictor, "nuclear") < best * (1 - 1e-4)


def test_two_dimensional_convolutions():
    problem = random_problem(6, 12, 0)
    network = LinearNetwork("convolutional", 12, 2, shape=(3, 4))
    path = network_flow(problem, network, network.sample(0, 0.5))
    check_record(path, problem, network)
    assert bridge_certificate(problem, path.predictor, 2, shape=(3, 4)).residual < 1e-8
    assert bridge_certificate(problem, path.predictor, 2).residual > 1e-2


@pytest.mark.parametrize("K", [1, 3])
def test_narrow_filters(K):
    problem = random_problem(5, 10, 2)
    network = LinearNetwork("convolutional", 10, 2, width=K)
    path = network_flow(problem, network, network.sample(0, 0.5))
    check_record(path, problem, network)
    away = angle(path.predictor, max_margin(problem).x)
    # At K = 1 the penalty is the Euclidean norm.
    assert away < 1e-8 if K == 1 else away > 1e-2


@pytest.mark.parametrize(("depth", "basis"), [(3, "fourier"), (4, "identity")])
def test_brute_force_is_never_beaten(depth, basis):
    problem = random_problem(3, 6, depth)
    least = brute_force_bridge(problem, depth, basis).objective
    kind = "convolutional" if basis == "fourier" else "diagonal"
    network = LinearNetwork(kind, 6, depth)
    ratios = []
    for seed in range(6):
        beta = network_flow(problem, network, network.sample(seed, 0.5)).predictor
        size = unitary_dft(beta).abs() if basis == "fourier" else beta.abs()
        size = size[size > 1e-9 * size.max()] / (problem.Z @ beta).min()
        ratios.append(float((size ** (2 / depth)).sum() ** (depth / 2)) / least)
    assert min(ratios) > 1 - 1e-6
    assert min(ratios) < 1 + 1e-6 or max(ratios) > 1 + 1e-3  # found, or lost to another limit


# ---- the flow itself


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize(
    "network",
    [
        LinearNetwork("convolutional", 5, 3),
        LinearNetwork("diagonal", 5, 4),
        LinearNetwork("full", 5, 2, width=2),
        LinearNetwork("full", 5, 1),
    ],
    ids=repr,
)
def test_against_plain_gradient_flow(network, loss):
    """The same flow in time itself, by another integrator, with torch's own derivatives."""
    problem = random_problem(3, 5, 7)
    start = network.sample(3, 0.5)
    log_norm = math.log(4.0)
    path = network_flow(problem, network, start, loss=loss, rtol=1e-11, log_norm=log_norm)
    assert path.stopped == "reached"
    assert path.polished is None
    assert math.isnan(path.moved)
    assert path.hand_off == len(path.times)

    def slope(w):
        w = torch.from_numpy(w).requires_grad_()
        parts = network.split(w.detach())
        entries = w.split([part.numel() for part in parts])
        layers = [e.reshape(part.shape) for e, part in zip(entries, parts, strict=True)]
        if network.kind == "full":
            beta = layers[0]
            for layer in layers[1:]:
                beta = beta @ layer
            beta = beta[:, 0]
        elif network.kind == "diagonal":
            beta = torch.stack(layers).prod(0)
        else:
            beta = torch.fft.ifft(torch.fft.fft(torch.stack(layers)).prod(0)).real
        m = problem.Z @ beta
        value = torch.exp(-m) if loss == "exponential" else torch.log1p(torch.exp(-m))
        (gradient,) = torch.autograd.grad(value.sum(), w)
        return -gradient.numpy()

    end = float(path.times[-1].exp())
    other = solve_ivp(
        lambda t, w: slope(w), (0, end), start.numpy(), "LSODA", rtol=1e-10, atol=1e-11
    )
    w = path.x * path.log_norms[-1].exp()
    assert float(path.log_norms[-1]) == pytest.approx(log_norm, abs=1e-9)
    # Time is a quadrature over the steps of the integrator; dw/d log t is about 1 here.
    np.testing.assert_allclose(w, other.y[:, -1], atol=2e-5)


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_time_by_quadrature(depth):
    """One weight w in each layer: t is the integral of e^(u^L) u^(1-L) du."""
    problem = Classification([[1.0]], [1])
    path = network_flow(problem, LinearNetwork("diagonal", 1, depth), [0.5] * depth)

    def log_time(w):
        ends = [max(0.5, w - k / (depth * w ** (depth - 1))) for k in (0, 2, 8, 30, 60)]
        pieces = [
            quad(lambda u: math.exp(u**depth - w**depth) * u ** (1 - depth), a, b, epsrel=1e-10)[0]
            for b, a in itertools.pairwise([*ends, 0.5])
        ]
        return w**depth + math.log(sum(pieces))

    for i in (1, 2, path.hand_off - 1, path.hand_off, path.hand_off + 4):
        w = math.exp(float(path.log_norms[i])) / math.sqrt(depth)
        # Hermite's cubic for the rate, over steps in which it changes by up to e^90.
        assert float(path.times[i]) == pytest.approx(log_time(w), abs=0.03)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_implicit_steps_follow_the_flow(depth):
    """On the way, not only in the end: the explicit integrator goes to the same norm."""
    problem = random_problem(4, 8, depth)
    network = LinearNetwork("convolutional", 8, depth)
    start = network.sample(0, 0.3)
    path = network_flow(problem, network, start, hand_off=30)
    longest = float(problem.Z.norm(dim=1).max())
    for kappa in (300, 1e4):
        j = int(torch.searchsorted(path.kappas[path.hand_off :], kappa)) + path.hand_off
        log_norm = float(path.log_norms[j])
        explicit = network_flow(problem, network, start, log_norm=log_norm)
        # kappa and log |w| are those of one step, up to the error of extrapolating mu.
        expected = longest * math.exp(depth * log_norm)
        assert float(path.kappas[j]) == pytest.approx(expected, rel=1e-2)
        # Steps of order two, of which each deviates by at most 2e-3 from a straight course.
        assert float((explicit.x - path.points[j]).norm()) < 2e-3
        assert float(explicit.times[-1]) == pytest.approx(float(path.times[j]), rel=2e-2)
        assert float(explicit.log_losses[-1]) == pytest.approx(float(path.log_losses[j]), rel=2e-2)


@pytest.mark.parametrize("depth", [3, 4])
def test_the_limit_does_not_depend_on_tolerances(depth):
    problem = random_problem(5, 10, 10 + depth)
    network = LinearNetwork("convolutional", 10, depth)
    for seed in range(2):
        start = network.sample(seed, 0.4)
        limits = [
            network_flow(problem, network, start, **how).predictor
            for how in (
                {},
                {"rtol": 1e-11},
                {"hand_off": 30},
                {"hand_off": 3000},
                {"growth": 0.1},
            )
        ]
        for other in limits[1:]:
            assert float((other - limits[0]).norm()) < 1e-7


def test_a_polish_that_moves_far_is_refused(monkeypatch):
    problem = random_problem(4, 6, 0)
    network = LinearNetwork("convolutional", 6, 3)
    start = network.sample(0, 0.5)
    accepted = network_flow(problem, network, start)
    monkeypatch.setattr("implicit_bias.dynamics.network._FARTHEST", accepted.moved / 2)
    refused = network_flow(problem, network, start)
    assert refused.polished is None
    assert refused.polished_predictor is None
    assert refused.moved == accepted.moved
    assert torch.equal(refused.x, accepted.x)  # the flow's own end, in either case


def test_past_a_saddle():
    """The second coefficient starts at 1e-6 and must win, like a power of the norm: 1e-6 to 1
    takes some 70 units of log |w|, far beyond the cap of kappa."""
    problem = Classification([[1.0, 1.1]], [1])
    network = LinearNetwork("diagonal", 2, 2)
    path = network_flow(problem, network, [1.0, 1e-3, 1.0, 1e-3])
    assert path.stopped == "converged"
    torch.testing.assert_close(path.predictor.abs(), torch.tensor([0.0, 1.0]).double())
    # From exactly zero it cannot, and the flow does end at the saddle.
    stays = network_flow(problem, network, [1.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(stays.predictor, torch.tensor([1.0, 0.0]).double())
    assert parameter_certificate(problem, network, stays.x).second_order < -0.05


def test_starts_of_every_size():
    problem = random_problem(4, 8, 3)
    network = LinearNetwork("convolutional", 8, 3)
    for scale in (1e-3, 1e-1, 1.0, 5.0):
        path = network_flow(problem, network, network.sample(1, scale))
        check_record(path, problem, network)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scale_of_the_data(scale):
    """Data c times as large are the same flow with c^(1/L) times the parameters."""
    problem = random_problem(4, 6, 5)
    network = LinearNetwork("convolutional", 6, 3)
    start = network.sample(2, 0.5)
    expected = network_flow(problem, network, start).predictor
    bigger = Classification(scale * problem.X, problem.y)
    path = network_flow(bigger, network, start / scale ** (1 / 3))
    assert float((path.predictor - expected).norm()) < 1e-8


def test_logistic_loss():
    problem = random_problem(5, 10, 4)
    network = LinearNetwork("convolutional", 10, 3)
    path = network_flow(problem, network, network.sample(0, 0.3), loss="logistic")
    assert path.stopped == "converged"
    assert bridge_certificate(problem, path.predictor, 3).residual < 1e-7
    # At the hand-off margins exceed 37.
    w = path.points[path.hand_off] * path.log_norms[path.hand_off].exp()
    assert float((problem.Z @ network.predictor(w)).min()) > 37


def test_dependent_margins():
    """More active examples than the predictor has freedom: the multipliers are not unique."""
    rng = np.random.default_rng(5)
    half = rng.standard_normal((3, 12))
    problem = Classification(np.vstack([half + 1, -half - 1.5]), np.ones(6))
    network = LinearNetwork("convolutional", 12, 3)
    path = network_flow(problem, network, network.sample(0))
    assert path.stopped == "converged"
    assert parameter_certificate(problem, network, path.x).residual < 1e-8


def test_duplicated_examples():
    problem = random_problem(4, 6, 2)
    doubled = Classification(problem.X.repeat(2, 1), problem.y.repeat(2))
    network = LinearNetwork("full", 6, 2, width=2)
    path = network_flow(doubled, network, network.sample(0))
    assert angle(path.predictor, max_margin(problem).x) < 1e-8


# ---- maps of one's own


def test_own_map_is_followed_like_the_network_that_it_is():
    problem = random_problem(3, 4, 0)
    network = LinearNetwork("convolutional", 4, 3)
    own = Parameterisation(
        lambda w: torch.fft.ifft(torch.fft.fft(w.reshape(3, 4)).prod(0)).real, 3, 12
    )
    start = network.sample(1, 0.5)
    one, two = (network_flow(problem, p, start) for p in (network, own))
    torch.testing.assert_close(one.predictor, two.predictor, rtol=0, atol=1e-8)


def test_own_map():
    problem = Classification([[1.0, 0.3, 0.2], [0.2, 1.0, -0.1]], [1, 1])
    own = Parameterisation(
        lambda w: torch.stack([w[0] * w[1] - w[2] * w[3], w[1] ** 2 + w[0] * w[2], w[3] * w[4]]),
        2,
        5,
    )
    path = network_flow(problem, own, own.sample(0, 0.5))
    check_record(path, problem, own)


def test_without_homogeneity_it_fails():
    """P(w) = (w_0^2, w_1): w ends along w_0, where the gradient of the margin also has w_1."""
    problem = Classification([[1.0, 1.0]], [1])
    own = Parameterisation(lambda w: torch.stack([w[0] ** 2, w[1]]), 2, 2, homogeneous=False)
    residuals = []
    for log_norm in (2.0, 3.0, 4.0):
        path = network_flow(problem, own, [0.5, 0.5], log_norm=log_norm)
        residuals.append(parameter_certificate(problem, own, path.x).residual)
    # w = (1, 0), grad m = (2, 1): the sine of their angle is 1/sqrt 5.
    assert abs(residuals[2] - 5**-0.5) < abs(residuals[1] - 5**-0.5) < 0.3
    assert min(residuals) > 0.2
    with pytest.raises(ValueError, match=r"not homogeneous.*Pass log_norm"):
        network_flow(problem, own, [0.5, 0.5])


# ---- failures


def test_out_of_steps_but_separated():
    problem = random_problem(5, 8, 0)
    network = LinearNetwork("convolutional", 8, 2)
    start = network.sample(0, 0.5)
    for how in ({"log_norm": 8.0, "steps": 300}, {"hand_off": 1e6, "steps": 100}):
        with pytest.raises(Stuck, match=r"ran out before the end.*separated.*smaller log_norm"):
            network_flow(problem, network, start, **how)


def test_large_data():
    """The advice is one that works."""
    problem = random_problem(5, 8, 0)
    network = LinearNetwork("convolutional", 8, 2)
    start = network.sample(0, 0.3)
    expected = max_margin(problem, "fourier").x
    large = Classification(1e6 * problem.X, problem.y)
    with pytest.raises(Stuck, match=r"start was too large.*Divide X by") as caught:
        network_flow(large, network, start, steps=100)
    advice = float(str(caught.value).split("|w| of about ")[1].rstrip("."))
    path = network_flow(large, network, start / start.norm() * advice)
    assert angle(path.predictor, expected) < 1e-8
    with pytest.raises(ValueError, match=r"so large.*Divide X by") as refused:
        network_flow(Classification(1e9 * problem.X, problem.y), network, start)
    assert float(str(refused.value).split("|w| of about ")[1].rstrip(".")) < 0.01
    with pytest.raises(ValueError, match="start is so large"):
        network_flow(problem, network, 1e200 * start)


def test_starts_too_small_for_floats():
    problem = random_problem(3, 4, 0)
    for depth, tiny in ((1, 1e-310), (2, 1e-200), (4, 1e-200), (8, 1e-60)):
        network = LinearNetwork("diagonal", 4, depth)
        with pytest.raises(ValueError, match="so close to zero"):
            network_flow(problem, network, network.sample(0, tiny))
    # Above that they are followed.
    network = LinearNetwork("convolutional", 4, 4)
    path = network_flow(problem, network, network.sample(0, 1e-30))
    assert path.stopped == "converged"


def test_short_examples_are_not_zeros():
    """Beside an example of length 1 one of 1e-13 is short; no combination of them is zero."""
    problem = Classification([[1.0, 0.0], [0.0, 1e-13]], [1, 1])
    network = LinearNetwork("full", 2, 1)
    path = network_flow(problem, network, [1.0, 1.0], log_norm=1.0)
    assert path.stopped == "reached"
    # Opposite examples are found at any lengths, with weights for the examples as they are.
    opposite = Classification([[1e-9, 1e-9], [-2.0, -2.0], [1.0, 0.0]], [1, 1, 1])
    with pytest.raises(NotSeparable) as caught:
        network_flow(opposite, network, [1.0, 1.0])
    alpha = caught.value.certificate
    assert float(alpha.sum()) == pytest.approx(1)
    assert float((opposite.Z.T @ alpha).norm()) < 1e-20
    with pytest.raises(NotSeparable) as caught:
        network_flow(Classification([[1.0, 0.0], [0.0, 0.0]], [1, 1]), network, [1.0, 1.0])
    assert caught.value.certificate.tolist() == [0.0, 1.0]


def test_rest_at_a_minimum():
    """Squares cannot separate these; the loss has its minimum where the flow comes to rest."""
    problem = Classification([[1.0, 0.0], [-0.5, -1.0]], [1, 1])
    own = Parameterisation(lambda w: w**2, 2)
    with pytest.raises(Stuck, match=r"rests at a saddle or a minimum.*no parameters that sep"):
        network_flow(problem, own, [0.5, 0.5])


def test_a_cut_derivative_is_not_followed():
    own = Parameterisation(lambda w: w[:2] * w[2:].detach(), 2)
    with pytest.raises(ValueError, match=r"J\(w\) w = 2 P\(w\)"):
        network_flow(random_problem(2, 2, 0), own, [0.3, 0.5, 0.7, 0.2])


def test_not_separable():
    X = np.random.default_rng(0).standard_normal((3, 5))
    problem = Classification(np.vstack([X, X]), [1, 1, 1, -1, -1, -1])
    network = LinearNetwork("convolutional", 5, 2)
    with pytest.raises(NotSeparable, match="not linearly separable") as caught:
        network_flow(problem, network, network.sample(0))
    alpha = caught.value.certificate
    assert float(alpha.min()) >= 0
    assert float(alpha.sum()) == pytest.approx(1)
    assert float((problem.Z.T @ alpha).norm()) < 1e-12


def test_saddles():
    problem = random_problem(3, 4, 0)
    network = LinearNetwork("diagonal", 4, 3)
    with pytest.raises(ValueError, match="start = 0 is a saddle"):
        network_flow(problem, network, np.zeros(12))
    with pytest.raises(ValueError, match="start = 0 has no direction"):
        network_flow(problem, LinearNetwork("full", 4, 1), np.zeros(4))
    with pytest.raises(Stuck, match="rests at a saddle") as caught:
        network_flow(problem, network, [[0.0] * 4, [0.0] * 4, [1.0] * 4])
    assert caught.value.point.tolist() == [0.0] * 8 + [1.0] * 4
    assert caught.value.log_loss == pytest.approx(math.log(3))
    # A direction that the data need is out of reach of the start: the flow goes to a saddle.
    problem = Classification([[1.0, 0.0], [0.0, 1.0]], [1, 1])
    with pytest.raises(Stuck, match=r"after .* steps"):
        network_flow(problem, LinearNetwork("diagonal", 2, 2), [1.0, 0.0, 1.0, 0.0], steps=300)


def test_out_of_reach():
    """Squares cannot be negative: separable, but by no parameters of this map."""
    own = Parameterisation(lambda w: w**2, 2, 2)
    problem = Classification([[1.0, 1.0], [1.0, 2.0]], [-1, -1])
    assert max_margin(problem).objective > 0
    with pytest.raises(Stuck):
        network_flow(problem, own, [0.5, 0.7], steps=200)


def test_messages():
    problem = random_problem(3, 4, 0)
    network = LinearNetwork("diagonal", 4, 2)
    start = network.sample(0)
    with pytest.raises(TypeError, match="needs a LinearNetwork"):
        network_flow(problem, lambda w: w, start)
    with pytest.raises(TypeError, match="got a Regression"):
        network_flow(Regression(problem.X, problem.y), network, start)
    with pytest.raises(ValueError, match="exponential tail"):
        network_flow(problem, network, start, loss="inverse")
    with pytest.raises(ValueError, match="has 8 parameters"):
        network_flow(problem, network, start[:3])
    with pytest.raises(ValueError, match="start has a NaN"):
        network_flow(problem, network, start * math.nan)
    with pytest.raises(ValueError, match=r"rtol = 0\.1"):
        network_flow(problem, network, start, rtol=0.1)
    with pytest.raises(ValueError, match="hand_off = 0"):
        network_flow(problem, network, start, hand_off=0)
    with pytest.raises(ValueError, match="growth = -1"):
        network_flow(problem, network, start, growth=-1)
    with pytest.raises(ValueError, match=r"start has log .* already"):
        network_flow(problem, network, start, log_norm=-3.0)
    for name in ("rtol", "hand_off", "growth", "log_norm"):
        with pytest.raises(TypeError, match=f"{name} is not a single real number"):
            network_flow(problem, network, start, **{name: "x"})
    with pytest.raises(ValueError, match=r"start has shape \(4, 2\)"):
        network_flow(problem, network, np.ones((4, 2)))
    with pytest.raises(ValueError, match="log_norm = inf"):
        network_flow(problem, network, start, log_norm=math.inf)
    with pytest.raises(TypeError, match=r"steps = 1\.5"):
        network_flow(problem, network, start, steps=1.5)
    with pytest.raises(ValueError, match="d = 3 features"):
        network_flow(random_problem(3, 3, 0), network, start)
    with pytest.raises(ValueError, match="labels of shape"):
        network_flow(random_problem(3, 4, 0, outputs=2), network, start)
    with pytest.raises(ValueError, match="examples are zero"):
        network_flow(Classification(np.zeros((2, 4)), [1, 1]), network, start)
    with pytest.raises(ValueError, match="start is so large"):
        network_flow(problem, network, 1e5 * start)
    wide = LinearNetwork("full", 60, 3)
    with pytest.raises(ValueError, match="smaller width"):
        network_flow(random_problem(3, 60, 0), wide, wide.sample(0))
