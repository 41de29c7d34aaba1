"""The stored measurements of kicks and retraining are what the script makes."""

import math

import perturbation as script
import pytest
import torch
from implicit_bias.evidence.stored import perturbation_series


@pytest.fixture(scope="module")
def stored():
    return perturbation_series()


def test_first_rows_again(stored):
    noise, seed = "relative", 2
    again = script.rows(noise, seed, times=1)
    for k in (0, 1):
        row = {name: float(stored.column(name, noise)[seed, k]) for name in script.COLUMNS[3:]}
        assert again[k]["train_error"] == row["train_error"] == 0
        # Float32, some two hundred steps: in float64 these norms differ by 2e-5 of themselves,
        # losses and temperatures by 2e-3; another number of threads changes less.
        for name in ("squared_norm", "law", "law_deviation", *(["kicked_norm"] if k else [])):
            assert again[k][name] == pytest.approx(row[name], rel=1e-3)
        for name in ("test_loss", "tempered_loss", "temperature"):
            assert again[k][name] == pytest.approx(row[name], rel=0.03)
        assert again[k]["test_error"] == pytest.approx(row["test_error"], abs=0.01)


def test_the_file_has_the_settings_of_the_script(stored):
    assert stored.noises == script.NOISES
    assert stored.seeds.tolist() == list(range(script.SEEDS))
    assert stored.kicks.tolist() == list(range(script.TIMES + 1))
    assert stored.size == script.SIZE
    for line in script.header():
        # versions differ from machine to machine
        assert line.startswith("versions: ") or line in stored.made


def test_training_always_returns(stored):
    for noise in stored.noises:
        for name in (*script.MEASURED, *script.ADDED):
            values = stored.column(name, noise)
            assert values.shape == (script.SEEDS, script.TIMES + 1)
            kicked = name.startswith("kicked") or name in ("expected_gain", "needed")
            assert bool(torch.isfinite(values[:, int(kicked) :]).all())
            assert all(math.isnan(v) == kicked for v in values[:, 0].tolist())
        assert float(stored.column("train_error", noise).max()) == 0
    assert float(stored.column("kicked_error", "fixed")[:, 1:].mean()) > 0.005
    assert float(stored.column("kicked_error", "none")[:, 1:].max()) == 0


def test_kicks_add_what_they_should(stored):
    for noise in ("fixed", "relative"):
        kicked = stored.column("kicked_norm", noise)[:, 1:]
        before = stored.column("squared_norm", noise)[:, :-1]
        ratio = (kicked - before) / stored.column("expected_gain", noise)[:, 1:]
        # a hundred kicks; the scatter of one is some tenths of the gain
        assert abs(float(ratio.mean()) - 1) < 4.5 * float(ratio.std()) / ratio.numel() ** 0.5


def test_norms_follow_each_the_law_of_its_noise(stored):
    k = stored.kicks.double()
    laws = {"fixed": 1 + k / 16, "relative": (17 / 16) ** k}
    for noise, other in (("fixed", "relative"), ("relative", "fixed")):
        norms = stored.column("squared_norm", noise)
        growth = norms[:, -1] / norms[:, 0]
        # what retraining adds to the norm, without noise a tenth, comes on top
        assert bool((growth / laws[noise][-1] > 1).all())
        assert bool((growth / laws[noise][-1] < 1.2).all())
        # the control: the law of the other noise is off by more than a quarter
        assert bool(((growth / laws[other][-1]).log().abs() > 0.25).all())


def test_the_rise_of_the_test_loss_is_mostly_scale(stored):
    for noise in ("fixed", "relative"):
        rise, tempered = (
            float((v[:, -1] - v[:, 0]).mean())
            for v in (stored.column(name, noise) for name in ("test_loss", "tempered_loss"))
        )
        assert rise > 0.1
        assert tempered < 0.2 * rise


def test_errors(stored):
    with pytest.raises(KeyError, match="no column 'speed'"):
        stored.column("speed", "fixed")
    with pytest.raises(KeyError, match="noises"):
        stored.column("test_loss", "loud")
