"""The normal form is the same function; norms and path norms are what they say."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from implicit_bias.models.deep import FilterNetwork
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.models.homogeneity import normalise, rescale_channels
from implicit_bias.models.residual import ResidualNetwork
from implicit_bias.models.weights import layer_norms, path_norm
from torch import nn
from torch.nn import functional as F

SHAPE = (2, 9, 8)
ORDERS = ["fro", "spectral", "l1", 3.0, math.inf, (2, 1), (1, 2)]


@pytest.fixture(autouse=True)
def own_draws():
    """torch's layers draw from its global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def images(n=50, seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def shaken(network, seed=9):
    """In float64, with biases that do something, and batch normalisation that has seen images."""
    made = network.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in made.modules():
            for name, p in m.named_parameters(recurse=False):
                if p.ndim == 1:
                    noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                    centre = isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and name == "weight"
                    p.copy_(0.3 * noise + centre)
        made.train()
        for seed in range(3):
            made(2 * images(seed=seed) + 0.5)
    return made.eval()


def sequential():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 6, 2), nn.ReLU(), nn.AvgPool2d(2), nn.Dropout()),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


NETWORKS = {
    "no bias": lambda: ConvNetwork(SHAPE, 3, (4, 5), dense=(6,), bias=False),
    "first bias": lambda: FilterNetwork(SHAPE, 3, (4, 5), size=3),
    "biases": lambda: ConvNetwork(SHAPE, 3, (4, 5), dense=(6,)),
    "batch norm": lambda: ConvNetwork(SHAPE, 3, (4, 5), dense=(6,), batch_norm=True),
    "five layers": lambda: ConvNetwork(SHAPE, 3, (4, 8, 8, 8), batch_norm=True),
    "sequential": sequential,
    "residual": lambda: ResidualNetwork(SHAPE, 3, (3, 5), 2),
    "residual, biases": lambda: ResidualNetwork(SHAPE, 3, (3, 5), 2, batch_norm=False),
}
SHARP = [name for name in NETWORKS if name not in ("no bias", "first bias")]


def made(name):
    return shaken(NETWORKS[name]())


def difference(a, b):
    return float((a - b).abs().max() / b.abs().max())


# ---- the normal form


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_is_the_same_function_up_to_its_factor(name, order):
    f, x = made(name), images(seed=4)
    with torch.no_grad():
        expected = f(x)
    for first_bias in (True, False):
        record = normalise(f, order, first_bias=first_bias)
        # 1e-12 is the book's bound. Rounding: 1e-16 for each of some hundreds of terms.
        assert difference(record.rho * record(x), expected) < 1e-13
        assert record.rho == pytest.approx(math.prod(record.factors), rel=1e-15)
        assert record.order == order


@pytest.mark.parametrize("name", NETWORKS)
def test_holds_in_float32_to_its_precision(name):
    f, x = made(name).float(), images(seed=4).float()
    record = normalise(f)
    assert record(x).dtype == torch.float64
    with torch.no_grad():
        assert difference(record.rho * record.model.float()(x), f(x)) < 3e-6


@pytest.mark.parametrize("name", SHARP)
def test_the_naive_way_is_another_function(name):
    f, x = made(name), images(500, seed=4)
    naive, exact = normalise(f, scaling="naive"), normalise(f)
    with torch.no_grad():
        expected = f(x)
    outputs = naive(x)
    best = float((outputs * expected).sum() / (outputs**2).sum())
    assert float((best * outputs - expected).norm() / expected.norm()) > 0.01  # for any factor
    assert difference(naive.rho * outputs, expected) > 0.1  # and its own is far off
    assert torch.equal(exact(x).argmax(1), expected.argmax(1))


@pytest.mark.parametrize("name", ["no bias", "first bias"])
def test_the_naive_way_is_right_where_no_later_bias_is(name):
    f, x = made(name), images()
    naive, exact = normalise(f, scaling="naive"), normalise(f)
    assert naive.rho == exact.rho
    assert difference(naive(x), exact(x)) < 1e-14


def test_trained_with_batch_normalisation_the_naive_way_changes_many_classes():
    """What L19's figures 11 and 12 would have been without scaling the absorbed biases."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    patterns = torch.randn(4, 1, 8, 8, generator=generator)
    x = patterns[labels] + torch.randn(200, 1, 8, 8, generator=generator)
    f = ConvNetwork((1, 8, 8), 4, (8, 16, 16, 16), batch_norm=True)
    optimiser = torch.optim.SGD(f.parameters(), 0.1)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(f(x), labels).backward()
        optimiser.step()
    f.eval()
    exact, naive = normalise(f), normalise(f, scaling="naive")
    with torch.no_grad():
        expected = f.double()(x.double())
    assert difference(exact.rho * exact(x), expected) < 1e-12
    assert torch.equal(exact(x).argmax(1), expected.argmax(1))
    assert float((naive(x).argmax(1) != expected.argmax(1)).double().mean()) > 0.2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_have_norm_one_and_nothing_is_left_to_divide(name, order):
    f = made(name)
    record = normalise(f, order)
    again = normalise(record.model, order)
    # Blocks have a bound of one: shares of both ways that add up to it.
    assert again.factors == pytest.approx([1] * len(record.factors), rel=1e-13)
    assert again.rho == pytest.approx(1, rel=1e-13)
    sizes = layer_norms(record.model, order)
    if isinstance(record.model, ResidualNetwork):
        ones = torch.cat([sizes[[0, -1]], sizes[1:-1:2]])
        for block, branch in zip(record.model.blocks, sizes[2:-1:2], strict=True):
            assert float(block.shortcut + branch) == pytest.approx(1, rel=1e-13)
    else:
        ones = sizes
        assert list(record.factors) == layer_norms(f, order).tolist()
    torch.testing.assert_close(ones, torch.ones_like(ones), atol=1e-13, rtol=0)


def test_later_biases_are_divided_by_the_norms_up_to_their_layer():
    """By hand: norms 5, 2, 4."""
    f = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    values = ([[0.0, 4.0]], [3.0], [[2.0]], [-7.0], [[-4.0]], [8.0])
    with torch.no_grad():
        for p, v in zip(f.parameters(), values, strict=True):
            p.copy_(torch.tensor(v))
    record = normalise(f)
    assert record.factors == (5.0, 2.0, 4.0)
    assert record.rho == 40.0
    found = [p.flatten().tolist() for p in record.model.parameters()]
    assert found == [[0.0, 0.8], [0.6], [1.0], [-0.7], [-1.0], [0.2]]
    weights_alone = normalise(f, first_bias=False)
    assert weights_alone.factors == (4.0, 2.0, 4.0)
    assert list(weights_alone.model.parameters())[1].item() == 0.75


def test_a_block_by_hand():
    f = ResidualNetwork((1, 1, 1), 1, (1,), batch_norm=False).double()
    with torch.no_grad():
        for layer, w, b in zip(f.layers, (2.0, 3.0, 5.0, 7.0), (0.0, 1.0, -2.0, 4.0), strict=True):
            layer.linear.weight.zero_()
            layer.linear.weight.flatten()[layer.linear.weight.numel() // 2] = w
            layer.linear.bias.fill_(b)
    x = torch.tensor([[[[1.0]]], [[[3.0]]]]).double()
    # Stem 2x; block: 2x + 5 (3 * 2x + 1) - 2 = 32 x + 3; head 7 (32 x + 3) + 4 = 224 x + 25.
    assert f(x).flatten().tolist() == [249.0, 697.0]
    record = normalise(f)
    assert record.factors == (2.0, 16.0, 7.0)
    assert float(record.model.blocks[0].shortcut) == 1 / 16
    torch.testing.assert_close(record(x).flatten(), torch.tensor([249.0, 697.0]).double() / 224)


def test_a_shortcut_may_have_any_sign():
    f, x = made("residual, biases"), images()
    f.blocks[0].shortcut.fill_(-0.5)
    f.blocks[1].shortcut.fill_(0.0)
    record = normalise(f)
    with torch.no_grad():
        assert difference(record.rho * record(x), f(x)) < 1e-13
    first, branch = record.model.blocks[0], layer_norms(record.model)[2]
    assert float(first.shortcut) < 0
    assert float(first.shortcut.abs() + branch) == pytest.approx(1, rel=1e-13)


def test_the_network_given_is_left_as_it_was():
    f = made("batch norm").train()
    before = copy.deepcopy(f.state_dict())
    record = normalise(f)
    assert f.training
    assert not record.model.training
    for key, value in f.state_dict().items():
        assert torch.equal(value, before[key])
    assert next(record.model.parameters()).dtype == torch.float64


@pytest.mark.parametrize("size", [1e-60, 1e-20, 1e20, 1e60])
def test_sizes_do_not_matter(size):
    f, x = made("biases"), images()
    with torch.no_grad():
        expected = f(x)
        c = 1.0
        for layer in f.layers:
            c *= size
            layer.linear.weight.mul_(size)
            layer.linear.bias.mul_(c)
    record = normalise(f)
    assert difference(record.rho / c * record(x), expected) < 1e-12


def test_normalised_outputs_do_not_depend_on_what_scaled_the_layers():
    f, x = made("no bias"), images()
    one = normalise(f)
    with torch.no_grad():
        for k, layer in enumerate(f.layers):
            layer.linear.weight.mul_(2.0 ** (3 * k - 4))
    other = normalise(f)
    assert torch.equal(one(x), other(x))
    assert other.rho == one.rho * 2.0 ** (-4 - 1 + 2 + 5)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), torch.abs, nn.Identity()])
def test_other_homogeneous_activations(activation):
    f, x = shaken(ConvNetwork(SHAPE, 3, (4, 5), activation=activation)), images()
    record = normalise(f)
    with torch.no_grad():
        assert difference(record.rho * record(x), f(x)) < 1e-13


@pytest.mark.parametrize(
    "activation", [torch.tanh, torch.square, F.softplus, F.gelu, F.relu6, lambda z: z + 1, F.elu]
)
@pytest.mark.parametrize("kind", [ConvNetwork, ResidualNetwork])
def test_activations_that_are_not_are_refused(activation, kind):
    f = kind(SHAPE, 3, (4, 5), activation=activation)
    for call in (normalise, path_norm, rescale_channels):
        with pytest.raises(ValueError, match=r"activation .* is not homogeneous.*torch\.relu"):
            call(f)
    assert layer_norms(f).shape[0] > 2  # norms are there all the same


# ---- norms


def test_norms_of_a_layer_against_numpy():
    f = made("first bias")
    bias = f.layers[0].linear.bias.detach().numpy()
    first, second, third = (
        layer.linear.weight.detach().reshape(layer.linear.weight.shape[0], -1).numpy()
        for layer in f.layers
    )
    with_bias = np.column_stack([first, bias])
    for order, norm in {
        "fro": np.linalg.norm,
        "spectral": lambda W: np.linalg.norm(W, 2),
        "l1": lambda W: np.abs(W).sum(),
        2: np.linalg.norm,
        3: lambda W: (np.abs(W) ** 3).sum() ** (1 / 3),
        math.inf: lambda W: np.abs(W).max(),
        (2, 1): lambda W: np.linalg.norm(W, axis=1).sum(),
        (1, math.inf): lambda W: np.abs(W).sum(1).max(),
    }.items():
        found = layer_norms(f, order)
        expected = [norm(W) for W in (with_bias, second, third)]
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=0, rtol=1e-13)
        found = layer_norms(f, order, first_bias=False)
        assert float(found[0]) == pytest.approx(norm(first), rel=1e-13)


def test_norms_are_those_of_the_weights_that_have_absorbed_batch_normalisation():
    f = made("batch norm")
    torch.testing.assert_close(layer_norms(f), layer_norms(f.without_batch_norm()), atol=0, rtol=0)
    with torch.no_grad():
        f.layers[1].norm.weight.mul_(3)
    grown = layer_norms(f) / layer_norms(made("batch norm"))
    torch.testing.assert_close(grown, torch.tensor([1.0, 3, 1, 1]).double(), atol=0, rtol=1e-14)


def test_norms_of_huge_and_tiny_weights():
    for size in (1e-200, 1e200):
        f = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
        with torch.no_grad():
            f[0].weight.copy_(size * torch.tensor([[3.0, 4.0]]).double())
        assert float(layer_norms(f)) == pytest.approx(5 * size, rel=1e-15)


# ---- paths


@pytest.mark.parametrize("p", [1, 1.5, 2.0, 3])
def test_path_norm_is_the_sum_over_paths(p):
    f = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    f = f.double()
    (W1, b1), (W2, b2), (W3, b3) = (
        (m.weight.detach().abs() ** p, m.bias.detach().abs() ** p) for m in f[::2]
    )
    total = float(b3.sum())
    for i, j, k in itertools.product(range(4), range(2), range(2)):
        total += sum(float(W1[i, a] * W2[j, i] * W3[k, j]) for a in range(3))
        total += float(b1[i] * W2[j, i] * W3[k, j])
    for j, k in itertools.product(range(2), range(2)):
        total += float(b2[j] * W3[k, j])
    assert path_norm(f, p, shape=(3,)) == pytest.approx(total ** (1 / p), rel=1e-14)


def test_path_norm_is_at_most_the_product_of_norms_of_dense_layers():
    f = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
    product = float(layer_norms(f).prod())
    assert 0.1 * product < path_norm(f, shape=(6,)) <= product


def test_path_norm_of_one_is_the_largest_change_of_a_linear_network():
    """With weights of one sign and the identity the paths add up: f(1)."""
    f = ConvNetwork(SHAPE, 3, (4, 5), activation=nn.Identity(), bias=False).double()
    with torch.no_grad():
        for p in f.parameters():
            p.abs_()
        expected = float(f(torch.ones(1, *SHAPE).double()).sum())
    assert path_norm(f, 1) == pytest.approx(expected, rel=1e-14)


def test_path_norm_counts_the_ways_through_a_residual_network():
    f = ResidualNetwork((1, 2, 2), 1, (1,), batch_norm=False, bias=False).double()
    with torch.no_grad():
        for layer, w in zip(f.layers, (2.0, -3.0, 5.0, 7.0), strict=True):
            layer.linear.weight.zero_()
            layer.linear.weight.flatten()[layer.linear.weight.numel() // 2] = w
    # Four pixels, each by the shortcut and by the branch: a fourth of 2 * 7 times 1 or 15.
    for p in (1, 2, 3):
        paths = 4 * [3.5, 3.5 * 15]
        assert path_norm(f, p) == pytest.approx(np.linalg.norm(paths, p), rel=1e-14)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "sequential"])
def test_path_norm_grows_with_the_function_and_not_with_its_channels(name):
    f = made(name)
    record = normalise(f)
    for p in (1, 2.0):
        assert path_norm(f, p) == pytest.approx(record.rho * path_norm(record.model, p), rel=1e-12)
        assert path_norm(rescale_channels(f), p) == pytest.approx(path_norm(f, p), rel=1e-12)


def test_path_norms_below_float64_are_refused_and_no_path_is_zero():
    f = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        for p in f.parameters():
            p.fill_(1e-120)
    assert path_norm(f, 1, shape=(2,)) == pytest.approx(4e-240, rel=1e-14)
    with pytest.raises(ValueError, match=r"power 2 is 0\.0, outside float64"):
        path_norm(f, 2, shape=(2,))
    with torch.no_grad():
        f[0].weight[0], f[2].weight[0, 1] = 0, 0
    assert path_norm(f, 2, shape=(2,)) == 0


@pytest.mark.parametrize("name", ["batch norm", "residual"])
def test_batch_normalisation_may_have_seen_next_to_no_variance(name):
    f, x = made(name), images(seed=4)
    for m in f.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_var[0] = 0.0
            m.running_var[1] = 1e-30
    record = normalise(f)
    with torch.no_grad():
        # Channels of weight 1/sqrt(1e-5), 300 times that of the others, layer after layer.
        assert difference(record.rho * record(x), f(x)) < 1e-12


# ---- the same function with other norms


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_rescaled_channels_leave_the_function(name, spread):
    f, x = made(name), images()
    other = rescale_channels(f, spread, seed=3)
    with torch.no_grad():
        assert difference(other(x), f(x)) < 1e-13
    rho = normalise(f).rho
    if spread:
        assert normalise(other).rho > 1.2 * rho
        assert not torch.equal(layer_norms(rescale_channels(f, spread, seed=4)), layer_norms(other))
        assert torch.equal(layer_norms(rescale_channels(f, spread, seed=3)), layer_norms(other))
    else:
        assert normalise(other).rho == pytest.approx(rho, rel=1e-14)


# ---- refusals


def weight_normalised():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))


def shared():
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.ReLU(), layer)


class Own(ConvNetwork):
    def forward(self, x):
        return super().forward(x) + 1


class Odd(nn.ReLU):
    def forward(self, x):
        return torch.tanh(x)


def broken():
    f = NETWORKS["biases"]()
    with torch.no_grad():
        f.layers[1].linear.weight[0, 0, 0, 0] = math.nan
    return f


def normed(mean=0.0, variance=1.0, eps=1e-5):
    f = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, eps=eps), nn.ReLU(), nn.Linear(3, 1))
    f[1].running_mean[1], f[1].running_var[1] = mean, variance
    return f


def zero(layer=1):
    f = NETWORKS["biases"]()
    with torch.no_grad():
        f.layers[layer].linear.weight.zero_()
    return f


def huge():
    f = made("no bias")
    with torch.no_grad():
        for p in f.parameters():
            p.mul_(1e100)
    return f


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda: nn.Linear(2, 2), TypeError, "layers of a Linear are not known.*nn.Sequential"),
        (lambda: torch.relu, TypeError, "are not known here"),
        (lambda: Own(SHAPE, 3), TypeError, "Own has its own forward"),
        (weight_normalised, ValueError, "computed from others.*remove_parametrizations"),
        (shared, ValueError, "share their weights"),
        (lambda: normed(mean=math.nan), ValueError, r"buffer 1\.running_mean has a NaN"),
        (lambda: normed(variance=math.inf), ValueError, r"buffer 1\.running_var has a NaN or inf"),
        (lambda: normed(variance=0.0, eps=0.0), ValueError, r"variance so small that 0\.weight"),
        (broken, ValueError, r"parameter layers\.1\.linear\.weight has a NaN"),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            ValueError,
            "batch normalisation 1 keeps no running mean",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3)),
            ValueError,
            "does not follow a linear layer or a convolution directly",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)),
            ValueError,
            "LayerNorm is not known to be homogeneous",
        ),
        (lambda: nn.Sequential(nn.ReLU()), ValueError, "no linear layer or convolution"),
    ],
)
@pytest.mark.parametrize("call", [normalise, layer_norms, path_norm, rescale_channels])
def test_models_that_are_not_layers_in_a_row_are_refused(call, model, error, message):
    with pytest.raises(error, match=message):
        call(model())


@pytest.mark.parametrize("part", [nn.Tanh(), nn.Softmax(1), Odd(), nn.ReLU6(), nn.GELU()])
def test_parts_that_are_not_homogeneous_are_refused(part):
    f = nn.Sequential(nn.Linear(2, 3), part, nn.Linear(3, 2))
    with pytest.raises(ValueError, match=rf"{type(part).__name__} is not known to be homogeneous"):
        normalise(f)
    assert layer_norms(f).shape == (2,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: normalise(zero()), ValueError, "All weights of layer 2 are zero.*trained"),
        (lambda: normalise(huge()), ValueError, "product of the norms leaves float64"),
        (lambda: normalise(made("biases"), "nuclear"), ValueError, "order = 'nuclear' is not"),
        (lambda: normalise(made("biases"), 0.5), ValueError, r"order = 0\.5 is not a norm"),
        (lambda: layer_norms(made("biases"), (2, 0)), ValueError, r"order = \(2, 0\) is not"),
        (lambda: layer_norms(made("biases"), (2, 1, 1)), ValueError, r"\(2, 1, 1\) is not"),
        (lambda: layer_norms(made("biases"), None), ValueError, "order = None is not a norm"),
        (lambda: layer_norms(made("biases"), "2"), ValueError, "order = '2' is not a norm"),
        (
            lambda: normalise(made("biases"), scaling="exact"),
            ValueError,
            "scaling = 'exact'; pass 'cumulative'",
        ),
        (lambda: path_norm(made("biases"), 0.5), ValueError, r"p = 0\.5: .*Pass 1 or 2"),
        (lambda: path_norm(made("biases"), math.inf), ValueError, "p = inf"),
        (lambda: path_norm(made("biases"), "2"), ValueError, "p = '2'"),
        (lambda: path_norm(huge(), 2), ValueError, "power 2 is .*outside float64"),
        (lambda: path_norm(made("sequential")), ValueError, "Sequential does not say.*Pass shape"),
        (lambda: path_norm(made("sequential"), 2, SHAPE), ValueError, "pooling layer has no weig"),
        (lambda: rescale_channels(made("biases"), -1.0), ValueError, r"spread = -1\.0 is no stand"),
        (lambda: rescale_channels(made("biases"), math.nan), ValueError, "spread = nan"),
        (lambda: rescale_channels(made("biases"), 300), ValueError, "spread = 300 .*leave float64"),
        (lambda: rescale_channels(made("biases"), 1.0, -1), ValueError, "seed = -1"),
        (
            lambda: rescale_channels(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2))),
            ValueError,
            r"4 channels is followed by one that takes 4 inputs.*nn.Flatten",
        ),
        (
            lambda: rescale_channels(
                nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2))
            ),
            ValueError,
            "takes 2 inputs in another order, or in groups",
        ),
        (
            # Each row of pixels is a vector of its own: the channels are not among the inputs.
            lambda: rescale_channels(
                nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(1, 2), nn.ReLU(), nn.Linear(4, 2))
            ),
            ValueError,
            "4 channels is followed by one that takes 4 inputs in another order",
        ),
    ],
)
def test_refuses_and_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
