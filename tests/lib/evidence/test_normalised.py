"""Losses of divided outputs: against the plain formula, against 150 digits, and in the limit."""

import copy
import math

import mpmath
import pytest
import torch
from implicit_bias.evidence.normalised import (
    class_margins,
    loss_deficit,
    measure_network,
    scores,
)
from implicit_bias.images import ImageData
from implicit_bias.models.deep import FilterNetwork
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.models.homogeneity import normalise, rescale_channels
from implicit_bias.models.residual import ResidualNetwork
from torch import nn


def random_outputs(seed, n=7, classes=4, size=3.0):
    generator = torch.Generator().manual_seed(seed)
    z = size * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return z, torch.randint(classes, (n,), generator=generator)


def in_many_digits(z, y, rho):
    with mpmath.workdps(150):
        total = mpmath.mpf(0)
        for row, label in zip(z.tolist(), y.tolist(), strict=True):
            v = [mpmath.mpf(entry) / mpmath.mpf(rho) for entry in row]
            total += mpmath.log(sum(mpmath.exp(entry - v[label]) for entry in v))
        return float(mpmath.log(z.shape[1]) - total / len(z))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rho", [1e-3, 0.5, 3.0, 40.0, 1e4, 1e9, 1e15, 1e100])
def test_deficit_against_150_digits(seed, rho):
    z, y = random_outputs(seed)
    first = float((z.gather(1, y[:, None])[:, 0] - z.mean(1)).abs().mean()) / rho
    # rounding of m over n C numbers, and for small rho of a loss of size m / rho
    tolerance = 1e-14 * max(first, min(1.0, first))
    assert float(loss_deficit(z, y, rho)) == pytest.approx(
        in_many_digits(z, y, rho), abs=tolerance + 1e-15 * (rho < 10), rel=0
    )


def test_the_naive_difference_keeps_nothing_of_it():
    z, y = random_outputs(0)
    plain = math.log(4) - float(nn.functional.cross_entropy(z / 1e15, y))
    exact = in_many_digits(z, y, 1e15)
    assert abs(plain / exact - 1) > 0.01
    assert float(loss_deficit(z, y, 1e15)) == pytest.approx(exact, rel=1e-13)


def test_deficit_is_one_less_the_loss_where_both_are_of_order_one():
    for seed in range(5):
        z, y = random_outputs(seed)
        for rho in (0.2, 1.0, 8.0):
            plain = math.log(4) - float(nn.functional.cross_entropy(z / rho, y))
            assert float(loss_deficit(z, y, rho)) == pytest.approx(plain, abs=1e-13)


def test_symmetries_of_the_deficit():
    z, y = random_outputs(3)
    rho = torch.tensor([[0.1, 1.0], [30.0, 1e6]], dtype=torch.float64)
    d = loss_deficit(z, y, rho)
    assert d.shape == rho.shape
    shifted = z + torch.arange(7.0)[:, None]
    torch.testing.assert_close(loss_deficit(shifted, y, rho), d, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(loss_deficit(7 * z, y, 7 * rho), d, rtol=1e-12, atol=1e-15)
    assert loss_deficit(z, y, torch.ones(0)).shape == (0,)


def test_ratio_of_deficits_tends_to_that_of_scores():
    a, b = random_outputs(1), random_outputs(2)
    r = scores(*b).score / scores(*a).score
    gaps = [
        abs(float(loss_deficit(*b, rho) / loss_deficit(*a, rho)) - r) for rho in (1e2, 1e4, 1e6)
    ]
    # of first order in 1 / rho
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.1)
    assert gaps[2] == pytest.approx(gaps[1] / 100, rel=0.1)


def test_scores_against_torch():
    z, y = random_outputs(4, n=50)
    found = scores(z, y)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(z, y)), rel=1e-14)
    assert found.error == float((z.argmax(1) != y).double().mean())
    centred = z - z.mean(1, keepdim=True)
    assert found.score == pytest.approx(float(centred[torch.arange(50), y].mean()), rel=1e-13)
    margins = class_margins(z, y)
    for i in range(50):
        others = [float(z[i, c]) for c in range(4) if c != int(y[i])]
        assert float(margins[i]) == float(z[i, y[i]]) - max(others)
    assert found.margin == float(margins.min())
    assert found.margin <= found.low_margin <= float(margins.median())


def test_extreme_outputs():
    assert scores([[100.0, 0.0]], [0]).loss == pytest.approx(math.exp(-100), rel=1e-14)
    assert scores([[0.0, 5000.0]], [0]).loss == 5000.0
    tied = scores([[1.0, 1.0]], [0])
    assert tied.error == 1.0  # no answer is no right one
    assert float(loss_deficit([[5000.0, 0.0]], [0])) == pytest.approx(math.log(2))
    assert float(loss_deficit([[5000.0, 0.0]], [1])) == pytest.approx(math.log(2) - 5000)


def pictures(n=12, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    return ImageData(torch.rand(n, 1, side, side, generator=generator), labels, ["a", "b", "c"])


def with_biases(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.copy_(torch.randn(p.shape, generator=generator))
    return model


NETWORKS = {
    "filters": lambda: with_biases(FilterNetwork((1, 8, 8), 3, (4, 4), size=3, seed=1)),
    "biases": lambda: with_biases(ConvNetwork((1, 8, 8), 3, (4, 6), seed=1)),
    "batch norm": lambda: with_biases(ConvNetwork((1, 8, 8), 3, (4, 6), batch_norm=True, seed=1)),
    "residual": lambda: with_biases(ResidualNetwork((1, 8, 8), 3, (4, 6), seed=1)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_measurement_of_a_network(name):
    model, train, test = NETWORKS[name]().eval(), pictures(), pictures(9, seed=1)
    before = copy.deepcopy(model.state_dict())
    found = measure_network(model, train, test, images=3)
    for part, data in (("train", train), ("test", test)):
        with torch.no_grad():
            z = copy.deepcopy(model).double()(data.images.double())
        torch.testing.assert_close(getattr(found, f"{part}_outputs"), z, rtol=1e-11, atol=1e-11)
        place = ("train", "test").index(part)
        for order in ("fro", "l1", "spectral"):
            divided = normalise(model, order)
            loss = nn.functional.cross_entropy(divided(data.images.double()), data.labels)
            assert found.rho[order] == divided.rho
            deficit = float(found.deficits[order][place])
            assert deficit == pytest.approx(math.log(3) - float(loss), abs=1e-13)
        expected = [float(loss_deficit(z, data.labels, by)) for by in found.image_norms]
        assert found.deficits["images"][place].tolist() == pytest.approx(expected, rel=1e-9)
    assert found.ratio == found.test.score / found.train.score
    layers = [layer.linear for layer in model.layers]
    assert {v.shape for v in found.norms.values()} == {(len(layers),)}
    # Scaling layers one by one is another function where a bias or a shortcut lies higher up.
    naive, exact = found.deficits["naive"], found.deficits["fro"]
    same = all(
        float(a) == pytest.approx(float(b), rel=1e-9) for a, b in zip(naive, exact, strict=True)
    )
    assert same == (name == "filters")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_rescaled_channels_change_norms_alone():
    model, train, test = NETWORKS["filters"](), pictures(), pictures(9, seed=1)
    a = measure_network(model, train, test)
    b = measure_network(rescale_channels(model, 1.0, seed=2), train, test)
    assert b.rho["fro"] > 1.05 * a.rho["fro"]
    for x, y in ((a.train, b.train), (a.test, b.test)):
        assert x.loss == pytest.approx(y.loss, rel=1e-10)
        assert x.score == pytest.approx(y.score, rel=1e-10)
    assert a.path_norm == pytest.approx(b.path_norm, rel=1e-10)
    assert a.rms == pytest.approx(b.rms, rel=1e-10)


def test_a_network_without_outputs_has_no_ruler():
    model = ConvNetwork((1, 8, 8), 3, (4,), bias="first")
    with torch.no_grad():
        model.layers[0].linear.bias.fill_(-100.0)  # no unit is ever switched on
    found = measure_network(model, pictures(), pictures(9, seed=1), images=2)
    assert found.rms == 0
    assert math.isnan(float(found.deficits["rms"][0]))
    assert bool(found.deficits["images"][1].isnan().all())
    assert float(found.deficits["fro"][0]) == 0
    assert math.isnan(found.ratio)
    assert found.train.loss == pytest.approx(math.log(3))
    assert measure_network(model, pictures(), pictures(), images=0).image_norms.shape == (0,)


@pytest.mark.parametrize("function", [loss_deficit, class_margins, scores])
def test_bad_input(function):
    with pytest.raises(ValueError, match="a row for each example"):
        function([1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="two classes or more"):
        function([[1.0], [2.0]], [0, 0])
    with pytest.raises(TypeError, match="number of a class"):
        function([[1.0, 2.0]], [0.0])
    with pytest.raises(ValueError, match="from 0 to 1"):
        function([[1.0, 2.0]], [2])
    with pytest.raises(ValueError, match="one for each row"):
        function([[1.0, 2.0]], [0, 1])
    with pytest.raises(ValueError, match="outputs"):
        function([[1.0, math.nan]], [0])


@pytest.mark.parametrize("rho", [0.0, -1.0, [1.0, 0.0]])
def test_divisors_are_sizes(rho):
    with pytest.raises(ValueError, match="must be positive"):
        loss_deficit([[1.0, 2.0]], [0], rho)
