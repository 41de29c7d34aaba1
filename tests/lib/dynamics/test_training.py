"""Training as it is: other integrators, automatic differentiation, small steps, and refusals."""

import math
import sys

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.training import TrainingPath, train
from implicit_bias.dynamics.wide import linearised_training
from implicit_bias.models.initialisations import GaussianInit, UniformInit
from implicit_bias.models.shallow import ShallowNetwork, monomials
from implicit_bias.records import StepTooLarge
from scipy.integrate import solve_ivp
from scipy.linalg import null_space

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
SKIPS = ["free", "common", "none"]
X5 = np.array([-0.9, -0.35, 0.1, 0.5, 0.95])
Y5 = np.array([0.3, -1.0, 0.8, 0.1, 1.1])
POINTS = np.linspace(-1.2, 1.2, 41)


def small(n=12, activation="relu2", d=1, seed=0, **options):
    w, b = GaussianInit(1.0, 1.0).sample(n, seed, d)
    return ShallowNetwork(w, b, activation, seed=seed, **options)


def data(d):
    if d == 1:
        return X5, Y5
    return np.random.default_rng(d).uniform(-1, 1, (8, d)), np.append(Y5, [0.4, -0.2, 0.5])


def reference(network, x, y, tau, layers, skip):
    """The flow by SciPy's LSODA, with gradients by automatic differentiation of the loss.

    Nothing is shared with the library but the order of the parameters and the monomials.
    """
    n, d, k = network.n, network.d, network.degree
    x, y = torch.as_tensor(x).reshape(-1, d), torch.as_tensor(y)
    sizes = [n * d, n, n, network.skip.numel()]
    P = monomials(x, k)
    left = (
        torch.from_numpy(null_space(P.numpy().T)) if skip == "free" else torch.eye(len(y)).double()
    )
    rates = [1 / n if layers == "all" else 0, 1 / n if layers == "all" else 0, 1.0]
    rates.append(1 / n if skip == "common" else 0)
    D = torch.cat([torch.full((s,), r).double() for s, r in zip(sizes, rates, strict=True)])

    def loss(theta):
        w, b, v, line = theta.split(sizes)
        z = x @ w.reshape(n, d).T + b
        f = torch.relu(z) ** k @ v / (math.factorial(k) * math.sqrt(n)) + P @ line
        return (left.T @ (y - f)).square().sum() / 2

    gradient = torch.func.grad(loss)

    def right(_, theta):
        return (-D * gradient(torch.from_numpy(theta))).numpy()

    start = network.parameters.numpy()
    done = solve_ivp(right, (0, tau), start, method="LSODA", rtol=1e-9, atol=1e-10)
    theta = torch.from_numpy(done.y[:, -1])
    if skip == "free":
        w, b, v, _ = theta.split(sizes)
        f = torch.relu(x @ w.reshape(n, d).T + b) ** k @ v / (math.factorial(k) * math.sqrt(n))
        fit = torch.linalg.lstsq(P, (y - f)[:, None]).solution[:, 0]
        theta = torch.cat([w, b, v, fit])
    return theta, float(loss(theta))


# ---- the flow


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("layers", ["all", "output"])
@pytest.mark.parametrize("d", [1, 2])
def test_follows_the_flow_that_scipy_follows(d, layers, skip):
    """All parameters at tau = 15, where the hidden layer of twelve units has moved a lot."""
    network, (x, y) = small(d=d, seed=d), data(d)
    expected, loss = reference(network, x, y, 15.0, layers, skip)
    path = train(network, x, y, layers, tau=15.0, skip=skip)
    assert path.stopped == "reached"
    # Measured: 9e-6 at most with the default rtol, and in proportion to it.
    np.testing.assert_allclose(path.x, expected, atol=2e-5)
    assert float(path.losses[0]) == pytest.approx(loss, rel=1e-4, abs=1e-9)
    hidden = float((path.network.w - network.w).abs().max())
    assert hidden > 0.01 if layers == "all" else hidden == 0


@pytest.mark.parametrize("activation", ["relu", "relu3"])
def test_follows_the_flow_for_other_activations(activation):
    network = small(activation=activation, seed=4)
    expected, _ = reference(network, X5, Y5, 5.0, "all", "free")
    path = train(network, X5, Y5, tau=5.0, rtol=1e-7)
    np.testing.assert_allclose(path.x, expected, atol=1e-5)


def test_error_falls_with_the_tolerance():
    network = small(n=30)
    expected, _ = reference(network, X5, Y5, 50.0, "all", "free")
    errors, steps = [], []
    for rtol in (1e-3, 1e-5, 1e-7):
        path = train(network, X5, Y5, tau=50.0, rtol=rtol)
        errors.append(float((path.x - expected).norm()))
        steps.append(path.steps)
    assert errors[0] > 5 * errors[1]
    assert errors[1] > 5 * errors[2]
    assert errors[2] < 1e-6
    assert steps[0] < steps[1] < steps[2]


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("layers", ["all", "output"])
def test_small_steps_of_descent_tend_to_the_flow(layers, skip):
    """At first order: a quarter of the step leaves a quarter of the distance."""
    network = small(n=16, seed=2)
    flow = train(network, X5, Y5, layers, tau=2.0, skip=skip, rtol=1e-6).x
    errors = []
    for step in (0.08, 0.02):
        path = train(network, X5, Y5, layers, "gd", tau=2.0, skip=skip, step=step)
        assert path.stopped == "reached"
        assert path.step == step
        assert path.steps == 2 / step
        errors.append(float((path.x - flow).norm()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)


def test_descent_is_that_of_the_standard_parametrisation():
    """M24's network and step, written out: weights u = v / sqrt n, one learning rate for all."""
    network = small(n=10, activation="relu", seed=3)
    w, b, v = (t.clone() for t in (network.w[:, 0], network.b, network.v))
    x, y, u, skip = torch.from_numpy(X5), torch.from_numpy(Y5), v / math.sqrt(10), torch.zeros(2)
    parameters = [t.double().requires_grad_() for t in (w, b, u, skip)]
    eta, steps = 0.01, 50
    for _ in range(steps):
        w, b, u, skip = parameters
        f = torch.relu(x[:, None] * w + b) @ u + skip[0] + skip[1] * x
        gradients = torch.autograd.grad((f - y).square().sum(), parameters)
        parameters = [
            (p - eta * g).detach().requires_grad_()
            for p, g in zip(parameters, gradients, strict=True)
        ]
    w, b, u, skip = (p.detach() for p in parameters)
    # The step in the time of v, for half the sum: 2 n eta.
    step = 2 * 10 * eta
    path = train(network, X5, Y5, "all", "gd", skip="common", step=step, tau=steps * step)
    assert path.steps == steps
    found = path.network
    for one, two in ((found.w[:, 0], w), (found.b, b), (found.skip, skip)):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.v, u * math.sqrt(10), rtol=1e-12, atol=1e-12)


# ---- the output layer alone is the linearised network


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_training_the_output_layer_is_linear(k, skip):
    network = small(60, {1: "relu", 2: "relu2", 3: "relu3"}[k], seed=k)
    taus = [0.0, 1.0, 30.0, math.inf]
    path = train(network, X5, Y5, "output", tau=taus, skip=skip)
    exact = linearised_training(network, X5, Y5, taus, skip=skip)
    assert path.stopped == "converged"
    assert path.times.tolist() == taus
    for i in range(4):
        values = path.network_at(i)(POINTS)
        torch.testing.assert_close(values, exact(POINTS)[i], rtol=1e-8, atol=1e-8)
        assert float(path.losses[i]) == pytest.approx(
            float(exact.residuals[i].square().sum()) / 2, abs=1e-12
        )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("M", [3, 4, 5, 6])
def test_descent_on_the_output_layer_ends_where_the_closed_form_says(M, seed):
    w, b = UniformInit(1.0, 1.0).sample(60, seed)
    network = ShallowNetwork(w, b, antisymmetric=True, seed=seed)
    rng = np.random.default_rng(seed)
    x, y = np.cos(np.pi * (np.arange(M) + 0.5) / M) * 0.9, rng.standard_normal(M)
    rates = linearised_training(network, x, y).rates
    path = train(
        network, x, y, "output", "gd", step=1.9 / float(rates.max()), steps=300_000, tol=1e-8
    )
    assert path.stopped == "converged"
    assert float(path.losses[0]) < 1e-14
    np.testing.assert_allclose(
        path.network(POINTS), linearised_training(network, x, y)(POINTS), atol=1e-6
    )


# ---- to the limit


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("d", [1, 2])
def test_wide_networks_are_trained_to_interpolation(d, skip):
    w, b = GaussianInit(1.0, 1.0).sample(500, seed=1, d=d)
    network, (x, y) = ShallowNetwork(w, b, "relu2", antisymmetric=True), data(d)
    path = train(network, x, y, skip=skip)
    assert path.stopped == "converged"
    assert path.times.tolist() == [math.inf]
    assert float(path.losses[0]) < 1e-16
    np.testing.assert_allclose(path.network(x), y, atol=1e-7)
    assert isinstance(path, TrainingPath)
    assert path.x.shape == (1000 * (d + 2) + network.skip.numel(),)


def test_full_training_deviates_from_linearised_training_like_one_over_n():
    """M24-T5-LIN: medians over seeds; four times the width leaves a quarter."""
    x, y = np.linspace(-0.9, 0.9, 5), 0.3 * np.array([0.0, 1.0, -0.5, 0.5, 0.0])
    deviations, hidden = [], []
    for n in (1000, 4000):
        gaps, moved = [], []
        for seed in range(7):
            w, b = UniformInit(1.0, 1.0).sample(n // 2, seed)
            network = ShallowNetwork(w, b, antisymmetric=True, seed=seed)
            path = train(network, x, y, rtol=1e-4)
            assert path.stopped == "converged"
            gap = path.network(POINTS) - linearised_training(network, x, y)(POINTS)
            gaps.append(float(gap.abs().max()))
            moved.append(float((path.network.w - network.w).abs().max()))
        deviations.append(np.median(gaps))
        hidden.append(np.median(moved))
    assert 2.8 < deviations[0] / deviations[1] < 5.7
    # The hidden weights move by n^(-3/2) each, and the largest of them not much more.
    assert hidden[0] / hidden[1] == pytest.approx(8, rel=0.3)


def test_a_wide_network_takes_few_steps():
    w, b = UniformInit(1.0, 1.0).sample(12_800, 3)
    network = ShallowNetwork(w, b, antisymmetric=True, seed=1)
    x = np.linspace(-0.9, 0.9, 8)
    path = train(network, x, np.sin(5 * x))
    assert path.stopped == "converged"
    assert path.steps < 200
    assert float(path.losses[0]) < 1e-14


def test_modes_are_seen_to_decay():
    """However loose the tolerance, no step is longer than the time before it."""
    w, b = UniformInit(1.0, 1.0).sample(5000)
    network = ShallowNetwork(w, b, antisymmetric=True)
    top = float(linearised_training(network, X5, Y5).rates.max())
    path = train(network, X5, Y5, tau=1e5, rtol=0.1)
    assert path.steps >= math.log2(1e5 * top)


def test_records_what_was_asked_for():
    network = small()
    taus = [0.0, 0.5, 2.0]
    together = train(network, X5, Y5, tau=taus, rtol=1e-6)
    assert together.points.shape == (3, network.parameters.numel())
    assert together.times.tolist() == taus
    assert torch.equal(together.network_at(0).w, network.w)
    for i, tau in enumerate(taus):
        alone = train(network, X5, Y5, tau=tau, rtol=1e-6)
        torch.testing.assert_close(alone.x, together.points[i], rtol=1e-5, atol=1e-5)
    residual = torch.from_numpy(Y5) - together.network(X5)
    assert float(together.losses[-1]) == pytest.approx(float(residual @ residual) / 2)
    # With steps: each stretch divided evenly, no step longer.
    path = train(network, X5, Y5, "all", "gd", tau=[0.0, 0.5, 0.55], step=0.1)
    assert path.steps == 5 + 1
    assert path.times.tolist() == [0.0, 0.5, 0.55]
    assert path.step == pytest.approx(0.05)
    last = train(path.network_at(1), X5, Y5, "all", "gd", tau=0.05, step=0.1)
    torch.testing.assert_close(last.x, path.x, rtol=1e-10, atol=1e-10)


def test_as_many_data_as_polynomials_are_fitted_at_once():
    for method in ("exponential", "gd"):
        path = train(small(), X5[:3], Y5[:3], method=method)
        np.testing.assert_allclose(path.network(X5[:3]), Y5[:3], atol=1e-12)
        assert (path.stopped, path.steps) == ("converged", 0)
        torch.testing.assert_close(path.network.v, small().v)


# ---- honest ends


@pytest.mark.parametrize("method", ["exponential", "gd"])
def test_says_when_the_budget_is_spent(method):
    options = {"method": method, "step": 0.01} if method == "gd" else {}
    path = train(small(), X5, Y5, **options, steps=3)
    assert (path.stopped, path.steps) == ("budget", 3)
    assert 0 < float(path.times[-1]) < math.inf
    longer = train(small(), X5, Y5, **options, steps=9)
    assert float(longer.losses[-1]) < float(path.losses[-1])
    some = train(small(), X5, Y5, **options, tau=[0.0, 1e-4, 1e9], steps=3)
    assert some.stopped == "budget"
    assert some.times[:2].tolist() == [0.0, 1e-4]


def test_says_when_nothing_moves_what_is_left():
    """The breakpoints of two units leave a gap as they move: not all data can be fitted."""
    # Two units, both of which die: their output can only fall.
    network = ShallowNetwork([1.0], [0.05], v=[1.0])
    x, y = [0.0, 0.5], [-4.0, -8.0]
    path = train(network, x, y, skip="none", rtol=1e-6)
    assert path.stopped == "stuck"
    assert float(path.losses[-1]) > 1
    assert float(path.times[-1]) < math.inf


def test_refuses_what_cannot_be_fitted():
    network = ShallowNetwork([1.0, 1.0], [5.0, 5.0])
    with pytest.raises(ValueError, match=r"cannot fit the data: 3 of the 3.*finite tau"):
        train(network, X5, Y5, "output")
    early = train(network, X5, Y5, "output", tau=100.0)
    # Nothing but the line is learnt.
    fit = np.polynomial.Polynomial.fit(X5, Y5, 1)
    np.testing.assert_allclose(early.network(X5), fit(X5), atol=1e-12)


@pytest.mark.parametrize("layers", ["all", "output"])
def test_refuses_a_step_that_diverges(layers):
    network = small(activation="relu")
    N = null_space(np.vander(X5, 2).T)
    top = np.linalg.eigvalsh(N.T @ network.kernel(X5, layers=layers).numpy() @ N)[-1]
    message = r"step = .*not below 2/lambda_max = .*descent diverges.*step/\(2n\)"
    with pytest.raises(StepTooLarge, match=message):
        train(network, X5, Y5, layers, "gd", step=2.001 / top)
    path = train(network, X5, Y5, layers, "gd", step=0.1 / top, steps=50)
    assert float(path.losses[-1]) < float(train(network, X5, Y5, tau=0.0).losses[0])


def test_sees_a_loss_that_rises():
    """A step that is safe at the start is not when the kernel grows."""
    network = ShallowNetwork([1.0], [0.1], v=[1e-3])
    x, y = [1.0], [50.0]
    top = float(network.kernel(x, layers="all"))
    with pytest.raises(
        StepTooLarge, match=r"The loss rose from 1249.* within 1 steps.*kernel has grown"
    ):
        train(network, x, y, "all", "gd", step=1.99 / top, skip="none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "hidden"}, r"layers = 'hidden' must be"),
        ({"method": "adam"}, r"method = 'adam' must be 'exponential'.*'gd'"),
        ({"skip": "yes"}, r"skip = 'yes' must be"),
        ({"step": 0.1}, r"step belongs to method='gd'.*rtol"),
        ({"method": "gd", "step": 0.0}, r"step = 0.0 is not a positive"),
        ({"method": "gd", "step": math.nan}, r"step = nan is not a positive"),
        ({"method": "gd", "step": math.inf}, r"step = inf is not a positive"),
        ({"steps": 0}, r"steps = 0 is too small"),
        ({"rtol": 0.0}, r"rtol = 0.0 is not between"),
        ({"rtol": math.nan}, r"rtol = nan is not between"),
        ({"tol": 0.0}, r"tol = 0.0 is not a fraction"),
        ({"tol": 1.0}, r"tol = 1.0 is not a fraction"),
        ({"tau": -1.0}, r"tau must be a time.*increasing list.*-1"),
        ({"tau": [1.0, 1.0]}, r"tau must be a time.*increasing list"),
        ({"tau": []}, r"tau must be a time"),
        ({"tau": math.nan}, r"tau must be a time"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        train(small(), X5, Y5, **options)


def test_refuses_data():
    with pytest.raises(TypeError, match=r"train trains a ShallowNetwork.*got a dict"):
        train({}, X5, Y5)
    with pytest.raises(ValueError, match=r"one target for each; got 5 points"):
        train(small(), X5, Y5[:4])
    with pytest.raises(
        ValueError, match=r"5 points do not determine a polynomial of degree 2 in 2"
    ):
        train(small(d=2), data(2)[0][:5], Y5)
    with pytest.raises(ValueError, match=r"x has shape \(5,\).*d = 2"):
        train(small(d=2), X5, Y5)
    with pytest.raises(TypeError, match=r"steps = 1.5 is not an integer"):
        train(small(), X5, Y5, steps=1.5)


def test_shows_progress_only_when_asked(capsys, monkeypatch):
    train(small(), X5, Y5, tau=1.0)
    assert capsys.readouterr().err == ""
    for method in ("exponential", "gd"):
        train(small(), X5, Y5, method=method, tau=100.0, progress=True)
        assert "step" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"tqdm, which is not installed.*leave progress out"):
        train(small(), X5, Y5, tau=1.0, progress=True)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=gpu)])
@pytest.mark.parametrize("method", ["exponential", "gd"])
@pytest.mark.parametrize("skip", SKIPS)
def test_gives_the_same_on_cuda(skip, method, device):
    for d in (1, 2):
        network, (x, y) = small(40, d=d), data(d)
        here = train(network, x, y, method=method, skip=skip, tau=[0.0, 5.0])
        there = train(network, x, y, method=method, skip=skip, tau=[0.0, 5.0], device=device)
        assert there.x.device.type == there.losses.device.type == device
        torch.testing.assert_close(there.points.cpu(), here.points, rtol=1e-8, atol=1e-8)
        again = train(network.to(device), x, y, method=method, skip=skip, tau=5.0)
        torch.testing.assert_close(again.network(x).cpu(), here.network(x), rtol=1e-8, atol=1e-8)
