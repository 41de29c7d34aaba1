"""The stored sweeps over images and parameters, and the curves, are what the scripts make."""

import sys

import normalised_loss
import pytest
import sample_sweep
import series as shared
import torch
import training_curves
import width_sweep
from implicit_bias.evidence.series import (
    normalised_series,
    sample_sweep_series,
    training_curve_series,
    width_sweep_series,
)
from implicit_bias.images import ImageData

DATA = ("digits", "small-glyphs")
# As for the rows of normalised_loss: float32, steps by the thousand, other processors.
LOOSE = {"rho_fro": 0.01, "train_loss": 0.05, "test_loss": 0.05, "train_score": 0.02, "rms": 0.02}


def compare(rows, stored, keys):
    for row in rows:
        there = stored.where(**{key: row[key] for key in keys})
        assert len(there) == 1
        for name, tolerance in LOOSE.items():
            if name in row:
                assert row[name] == pytest.approx(there.column(name).item(), rel=tolerance), name
        assert row["test_error"] == pytest.approx(there.column("test_error").item(), abs=0.02)


def test_rows_of_the_sample_sweep_again():
    result = sample_sweep.train_nets("digits", 100, 1, seed=0)
    rows = [row | {"n": 100} for row in listed(result) if row["labels"] == "natural"]
    compare(rows, sample_sweep_series("digits"), ("labels", "n", "draw", "seed"))


def listed(result):
    """As a store would give it back."""
    columns = [v.split() if isinstance(v, str) else v for v in result.values()]
    return [dict(zip(result, values, strict=True)) for values in zip(*columns, strict=True)]


def test_rows_of_the_curves_again():
    result = training_curves.train_nets("digits", "square", False, seed=0, last=4)
    rows = [row | {"loss": "square", "full": False} for row in listed(result)]
    compare(rows, training_curve_series("digits"), ("loss", "full", "seed", "epoch"))
    again = training_curves.train_nets("digits", "cross-entropy", False, seed=0, last=2)
    rows = [row | {"loss": "cross-entropy", "full": False} for row in listed(again)]
    compare(rows, training_curve_series("digits"), ("loss", "full", "seed", "epoch"))


@pytest.mark.parametrize("data", DATA)
def test_files_have_the_settings_of_the_scripts(data):
    for script, read in (
        (sample_sweep, sample_sweep_series),
        (width_sweep, width_sweep_series),
        (training_curves, training_curve_series),
    ):
        stored = read(data)
        for line in script.header(data):
            assert line in stored.made
    sweep = sample_sweep_series(data)
    assert sorted(set(sweep.column("n").tolist())) == list(sample_sweep.SIZES[data])
    assert len(sweep) == len(sample_sweep.SIZES[data]) * 2 * sample_sweep.DRAWS * sample_sweep.SEEDS
    widths = width_sweep_series(data)
    assert tuple(dict.fromkeys(widths.column("width").tolist())) == width_sweep.WIDTHS[data]
    assert len(widths) == len(width_sweep.WIDTHS[data]) * 2 * width_sweep.SEEDS
    parameters = widths.column("parameters") / float(widths.settings["images"])
    assert float(parameters.min()) < 0.2
    assert float(parameters.max()) > 99
    curves = training_curve_series(data).where(loss="square", full=False, seed=0)
    assert tuple(curves.column("epoch").tolist()) == training_curves.EPOCHS


@pytest.mark.parametrize("data", DATA)
def test_random_labels_teach_nothing(data):
    for stored in (sample_sweep_series(data), width_sweep_series(data)):
        error = stored.where(labels="random").column("test_error")
        assert abs(float(error.mean()) - 0.9) < 0.02
        assert float(error.min()) > 0.8


@pytest.mark.parametrize("data", DATA)
def test_norms_at_the_start_are_those_of_the_draw(data):
    curves = training_curve_series(data).where(epoch=0, full=False)
    assert torch.equal(
        curves.where(loss="square").column("fro"), curves.where(loss="cross-entropy").column("fro")
    )


def test_one_half_of_the_squared_distance():
    outputs = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    assert float(training_curves.square(outputs, torch.tensor([0, 1]))) == (4 / 2 + 1 / 2) / 2


@pytest.mark.parametrize("name", ["digits", "small-glyphs", "colour-glyphs"])
def test_training_sets_are_nested_and_test_sets_are_not_in_them(name):
    (small, test), (large, same) = (shared.image_data(name, n, 60, draw=1) for n in (50, 90))
    assert torch.equal(small.images, large.images[:50])
    assert torch.equal(test.images, same.images)
    both = torch.cat([large.images, test.images]).flatten(1)
    if name != "digits":  # of which some come twice
        assert len(both.unique(dim=0)) == 150
    other, _ = shared.image_data(name, 50, 60, draw=0)
    assert not torch.equal(other.images, small.images)


def test_scripts_write_what_is_read(monkeypatch, tmp_path):
    small = {"SIZES": {"digits": (40, 60, 80)}, "SEEN": 100, "LEAST": 2}
    small |= {"WIDTHS": {"digits": (1, 2, 3)}, "EPOCHS": 2}
    for script, kind, read in (
        (sample_sweep, "sample_sweep", sample_sweep_series),
        (width_sweep, "width_sweep", width_sweep_series),
        (training_curves, "training_curves", training_curve_series),
    ):
        for name, value in small.items():
            if hasattr(script, name):
                known = script is training_curves
                monkeypatch.setattr(script, name, (0, 1, 2) if known else value)
        arguments = ["--data", "digits", "--quick", "--out", tmp_path, "--store", tmp_path / kind]
        monkeypatch.setattr(sys, "argv", [kind, *map(str, arguments)])
        script.main()
        lines = (tmp_path / f"{kind}_digits.csv").read_text().splitlines()
        table = [line for line in lines if not line.startswith("#")]
        assert tuple(table[0].split(",")) == read("digits").names
        assert len({line.count(",") for line in table}) == 1
        assert len(table) > 10


def test_photographs_go_the_same_way(monkeypatch):
    def photographs(part):
        n = {"train": 60, "test": 30}[part]
        images = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(n))
        return ImageData(images, torch.arange(n) % 10, [str(c) for c in range(10)])

    monkeypatch.setattr(shared, "load_cifar10", photographs)
    train, test = shared.image_data("cifar10", 40, 20)
    assert (train.n, test.n) == (40, 20)
    for network in (
        normalised_loss.network("cifar10", train, 1.0, 0),
        sample_sweep.NETWORKS["cifar10"](train.images.shape[1:], 10, seed=0),
        width_sweep.network("cifar10", train, 4, 0),
        training_curves.NETWORKS["cifar10"](train.images.shape[1:], 10, seed=0),
    ):
        assert network(train.images).shape == (40, 10)


def test_errors():
    stored = normalised_series("digits")
    with pytest.raises(KeyError, match="no column 'speed'"):
        stored.column("speed")
    with pytest.raises(KeyError, match="no column 'speed'"):
        stored.where(speed=3)
    with pytest.raises(ValueError, match="No row has stop = 'never'"):
        stored.where(stop="never")
    with pytest.raises(ValueError, match="what else was asked for"):
        stored.where(kind="random", dose=0.5)
    with pytest.raises(TypeError, match="not a column of numbers"):
        stored.column("kind")
    with pytest.raises(ValueError, match="no stored series of 'cifar10'; there are"):
        normalised_series("cifar10")
    assert set(stored.words("stopped")) <= {"reached", "budget"}
