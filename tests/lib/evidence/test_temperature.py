"""The best temperature is the minimum of a convex function of 1/T, or one of its two limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from implicit_bias.evidence.temperature import best_temperature
from torch.nn.functional import cross_entropy


def instance(seed, n=40, classes=5, scale=1.0):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(classes, size=n))
    z = torch.from_numpy(rng.standard_normal((n, classes)))
    z[torch.arange(n), labels] += 1.0
    return scale * z, labels


def test_two_classes_have_a_formula():
    # k of n right with output a against 0: e^(a/T) = k / (n - k) is the best.
    for right, n, a in ((3, 4, 4.0), (9, 10, 0.5), (51, 100, 30.0)):
        found = best_temperature([[a, 0.0]] * n, [0] * right + [1] * (n - right))
        assert found.value == pytest.approx(a / math.log(right / (n - right)), rel=1e-12)
        entropy = -sum(q * math.log(q) for q in (right / n, 1 - right / n))
        assert found.loss == pytest.approx(entropy, rel=1e-12)


@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1.0, 50.0, 1e6]))
def test_is_the_minimum(seed, scale):
    z, y = instance(seed, scale=scale)
    found = best_temperature(z, y)
    assert found.status == "found"
    # A derivative that is zero to rounding of its two parts.
    assert found.residual < 1e-13
    assert found.loss == pytest.approx(float(cross_entropy(z / found.value, y)), rel=1e-12)
    assert found.loss_at_one == pytest.approx(float(cross_entropy(z, y)), rel=1e-12)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert found.loss < float(cross_entropy(z / (factor * found.value), y))


def test_scaling_outputs_scales_the_temperature_and_leaves_the_loss():
    z, y = instance(1)
    one, many = best_temperature(z, y), best_temperature(1000 * z, y)
    assert many.value == pytest.approx(1000 * one.value, rel=1e-12)
    assert many.loss == pytest.approx(one.loss, rel=1e-12)
    assert many.loss_at_one > 100 * one.loss_at_one
    # ... and so does adding a number to all the outputs of an example
    moved = best_temperature(z + torch.arange(len(z))[:, None], y)
    assert moved.value == pytest.approx(one.value, rel=1e-10)


def test_all_right_is_cold():
    found = best_temperature([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]], [0, 1])
    assert (found.status, found.value, found.loss) == ("cold", 0.0, 0.0)
    assert 0 < found.loss_at_one < 1
    # a tie with the right class keeps log 2 for its example
    tie = best_temperature([[2.0, 2.0, -1.0], [0.0, 3.0, 0.0]], [0, 1])
    assert tie.status == "cold"
    assert tie.loss == pytest.approx(math.log(2) / 2, rel=1e-14)


def test_outputs_without_information_are_hot():
    z, y = instance(3)
    found = best_temperature(-z, y)
    assert (found.status, found.value) == ("hot", math.inf)
    assert found.loss == pytest.approx(math.log(5), rel=1e-15)
    assert found.loss < found.loss_at_one


def test_equal_outputs_are_as_good_at_every_temperature():
    found = best_temperature([[3.0, 3.0]] * 2, [0, 1])
    assert found.value == 1.0
    assert found.loss == pytest.approx(math.log(2), rel=1e-15)


def test_single_precision_and_gradients_are_read():
    z, y = instance(5)
    single = best_temperature(z.float().requires_grad_(), y.to(torch.int32))
    assert single.value == pytest.approx(best_temperature(z, y).value, rel=1e-5)


@pytest.mark.parametrize(
    ("z", "y", "error", "words"),
    [
        ([1.0, 2.0], [0, 1], ValueError, "a row for each example"),
        ([[1.0], [2.0]], [0, 0], ValueError, "two classes or more"),
        ([[1.0, 0.0]], [2], ValueError, "from 0 to 1"),
        ([[1.0, 0.0]], [-1], ValueError, "from 0 to 1"),
        ([[1.0, 0.0]], [0, 1], ValueError, "one for each row"),
        ([[1.0, 0.0]], torch.zeros(0, dtype=torch.int64), ValueError, "empty"),
        ([[1.0, 0.0]], [0.5], TypeError, "number of a class"),
        ([[1.0, math.nan]], [0], ValueError, "logits"),
    ],
)
def test_errors(z, y, error, words):
    with pytest.raises(error, match=words):
        best_temperature(z, y)
