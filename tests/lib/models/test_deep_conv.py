"""Convolutional networks: what they compute, how they scale, what batch normalisation leaves."""

import itertools
import math

import pytest
import torch
from implicit_bias.models.deep_conv import ConvNetwork
from torch import nn
from torch.nn import functional as F

SHAPE = (2, 9, 6)


def images(n=7, seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def network(**options):
    made = ConvNetwork(SHAPE, 3, (4, 5), dense=(6,), **options).double()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # biases and shifts that do something
        for name, p in made.named_parameters():
            if p.ndim == 1:
                noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                p.copy_(0.3 * noise + (1 if name.endswith("norm.weight") else 0))
    return made


@pytest.mark.parametrize("bias", [True, False, "first"])
@pytest.mark.parametrize("activation", [torch.relu, torch.tanh, torch.square])
def test_is_the_composition_of_its_layers(bias, activation):
    f, x = network(bias=bias, activation=activation), images()
    (W1, W2, W3, W4), b = zip(
        *((layer.linear.weight, layer.linear.bias) for layer in f.layers), strict=True
    )
    assert [v is not None for v in b] == {
        True: [True] * 4,
        False: [False] * 4,
        "first": [True] + [False] * 3,
    }[bias]
    z1 = F.conv2d(x, W1, b[0], stride=2, padding=1)
    z2 = F.conv2d(activation(z1), W2, b[1], stride=2, padding=1)
    z3 = F.linear(activation(z2).flatten(1), W3, b[2])
    z4 = F.linear(activation(z3), W4, b[3])
    assert z2.shape[2:] == (3, 2)  # nine and six, halved twice, rounded up
    for found, expected in zip(f.preactivations(x), (z1, z2, z3, z4), strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
    torch.testing.assert_close(f(x), z4, atol=0, rtol=0)


def test_counts_its_parameters():
    assert network(bias=False).size == 4 * 2 * 9 + 5 * 4 * 9 + 6 * 30 + 3 * 6
    assert network(bias=True).size == network(bias=False).size + 4 + 5 + 6 + 3
    assert network(bias="first").size == network(bias=False).size + 4
    # A scale and a shift for each channel in place of the bias of its convolution.
    assert network(batch_norm=True).size == network(bias=False).size + 8 + 10 + 6 + 3


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("bias", [False, "first"])
def test_the_relu_makes_it_homogeneous_in_every_layer(k, bias):
    f, x = network(bias=bias), images()
    before = f(x)
    with torch.no_grad():
        for p in f.layers[k].parameters():
            p.mul_(4)  # a power of two: no rounding
    torch.testing.assert_close(f(x), 4 * before, atol=0, rtol=0)
    # The control: a bias further up is not scaled along.
    g = network(bias=True)
    before = g(x)
    with torch.no_grad():
        for p in g.layers[0].parameters():
            p.mul_(4)
    assert bool((g(x) - 4 * before).norm() > 0.1 * before.norm())


def test_weights_have_the_spread_asked_for_and_biases_are_zero():
    f = ConvNetwork((3, 16, 16), 10, (64, 128), dense=(200,), scale=3.0)
    for layer in f.layers:
        weight = layer.linear.weight
        spread = 3 * math.sqrt(2 / weight[0].numel())
        # The standard deviation of N normal numbers is known to 1 in sqrt(2 N): five of these.
        assert float(weight.std().detach()) == pytest.approx(
            spread, rel=5 / math.sqrt(2 * weight.numel())
        )
        assert float(layer.linear.bias.detach().abs().max()) == 0


def test_repeats_itself_and_changes_with_the_seed():
    state = torch.get_rng_state()
    a, b, c = (ConvNetwork(SHAPE, 3, (4, 5), seed=seed) for seed in (1, 1, 2))
    for p, q, r in zip(a.parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.ndim == 1 or not torch.equal(p, r)
    x = images().float()
    assert torch.equal(a(x), b(x))
    assert torch.equal(torch.get_rng_state(), state)  # of nobody else's random numbers


def test_weights_do_not_depend_on_biases_or_batch_normalisation():
    weights = [
        [layer.linear.weight for layer in ConvNetwork(SHAPE, 3, bias=b, batch_norm=n).layers]
        for b, n in itertools.product([True, False, "first"], [False, True])
    ]
    for others in weights[1:]:
        assert all(map(torch.equal, weights[0], others))


def test_batch_normalisation_normalises_while_training():
    f, x = network(batch_norm=True), images(200)
    f.train()
    f.layers[0].norm.reset_parameters()
    z = f.preactivations(x)[0]
    torch.testing.assert_close(
        z.mean((0, 2, 3)), torch.zeros_like(z[0, :, 0, 0]), atol=1e-12, rtol=0
    )
    # The variance is v / (v + eps), with eps = 1e-5 and v of order 1.
    var = z.var((0, 2, 3), correction=0)
    torch.testing.assert_close(var, torch.ones_like(var), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bias", [True, False, "first"])
def test_batch_normalisation_can_be_absorbed(bias):
    f, x = network(batch_norm=True, bias=bias), images(50)
    f.train()
    for _ in range(3):
        f(x)  # running means and variances that are not 0 and 1
    twin = f.without_batch_norm()
    f.eval()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in f.modules())
    torch.testing.assert_close(twin(x), f(x), atol=1e-13, rtol=1e-13)
    for layer in twin.layers[:2]:
        assert layer.linear.bias is not None
    plain = network()
    assert torch.equal(plain.without_batch_norm()(x), plain(x))


def test_another_activation_on_the_same_weights():
    f, x = network(), images()
    g = f.with_activation(torch.tanh)
    torch.testing.assert_close(g(x), network(activation=torch.tanh)(x), atol=0, rtol=0)
    assert f.activation is torch.relu
    with torch.no_grad():
        g.layers[0].linear.weight.zero_()
    assert float(f.layers[0].linear.weight.detach().abs().max()) > 0


@pytest.mark.parametrize("module", [nn.ReLU(), nn.PReLU(init=0.0)])
def test_an_activation_may_be_a_module(module):
    f, x = ConvNetwork(SHAPE, 3, activation=module).double(), images()
    plain = ConvNetwork(SHAPE, 3).double()
    assert torch.equal(f(x), plain(x))
    assert torch.equal(
        f.with_activation(torch.tanh)(x), ConvNetwork(SHAPE, 3, activation=torch.tanh).double()(x)
    )
    assert torch.equal(plain.with_activation(module.double())(x), plain(x))
    assert f.activation is module
    with pytest.raises(TypeError, match="activation = 'tanh' cannot be applied"):
        plain.with_activation("tanh")


def test_learns():
    """Four patterns and their noise: told apart by descent, not before."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    patterns = torch.randn(4, 1, 8, 8, generator=generator)
    x = patterns[labels] + 0.3 * torch.randn(40, 1, 8, 8, generator=generator)
    f = ConvNetwork((1, 8, 8), 4, (8, 8))
    optimiser = torch.optim.SGD(f.parameters(), 0.1)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(f(x), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.5
    assert losses[-1] < 0.05
    assert torch.equal(f(x).argmax(1), labels)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": (8, 8)}, ValueError, r"\(8, 8\) is not that of an image.*channels"),
        ({"shape": (1, 0, 8)}, ValueError, "entry of shape = 0 is too small"),
        ({"classes": 2.5}, TypeError, r"classes = 2\.5 is not an integer"),
        ({"widths": ()}, ValueError, "widths is empty.*needs a convolution"),
        ({"widths": (4, 0)}, ValueError, "entry of widths = 0 is too small"),
        ({"dense": (1.5,)}, TypeError, r"entry of dense = 1\.5 is not an integer"),
        ({"activation": "relu"}, TypeError, "activation = 'relu' cannot be applied.*torch.relu"),
        ({"bias": "last"}, ValueError, "bias = 'last'; pass True, False or 'first'"),
        ({"bias": 1}, ValueError, "bias = 1; pass True"),
        ({"scale": 0.0}, ValueError, r"scale = 0\.0 must be positive"),
        ({"scale": math.nan}, ValueError, "scale = nan must be positive"),
        ({"seed": -1}, ValueError, "seed = -1 is too small"),
    ],
)
def test_refuses_and_says_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message):
        ConvNetwork(**({"shape": SHAPE, "classes": 3} | arguments))


@pytest.mark.parametrize("shape", [SHAPE, (4, 1, 9, 6), (4, 2, 6, 9)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"x has shape .*\(n, 2, 9, 6\).*x\[None\]"):
        network()(torch.zeros(shape, dtype=torch.float64))
