"""Networks with filters of any size, and residual networks: what they compute."""

import copy
import math

import pytest
import torch
from implicit_bias.models.deep import FilterNetwork
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.models.residual import ResidualNetwork
from torch import nn
from torch.nn import functional as F

SHAPE = (2, 9, 8)


def images(n=7, seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def shaken(network, seed=9):
    """In float64, with biases and shifts that do something."""
    made = network.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if p.ndim == 1:
                noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                p.copy_(0.3 * noise + (1 if name.endswith("norm.weight") else 0))
    return made


# ---- filters


def test_counts_of_parameters_are_those_of_the_source():
    """L19, Appendices L.1.1 and L.1.2, to the last one."""
    assert FilterNetwork((3, 32, 32), 10).size == 154_464
    assert FilterNetwork((1, 28, 28), 10, (34, 34)).size == 165_784


@pytest.mark.parametrize("bias", [True, False, "first"])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(4, 1, 0), (3, 2, 1), (5, 2, 2), (2, 1, 0)]
)
def test_is_the_composition_of_its_layers(bias, size, stride, padding):
    f = shaken(
        FilterNetwork(
            SHAPE, 3, (4, 5), size=size, stride=stride, padding=padding, dense=(6,), bias=bias
        )
    )
    x = images()
    W, b = zip(*((layer.linear.weight, layer.linear.bias) for layer in f.layers), strict=True)
    assert [v is not None for v in b] == {
        True: [True] * 4,
        False: [False] * 4,
        "first": [True] + [False] * 3,
    }[bias]
    z = F.conv2d(x, W[0], b[0], stride=stride, padding=padding)
    z = F.conv2d(torch.relu(z), W[1], b[1], stride=stride, padding=padding)
    z = F.linear(torch.relu(z).flatten(1), W[2], b[2])
    z = F.linear(torch.relu(z), W[3], b[3])
    torch.testing.assert_close(f(x), z, atol=0, rtol=0)


def test_is_the_other_network_where_the_filters_are_its_own():
    options = {"dense": (6,), "bias": True, "scale": 1.3, "seed": 5}
    f = FilterNetwork(SHAPE, 3, (4, 5), size=3, stride=2, padding=1, **options)
    g = ConvNetwork(SHAPE, 3, (4, 5), **options)
    assert isinstance(f, ConvNetwork)
    for p, q in zip(f.parameters(), g.parameters(), strict=True):
        assert torch.equal(p, q)
    x = images().float()
    assert torch.equal(f(x), g(x))


def test_one_spread_for_all_weights():
    f = FilterNetwork((3, 16, 16), 10, (64, 64), spread=0.02)
    for layer in f.layers:
        weight = layer.linear.weight.detach()
        # The standard deviation of N normal numbers is known to 1 in sqrt(2 N): five of these.
        assert float(weight.std()) == pytest.approx(0.02, rel=5 / math.sqrt(2 * weight.numel()))
    # The same draws as with another spread.
    g = FilterNetwork((3, 16, 16), 10, (64, 64), spread=0.04)
    for p, q in zip(f.parameters(), g.parameters(), strict=True):
        torch.testing.assert_close(2 * p, q, atol=0, rtol=1e-6)


def test_batch_normalisation_after_each_convolution_can_be_absorbed():
    f, x = shaken(FilterNetwork(SHAPE, 3, (4, 5), size=3, batch_norm=True)), images(50)
    f.train()
    f(x)
    assert [layer.norm is not None for layer in f.layers] == [True, True, False]
    torch.testing.assert_close(f.without_batch_norm()(x), f.eval()(x), atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"filters": ()}, ValueError, "widths is empty"),
        (
            {"filters": (4, 4, 4)},
            ValueError,
            "Convolution 2 sees images of 5 x 4: too few.*5 x 5.*padding=2",
        ),
        ({"size": 10}, ValueError, r"Convolution 1 sees images of 9 x 8: too few.*10 x 10"),
        ({"size": 0}, ValueError, "size = 0 is too small"),
        ({"stride": 1.5}, TypeError, r"stride = 1\.5 is not an integer"),
        ({"padding": -1}, ValueError, "padding = -1 is too small"),
        ({"spread": 0.0}, ValueError, r"spread = 0\.0 and scale = 1\.0: .* must be positive"),
        ({"spread": 0.1, "scale": 2.0}, ValueError, r"spread = 0\.1 and scale = 2\.0.*Pass one"),
        ({"spread": math.nan}, ValueError, "spread = nan"),
    ],
)
def test_filters_that_cannot_be_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        FilterNetwork(**({"shape": SHAPE, "classes": 3} | arguments))


# ---- residual networks


def residual(**options):
    made = {"widths": (3, 5), "blocks": 2} | options
    return shaken(ResidualNetwork(SHAPE, 4, **made))


def test_the_residual_network_of_the_source():
    """He et al. with 56 and 20 layers: .85 and .27 million parameters, by the known counts."""
    for blocks, size in [(9, 853_018), (3, 269_722)]:
        f = ResidualNetwork((3, 32, 32), 10, blocks=blocks)
        assert f.size == size
        assert len(f.layers) == 6 * blocks + 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [torch.relu, torch.tanh])
def test_residual_is_the_sum_of_both_ways(bias, activation):
    f, x = residual(batch_norm=False, bias=bias, activation=activation), images()
    a = activation

    def conv(layer, h, stride=1):
        return F.conv2d(h, layer.linear.weight, layer.linear.bias, stride=stride, padding=1)

    h = a(conv(f.stem, x))
    for k, block in enumerate(f.blocks):
        stride = 2 if k == 2 else 1
        branch = conv(block.second, a(conv(block.first, h, stride)))
        past = torch.zeros_like(branch)
        past[:, : h.shape[1]] = h[:, :, ::stride, ::stride]
        h = a(past + branch)
    assert h.shape == (7, 5, 5, 4)
    torch.testing.assert_close(f.features(x), h, atol=0, rtol=0)
    expected = F.linear(h.mean((2, 3)), f.head.linear.weight, f.head.linear.bias)
    torch.testing.assert_close(f(x), expected, atol=0, rtol=0)
    assert (f.head.linear.bias is not None) is bias


def test_without_branches_the_stem_goes_through():
    f, x = residual(batch_norm=False, widths=(3,)), images()
    with torch.no_grad():
        for block in f.blocks:
            block.second.linear.weight.zero_()
            block.second.linear.bias.zero_()
    assert torch.equal(f.features(x), torch.relu(f.stem(x)))


def test_residual_is_homogeneous_in_all_that_a_block_adds_and_not_in_its_weights():
    f, x = residual(batch_norm=False, bias=False), images()
    before = f(x)
    g = copy.deepcopy(f)
    with torch.no_grad():
        f.blocks[1].second.linear.weight.mul_(4)
        assert float((f(x) - 4 * before).norm() / before.norm()) > 0.5
        f.blocks[1].shortcut.mul_(4)  # a power of two: no rounding
        torch.testing.assert_close(f(x), 4 * before, atol=0, rtol=0)
        g.stem.linear.weight.mul_(4)
        g.head.linear.weight.mul_(4)
        torch.testing.assert_close(g(x), 16 * before, atol=0, rtol=0)


def test_residual_batch_normalisation_can_be_absorbed():
    f, x = residual(), images(50)
    f.train()
    for _ in range(3):
        f(x)
    twin = f.without_batch_norm()
    f.eval()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in f.modules())
    torch.testing.assert_close(twin(x), f(x), atol=1e-12, rtol=1e-12)
    plain = residual(batch_norm=False)
    assert torch.equal(plain.without_batch_norm()(x), plain(x))


def test_residual_draws_repeat_themselves_with_the_spread_asked_for():
    state = torch.get_rng_state()
    a, b, c = (ResidualNetwork(SHAPE, 3, (32, 64), scale=2.0, seed=s) for s in (1, 1, 2))
    for p, q, r in zip(a.parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.ndim == 1 or not torch.equal(p, r)
    assert torch.equal(torch.get_rng_state(), state)
    for layer in a.layers:
        weight = layer.linear.weight.detach()
        spread = 2 * math.sqrt(2 / weight[0].numel())
        assert float(weight.std()) == pytest.approx(spread, rel=5 / math.sqrt(2 * weight.numel()))


def test_residual_learns():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    patterns = torch.randn(4, 1, 8, 8, generator=generator)
    x = patterns[labels] + 0.3 * torch.randn(40, 1, 8, 8, generator=generator)
    f = ResidualNetwork((1, 8, 8), 4, (8, 16))
    optimiser = torch.optim.SGD(f.parameters(), 0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(f(x), labels)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
    assert torch.equal(f(x).argmax(1), labels)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": (8, 8)}, ValueError, r"\(8, 8\) is not that of an image"),
        ({"widths": ()}, ValueError, r"widths = \(\): a shortcut.*such as \(16, 32\)"),
        ({"widths": (8, 4)}, ValueError, r"widths = \(8, 4\).*do not decrease"),
        ({"widths": (8, 8.5)}, TypeError, r"entry of widths = 8\.5 is not an integer"),
        ({"blocks": 0}, ValueError, "blocks = 0 is too small"),
        ({"classes": 0}, ValueError, "classes = 0 is too small"),
        ({"activation": "relu"}, TypeError, "activation = 'relu' cannot be applied"),
        ({"bias": "first"}, ValueError, "bias = 'first'; pass True or False"),
        ({"scale": -1.0}, ValueError, r"scale = -1\.0 must be positive"),
        ({"seed": -1}, ValueError, "seed = -1 is too small"),
    ],
)
def test_residual_refuses_and_says_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message):
        ResidualNetwork(**({"shape": SHAPE, "classes": 3} | arguments))


def test_residual_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"x has shape .*\(n, 2, 9, 8\).*x\[None\]"):
        residual()(torch.zeros(SHAPE, dtype=torch.float64))
