"""The stored measurements of polynomial networks are what the script makes."""

import math

import polynomial_networks as script
import pytest
import torch
from implicit_bias.evidence.stored import polynomial_series


@pytest.fixture(scope="module")
def stored():
    return polynomial_series()


@pytest.mark.parametrize(
    ("case", "kept"),
    [
        (("digits", True, 1.0, 4, 10.0, 1), ("start_reach", "train_loss", "test_loss")),
        (("digits", True, 1.0, 10, 1.0, 0), ("start_reach", "start_beyond")),  # diverges at once
    ],
)
def test_rows_again(stored, case, kept):
    data, norm, clip, degree, radius, seed = case
    again = script.row(*case)

    def there(name):
        return float(stored.column(name, degree, radius, data, norm, bool(clip))[seed])

    assert float(again["stopped"] == "diverged") == there("diverged")
    assert again["steps"] == there("steps")
    for name in kept:
        # Float32, 200 steps: sums in another order move losses by about 1e-3 of themselves.
        assert again[name] == pytest.approx(there(name), rel=0.05)
    # a few images of a hundred may change sides
    assert again["test_error"] == pytest.approx(there("test_error"), abs=0.01)


def test_the_file_has_the_settings_of_the_script(stored):
    assert stored.seeds.tolist() == list(range(script.SEEDS))
    cases = dict.fromkeys(case[:-1] for case in script.settings())
    assert stored.cases == tuple(cases)
    for line in script.header():
        assert line.startswith("versions: ") or line in stored.made


def test_every_measurement_is_there(stored):
    for data, norm, clip, degree, radius in stored.cases:
        for name in (*script.MEASURED, *script.REACHED, "steps", "seconds", "diverged"):
            values = stored.column(name, degree, radius, data, norm, bool(clip))
            assert values.shape == (script.SEEDS,)
            assert not bool(torch.isnan(values).any())


def test_batch_norm_and_a_wide_interval(stored):
    # Figure 9, on the digits: every degree, even the ReLU's worst approximations, fits ...
    for degree in (0, 2, 4, 10):
        assert stored.column("train_error", degree).tolist() == [0.0] * script.SEEDS
        # ... while nothing leaves the interval of the fit
        assert float(stored.column("reach", degree).max()) < 1
    errors = [float(stored.column("test_error", degree).mean()) for degree in (0, 2, 4, 10)]
    assert max(errors) - min(errors) < 0.015
    # and on the glyphs, where the control, degree 1, cannot: degree 2 is slower, no more
    for degree in (0, 4, 10):
        assert stored.column("train_error", degree, data="glyphs").tolist() == [0.0] * script.SEEDS
    assert float(stored.column("train_error", 2, data="glyphs").max()) < 0.2
    assert float(stored.column("train_error", 1, data="glyphs").min()) > 0.5


def test_without_batch_norm(stored):
    # clipping saves the training error of degree 10, not its loss on images seen for the first time
    kept = {"batch_norm": False, "clip": True}
    assert float(stored.column("train_error", 10, **kept).max()) < 0.01
    assert float(stored.column("test_loss", 10, **kept).min()) > 100
    assert float(stored.column("test_loss", 4, **kept).max()) < 1
    # without clipping it diverges, and so do degree 1 and most of degree 2
    free = {"batch_norm": False, "clip": False}
    assert stored.column("diverged", 0, **free).tolist() == [0.0] * script.SEEDS
    for degree in (1, 10):
        assert stored.column("diverged", degree, **free).tolist() == [1.0] * script.SEEDS


def test_outside_the_interval_degree_ten_explodes(stored):
    assert stored.column("diverged", 10, 1.0).tolist() == [1.0] * script.SEEDS
    assert stored.column("diverged", 10, 1.0, batch_norm=False).tolist() == [1.0] * script.SEEDS
    assert float(stored.column("start_reach", 10, 1.0).min()) > 2


def test_errors(stored):
    with pytest.raises(KeyError, match="no case"):
        stored.column("steps", 3)
    with pytest.raises(KeyError, match="no column 'speed'"):
        stored.column("speed", 4)
    with pytest.raises(KeyError, match="no column 'stopped'"):
        stored.column("stopped", 4)


def test_reach_counts_overflow_as_beyond():
    network = script.ConvNetwork((1, 8, 8), 10, (4, 4), activation=script.fit_polynomial(10, 1e-6))
    largest, beyond = script.reach(network, torch.ones(3, 1, 8, 8))
    assert math.isinf(largest)
    assert 0.9 < beyond <= 1
