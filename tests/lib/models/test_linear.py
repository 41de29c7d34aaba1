"""Linear networks: layer by layer, derivatives by torch, Lemmas 3 and 5 to 7."""

import itertools
import math

import numpy as np
import pytest
import torch
from implicit_bias.models.factorisations import (
    balanced_parameters,
    implied_penalty,
    unitary_dft,
)
from implicit_bias.models.linear import LinearNetwork
from implicit_bias.models.parameterisation import Parameterisation
from scipy.optimize import minimize

NETWORKS = {
    "full": LinearNetwork("full", 4, 3, width=3),
    "full, deep": LinearNetwork("full", 3, 5, width=2),
    "full, default width": LinearNetwork("full", 3, 2),
    "full, outputs": LinearNetwork("full", 4, 3, width=3, outputs=2),
    "one layer": LinearNetwork("full", 4, 1),
    "one layer, outputs": LinearNetwork("full", 4, 1, outputs=3),
    "diagonal": LinearNetwork("diagonal", 4, 3),
    "diagonal, one": LinearNetwork("diagonal", 4, 1),
    "convolutional": LinearNetwork("convolutional", 5, 3),
    "convolutional, even": LinearNetwork("convolutional", 6, 4),
    "convolutional, one": LinearNetwork("convolutional", 5, 1),
    "narrow": LinearNetwork("convolutional", 6, 4, width=3),
    "narrow, one tap": LinearNetwork("convolutional", 6, 2, width=1),
    "narrow, one layer": LinearNetwork("convolutional", 6, 1, width=3),
    "images": LinearNetwork("convolutional", 12, 3, shape=(3, 4)),
    "images, narrow": LinearNetwork("convolutional", 12, 3, width=2, shape=(3, 4)),
}


def every(test):
    return pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)(test)


def layer_by_layer(network, parts, X):
    """The outputs of the network for the rows of X: eqs. (1) and (3) of the paper, as written."""
    if network.kind == "full":
        for part in parts:
            X = X @ part
        return X if network.outputs > 1 else X[:, 0]
    if network.kind == "diagonal":
        for part in parts[:-1]:
            X = X * part
        return X @ parts[-1]
    h = X.reshape(-1, *network.shape)
    side = h.ndim - 1
    for part in parts[:-1]:
        full = part.numel() == network.d
        filters = part.reshape(network.shape if full else [network.width] * side)
        # h_l[k] = sum_j w_l[j] h_{l-1}[(k + j) mod D]
        new = torch.zeros_like(h)
        for place in np.ndindex(*filters.shape):
            axes = tuple(range(1, side + 1))
            new = new + filters[place] * torch.roll(h, [-j for j in place], axes)
        h = new
    return h.reshape(len(X), -1) @ parts[-1]


def traced(network):
    """The same network, as a map of the reader's own."""

    def predictor(w):
        shapes = network._shapes()
        sizes = [math.prod(shape) for shape in shapes]
        parts = [p.reshape(s) for p, s in zip(w.split(sizes), shapes, strict=True)]
        return layer_by_layer(network, parts, torch.eye(network.d, dtype=torch.float64))

    return Parameterisation(predictor, network.depth, network.size)


@every
def test_predictor_layer_by_layer(network):
    w = network.sample(1)
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((7, network.d)))
    outputs = layer_by_layer(network, network.split(w), X)
    torch.testing.assert_close(X @ network.predictor(w), outputs, rtol=1e-12, atol=1e-12)
    assert network.predictor(w).shape == network.output_shape


@every
def test_derivatives_against_torch(network):
    own, w = traced(network), network.sample(2)
    g = torch.from_numpy(np.random.default_rng(3).standard_normal(network.output_shape))
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(network.predictor(w), own.predictor(w), **close)
    torch.testing.assert_close(network.jacobian(w), own.jacobian(w), **close)
    torch.testing.assert_close(network.hessian(w, g), own.hessian(w, g), **close)
    # The pull of a trace is the transposed Jacobian, and the trace has the value.
    for map in (network, own):
        value, pull = map.kernel.trace(w.numpy())
        np.testing.assert_allclose(value, network.predictor(w).reshape(-1), atol=1e-12)
        expected = network.jacobian(w).T @ g.reshape(-1)
        np.testing.assert_allclose(pull(g.reshape(-1).numpy()), expected, atol=1e-12)


@every
def test_homogeneous_and_multilinear(network):
    """Euler's theorem: J w = L P(w), H w = (L - 1) J^T g."""
    w, L = network.sample(4), network.depth
    g = torch.ones(network.output_shape, dtype=torch.float64)
    beta = network.predictor(w).reshape(-1)
    torch.testing.assert_close(network.jacobian(w) @ w, L * beta)
    torch.testing.assert_close(network.predictor(2 * w).reshape(-1), 2**L * beta)
    pulled = network.jacobian(w).T @ g.reshape(-1)
    torch.testing.assert_close(network.hessian(w, g) @ w, (L - 1) * pulled, rtol=1e-9, atol=1e-12)


def test_parameters_as_layers_or_flat():
    for kind in ("diagonal", "convolutional"):
        network = LinearNetwork(kind, 4, 3)
        w = network.sample(0)
        assert torch.equal(network.predictor(w), network.predictor(w.reshape(3, 4)))
        assert torch.equal(torch.stack(network.split(w)), w.reshape(3, 4))
    network = LinearNetwork("full", 4, 3, width=2, outputs=3)
    assert [tuple(part.shape) for part in network.split(network.sample(0))] == [
        (4, 2),
        (2, 2),
        (2, 3),
    ]
    narrow = LinearNetwork("convolutional", 5, 3, width=2)
    assert [part.numel() for part in narrow.split(narrow.sample(0))] == [2, 2, 5]
    assert narrow.size == 9
    assert "convolutional" in repr(narrow)


def test_other_arrangements_are_refused():
    """Layers as columns have as many numbers, and read row by row make another network."""
    columns = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    network = LinearNetwork("convolutional", 3, 2)
    assert network.predictor(columns.T).tolist() == pytest.approx([3, 1, 2])
    assert network.predictor(columns.T.reshape(-1)).tolist() == pytest.approx([3, 1, 2])
    for wrong in (columns, columns[None], columns.reshape(6, 1), columns.reshape(1, 6)):
        with pytest.raises(ValueError, match=r"w has shape .*6 numbers, but this conv.*\(L, d\)"):
            network.predictor(wrong)
    full = LinearNetwork("full", 3, 2, width=2)
    for wrong in (np.ones((2, 4)), np.ones((4, 2))):
        with pytest.raises(ValueError, match="has 8 parameters"):
            full.split(wrong)
    # The one matrix of one layer is no other arrangement.
    single = LinearNetwork("full", 3, 1, outputs=2)
    W = torch.arange(6).double().reshape(3, 2)
    assert torch.equal(single.predictor(W), W)
    with pytest.raises(ValueError, match="w has shape"):
        single.predictor(W.T)
    assert LinearNetwork("full", 3, 1).predictor(np.ones((3, 1))).shape == (3,)


def test_sample():
    network = LinearNetwork("diagonal", 5000, 2)
    w = network.sample(3, 0.5)
    assert torch.equal(w, network.sample(3, 0.5))
    assert not torch.equal(w, network.sample(4, 0.5))
    assert float(w.std()) == pytest.approx(0.5, rel=0.05)  # 10,000 entries: 1 per cent


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [None, (3, 4)])
def test_lemma_3(depth, shape):
    """With the factor it holds; as printed, without it, it does not."""
    network = LinearNetwork("convolutional", 12, depth, shape=shape)
    w = network.sample(depth)
    layers = unitary_dft(torch.stack(network.split(w)), shape)
    product = layers.prod(0)
    spectrum = unitary_dft(network.predictor(w), shape)
    torch.testing.assert_close(spectrum, 12 ** ((depth - 1) / 2) * product)
    if depth > 1:
        assert float((spectrum - product).abs().max()) > 0.5 * float(spectrum.abs().max())


def test_unitary():
    beta = np.random.default_rng(0).standard_normal((3, 12))
    for shape in (None, (4, 3)):
        spectrum = unitary_dft(beta, shape)
        np.testing.assert_allclose(spectrum.norm(dim=1), np.linalg.norm(beta, axis=1))
    k, j = np.meshgrid(range(12), range(12))
    matrix = np.exp(-2j * np.pi * j * k / 12) / math.sqrt(12)
    np.testing.assert_allclose(unitary_dft(beta[0]), matrix @ beta[0], atol=1e-13)
    with pytest.raises(ValueError, match="two sides of the image"):
        unitary_dft(beta, (5, 3))
    with pytest.raises(TypeError, match="shape = 12 is not a tuple"):
        unitary_dft(beta, 12)
    with pytest.raises(ValueError, match="shape = -4 is too small"):
        unitary_dft(beta, (-4, -3))
    with pytest.raises(ValueError, match="two sides of an image"):
        unitary_dft(beta, (3, 2, 2))
    with pytest.raises(ValueError, match="no signal"):
        unitary_dft(1.0)


# ---- what a predictor costs


def penalty_by_hand(network, beta):
    """The formulas of Lemmas 5 to 7, with the corrected constant."""
    L, d = network.depth, network.d
    if network.kind == "full":
        return L * float(beta.norm()) ** (2 / L)
    if network.kind == "diagonal":
        return L * float((beta.abs() ** (2 / L)).sum())
    spectrum = unitary_dft(beta, network.shape)
    return L * d ** (-(L - 1) / L) * float((spectrum.abs() ** (2 / L)).sum())


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["full", "diagonal", "convolutional", "images"])
def test_balanced_networks_attain_the_penalty(kind, depth):
    if kind == "images":
        network = LinearNetwork("convolutional", 6, depth, shape=(2, 3))
    else:
        network = LinearNetwork(kind, 6, depth)
    beta = torch.from_numpy(np.random.default_rng(depth).standard_normal(6))
    w = balanced_parameters(network, beta)
    torch.testing.assert_close(network.predictor(w), beta, rtol=1e-12, atol=1e-12)
    expected = penalty_by_hand(network, beta)
    assert implied_penalty(network, beta) == pytest.approx(expected, rel=1e-12)
    assert float(w.square().sum()) == pytest.approx(expected, rel=1e-12)
    # Balanced: every layer has the same norm; and stationary: w = J^T lambda.
    norms = [float(part.norm()) for part in network.split(w)]
    np.testing.assert_allclose(norms, norms[0], rtol=1e-12)
    J = network.jacobian(w).numpy()
    multipliers = np.linalg.lstsq(J.T, w.numpy(), rcond=None)[0]
    np.testing.assert_allclose(J.T @ multipliers, w, atol=1e-9)


@pytest.mark.parametrize("kind", ["full", "diagonal", "convolutional"])
@pytest.mark.parametrize("depth", [2, 3])
def test_nothing_is_cheaper(kind, depth):
    network = LinearNetwork(kind, 4, depth, **({"width": 2} if kind == "full" else {}))
    beta = torch.from_numpy(np.random.default_rng(7).standard_normal(4))
    values = []
    for seed in range(6):
        found = minimize(
            lambda w: w @ w,
            network.sample(seed),
            jac=lambda w: 2 * w,
            constraints={
                "type": "eq",
                "fun": lambda w: (network.predictor(w) - beta).numpy(),
                "jac": lambda w: network.jacobian(w).numpy(),
            },
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        if float((network.predictor(found.x) - beta).abs().max()) < 1e-8:
            values.append(found.fun)
    # The solver's own accuracy in the constraints, 1e-8.
    assert min(values) == pytest.approx(implied_penalty(network, beta), rel=1e-6)
    if kind == "convolutional":  # the paper's value, without the power of D
        wrong = implied_penalty(network, beta) * 4 ** ((depth - 1) / depth)
        assert min(values) < 0.75 * wrong


def test_several_outputs():
    beta = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 3)))
    network = LinearNetwork("full", 5, 2, width=3, outputs=3)
    nuclear = float(torch.linalg.svdvals(beta).sum())
    assert implied_penalty(network, beta) == pytest.approx(2 * nuclear, rel=1e-13)
    w = balanced_parameters(network, beta)
    torch.testing.assert_close(network.predictor(w), beta)
    assert float(w.square().sum()) == pytest.approx(2 * nuclear, rel=1e-13)
    with pytest.raises(ValueError, match=r"beta of shape \(5, 3\) has rank 3"):
        implied_penalty(LinearNetwork("full", 5, 2, width=2, outputs=3), beta)


@pytest.mark.parametrize("depth", [2, 5, 8, 10])
@pytest.mark.parametrize(("d", "k"), [(24, 3), (50, 7), (50, 20), (97, 3), (500, 20)])
def test_rounding_of_the_transform_is_not_a_coefficient(d, k, depth):
    """A wave has two frequencies; 1e-17 at the others, to the power 2/L, would be a price."""
    wave = np.cos(2 * np.pi * k * np.arange(d) / d)
    network = LinearNetwork("convolutional", d, depth)
    expected = depth * d ** (-(depth - 1) / depth) * 2 * (math.sqrt(d) / 2) ** (2 / depth)
    # Rounding of the two moduli themselves.
    assert implied_penalty(network, wave) == pytest.approx(expected, rel=1e-13)
    w = balanced_parameters(network, wave)
    assert float(w.square().sum()) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(network.predictor(w), wave, atol=1e-12)


def test_the_rank_of_beta_is_what_needs_width():
    rng = np.random.default_rng(0)
    beta = np.outer(rng.standard_normal(4), rng.standard_normal(3))
    size = np.linalg.norm(beta)
    for depth in (2, 6):
        for width in (1, 2, 4):
            network = LinearNetwork("full", 4, depth, width=width, outputs=3)
            expected = depth * size ** (2 / depth)
            assert implied_penalty(network, beta) == pytest.approx(expected, rel=1e-13)
            w = balanced_parameters(network, beta)
            assert float(w.square().sum()) == pytest.approx(expected, rel=1e-13)
            np.testing.assert_allclose(network.predictor(w), beta, atol=1e-13)
    beta[0, 0] += 1
    with pytest.raises(ValueError, match=r"has rank 2\. Take width >= 2"):
        balanced_parameters(LinearNetwork("full", 4, 2, width=1, outputs=3), beta)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize(
    ("kind", "depth", "extra"),
    [
        ("diagonal", 3, {}),
        ("full", 2, {}),
        ("convolutional", 4, {}),
        ("convolutional", 2, {"width": 2}),
    ],
)
def test_prices_of_any_size(kind, depth, extra, scale):
    network = LinearNetwork(kind, 4, depth, **extra)
    beta = np.array([1.0, -2.0, 0.5, 3.0])
    expected = implied_penalty(network, beta) * scale ** (2 / depth)
    assert implied_penalty(network, scale * beta) == pytest.approx(expected, rel=1e-9)
    w = balanced_parameters(network, scale * beta)
    np.testing.assert_allclose(network.predictor(w) / scale, beta, atol=1e-9)


def test_a_price_out_of_range():
    with pytest.raises(ValueError, match="leaves the range of floats"):
        implied_penalty(LinearNetwork("diagonal", 2, 1), [1e200, 1.0])
    assert implied_penalty(LinearNetwork("diagonal", 2, 2), [1e200, 0.0]) == pytest.approx(2e200)


def test_vanishing_coefficients():
    """Zeros of the predictor, in either basis, make no NaN."""
    for kind, beta in (("diagonal", [2.0, 0, 0, -1]), ("convolutional", [1.0, -1, 1, -1])):
        for width in (None, 3) if kind == "convolutional" else (None,):
            network = LinearNetwork(kind, 4, 2, width=width)
            w = balanced_parameters(network, beta)
            np.testing.assert_allclose(network.predictor(w), beta, atol=1e-7)
    zero = balanced_parameters(LinearNetwork("convolutional", 4, 2, width=2), np.zeros(4))
    assert not zero.any()
    assert implied_penalty(LinearNetwork("full", 4, 3), np.zeros(4)) == 0


def test_narrow_filters_between_two_norms():
    beta = torch.from_numpy(np.random.default_rng(1).standard_normal(8))
    penalties = []
    for K in range(1, 9):
        network = LinearNetwork("convolutional", 8, 2, width=K)
        w = balanced_parameters(network, beta)
        torch.testing.assert_close(network.predictor(w), beta, rtol=1e-9, atol=1e-9)
        penalties.append(implied_penalty(network, beta))
    assert penalties[0] == pytest.approx(2 * float(beta.norm()), rel=1e-12)
    full = 2 * 8**-0.5 * float(unitary_dft(beta).abs().sum())
    assert penalties[-1] == pytest.approx(full, rel=1e-12)
    # Wider filters contain narrower ones; 1e-9 for the search.
    assert all(a >= b * (1 - 1e-9) for a, b in itertools.pairwise(penalties))
    # This predictor's spectrum is sampled from a non-negative polynomial of degree D/2.
    np.testing.assert_allclose(penalties[4:], full, rtol=1e-7)
    assert penalties[3] > full * 1.001


@pytest.mark.parametrize("K", [1, 2, 4, 5, 7, 8])
def test_a_constant_predictor_pays_for_narrow_filters_to_the_end(K):
    """The best filter is constant as well: by Cauchy-Schwarz the sum of K weights is at most
    sqrt(K) times their norm, and only frequency 0 counts.
    """
    beta = torch.full((8,), 1.5, dtype=torch.float64)
    network = LinearNetwork("convolutional", 8, 2, width=K)
    assert implied_penalty(network, beta) == pytest.approx(
        2 * float(beta.norm()) / math.sqrt(K), rel=1e-7
    )


# ---- maps of one's own, and what is refused


def test_own_map():
    own = Parameterisation(lambda w: torch.outer(w[:2], w[2:]), degree=2)
    assert own.size is None
    assert own.predictor([1.0, 2.0, 3.0, 4.0]).tolist() == [[3, 4], [6, 8]]
    assert own.size == 4
    assert own.output_shape == (2, 2)
    assert own.sample(0).shape == (4,)


def test_homogeneity_is_checked():
    def skew(w):
        return torch.stack([w[0] ** 2 + w[1], w[1] ** 2])

    with pytest.raises(ValueError, match="not homogeneous of degree 2"):
        Parameterisation(skew, 2, 2)
    with pytest.raises(ValueError, match="not homogeneous of degree 3"):
        Parameterisation(lambda w: w**2, 3, 2)
    with pytest.raises(ValueError, match="not homogeneous"):
        Parameterisation(skew, 2).predictor([1.0, 2.0])
    control = Parameterisation(skew, 2, 2, homogeneous=False)
    assert not control.homogeneous
    assert control.predictor([1.0, 2.0]).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("function", "degree", "homogeneous"),
    [
        (lambda w: w[:2] * w[2:].detach(), 2, True),
        (lambda w: (w[:2] * w[2:]).detach(), 2, True),
        (lambda w: w[:2] * w[2:].detach(), 2, False),
        # J w = P here, as it should be; but the factor of degree zero is cut.
        (lambda w: w * (w[0] / w.norm()).detach(), 1, True),
        (lambda w: torch.from_numpy(w.detach().numpy() ** 2), 2, True),
        (lambda w: torch.stack([w[0] ** 2 + float(w[1]), w[1]]), 2, False),
    ],
)
def test_cut_derivatives_are_found(function, degree, homogeneous):
    """Accepted, each would be followed along a gradient that is not its own."""
    with pytest.raises(ValueError, match=r"(derivatives that torch finds|cannot differentiate)"):
        Parameterisation(function, degree, 4, homogeneous=homogeneous)


def test_derivatives_that_are_not_cut():
    def steep(w):
        return torch.stack([1e3 * w[0] * w[1] ** 4, w[2] ** 5 / 1e3, w.sum() ** 5])

    assert Parameterisation(steep, 5, 3).output_shape == (3,)
    assert Parameterisation(lambda w: w.abs() * w, 2, 6).size == 6
    # Outside of its domain at the random point: nothing can be compared there.
    assert Parameterisation(torch.log, 1, 3, homogeneous=False).size == 3


def test_messages_about_maps():
    with pytest.raises(TypeError, match="must be a torch function"):
        Parameterisation(3, 2)
    with pytest.raises(TypeError, match="returned a float"):
        Parameterisation(lambda w: 1.0, 2, 2)
    with pytest.raises(TypeError, match=r"float32 tensor of shape \(2,\)"):
        Parameterisation(lambda w: w.float() ** 2, 2, 2)
    with pytest.raises(TypeError, match=r"degree = 1\.5"):
        Parameterisation(lambda w: w, 1.5)
    with pytest.raises(ValueError, match="not known yet"):
        Parameterisation(lambda w: w, 1).sample(0)
    own = Parameterisation(lambda w: w**2, 2, 3)
    with pytest.raises(ValueError, match="the map has 3 parameters"):
        own.predictor([1.0, 2.0])
    with pytest.raises(ValueError, match="g has 2 entries"):
        own.hessian([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="not a positive number"):
        own.sample(0, 0.0)
    with pytest.raises(TypeError, match="scale is not a single real number"):
        own.sample(0, "a")
    with pytest.raises(ValueError, match="seed = -1 is too small"):
        own.sample(-1)
    with pytest.raises(TypeError, match=r"seed = 0\.5 is not an integer"):
        own.sample(0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("dense", 3, 2), ValueError, "no network of kind 'dense'"),
        (("full", 0, 2), ValueError, "d = 0 is too small"),
        (("full", 3, 2.5), TypeError, "depth = 2.5 is not an integer"),
        (("diagonal", 3, 2, 2), ValueError, "width has no meaning"),
        (("diagonal", 3, 2, None, 2), ValueError, "has one output"),
        (("convolutional", 3, 2, 4), ValueError, "width = 4 exceeds"),
        (("convolutional", 6, 2, 3, 1, (2, 3)), ValueError, "width = 3 exceeds"),
        (("convolutional", 6, 2, None, 1, (2, 2)), ValueError, "two sides of an image"),
        (("full", 6, 2, None, 1, (2, 3)), ValueError, "two sides of an image"),
        (("convolutional", 6, 2, None, 1, 6), TypeError, "shape = 6 is not a tuple"),
        (("convolutional", 6, 2, None, 1, (6,)), ValueError, "two sides of an image"),
        (("convolutional", 6, 2, None, 1, (-2, -3)), ValueError, "shape = -2 is too small"),
    ],
)
def test_messages_about_networks(arguments, error, message):
    with pytest.raises(error, match=message):
        LinearNetwork(*arguments)


def test_messages_about_parameters():
    network = LinearNetwork("convolutional", 4, 3, width=2)
    with pytest.raises(ValueError, match=r"shape \(3, 4\), 12 numbers, but this convolutional"):
        network.predictor(np.ones((3, 4)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        network.predictor([math.nan] * 8)
    with pytest.raises(ValueError, match="at depth 2"):
        implied_penalty(network, np.ones(4))
    with pytest.raises(ValueError, match=r"beta has shape \(3,\)"):
        implied_penalty(network, np.ones(3))
    with pytest.raises(TypeError, match="for a LinearNetwork only"):
        balanced_parameters(Parameterisation(lambda w: w, 1), np.ones(3))
