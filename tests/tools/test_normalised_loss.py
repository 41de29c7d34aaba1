"""The stored networks and their normalised losses are what the script makes."""

import dataclasses
import math
import sys

import normalised_loss as script
import pytest
import torch
from implicit_bias.evidence.relation import linear_relation
from implicit_bias.evidence.series import normalised_series

CASES = [case for case in script.CASES if case != "cifar10"]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def stored(case):
    return normalised_series(case)


# Float32, some 300 steps, alone instead of in an ensemble: the seven digits of the file come again,
# in float64 too (5e-7 apart). What is allowed is for other versions and processors.
LOOSE = {"train_loss": 1e-3, "test_loss": 1e-3, "train_score": 1e-3, "test_score": 1e-3}
LOOSE |= {"rho_fro": 1e-4, "rho_l1": 1e-4, "path_norm": 1e-4, "rms": 1e-3}
LOOSE |= {"train_deficit_fro": 1e-3, "test_deficit_fro": 1e-3, "train_deficit_rms": 1e-3}


@pytest.mark.parametrize(("kind", "place"), [("start", 9), ("pretrained", 3)])
def test_rows_again(kind, place):
    found = script.train_nets("digits", kind, quick=False, seed=0, only=place)
    row, _, _ = next(script.measured("digits", kind, False, found, only=place))
    stored = normalised_series("digits").where(stop=row["stop"], kind=kind, seed=row["seed"])
    assert len(stored) == 1
    assert stored.column("scale").item() == row["scale"]
    assert stored.column("epochs").item() == row["epochs"]
    for name, tolerance in LOOSE.items():
        assert row[name] == pytest.approx(stored.column(name).item(), rel=tolerance), name
    for name in ("fro", "l1", "spectral"):
        torch.testing.assert_close(row[name], stored.column(name)[0], rtol=LOOSE["rho_fro"], atol=0)
    assert row["test_error"] == pytest.approx(stored.column("test_error").item(), abs=0.005)


def test_the_file_has_the_settings_of_the_script(case, stored):
    for line in script.header(case, quick=False):
        assert line in stored.made
    assert "CPU" in stored.settings["versions"]
    kinds = script.CASES[case].kinds
    expected = [net for kind in kinds for net in script.design(case, kind, quick=False)]
    for stop in script.STOPS:
        here = stored.where(stop=stop)
        found = zip(
            here.words("kind"),
            *(here.column(name).tolist() for name in ("dose", "scale", "seed")),
            strict=True,
        )
        assert list(found) == expected
    assert len(stored.where(kind=["start", "pretrained"], stop="later")) >= 30


def test_columns_agree_with_each_other(stored):
    numbers = [n for n in stored.names if n not in ("kind", "stop", "stopped")]
    silent = stored.column("image_norms") == 0  # such an image divides nothing
    for name in numbers:
        finite = torch.isfinite(stored.column(name))
        assert torch.equal(
            ~finite, silent if "deficit_images" in name else torch.zeros_like(finite)
        ), name
    reached = stored.where(stopped="reached")
    assert bool((reached.column("train_loss") <= 0.05 + 1e-9).all())
    for order in ("fro", "l1", "spectral"):
        rho, norms = stored.column(f"rho_{order}"), stored.column(order)
        if "residual" not in stored.settings["network"]:  # where norms multiply
            torch.testing.assert_close(norms.prod(1), rho, rtol=1e-5, atol=0)
        for part in ("train", "test"):
            # Of second order in the outputs over rho, which are a few rms / rho.
            first = stored.column(f"{part}_score") / rho
            rest = (stored.column(f"{part}_deficit_{order}") - first).abs()
            size = stored.column("rms") / rho
            assert bool((rest <= 0.5 * size**2 + 1e-6 * size).all())
        assert bool((stored.column(f"train_loss_{order}") < math.log(stored.classes)).all())


def test_controls_draw_the_line_too(stored):
    natural = stored.where(
        kind=["start", "pretrained"] if "pretrained" in stored.words("kind") else ["start"],
        stop="0.005",
    )
    for name, least in (("permuted", 0.9), ("one", 0.999), ("rescaled", 0.999999)):
        line = linear_relation(
            natural.column(f"train_loss_{name}"), natural.column(f"test_loss_{name}")
        )
        assert line.r2 > least, name


def test_random_labels_are_not_learned(case, stored):
    if "noisy" not in script.CASES[case].kinds:
        pytest.skip("these networks differ in their start only")
    ratio = stored.where(kind="random").column("ratio")
    assert float(ratio.abs().max()) < 0.1
    assert float(stored.where(kind="start", stop="later").column("ratio").min()) > 0.4


def test_the_script_writes_what_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(script, "EPOCHS", dict.fromkeys(script.EPOCHS, (2, 1, 1)))
    monkeypatch.setattr(script, "LATER", 1)
    short = dataclasses.replace(script.CASES["digits"], pretraining=1)
    monkeypatch.setitem(script.CASES, "digits", short)
    arguments = ["--data", "digits", "--quick", "--out", tmp_path, "--store", tmp_path / "store"]
    monkeypatch.setattr(sys, "argv", ["normalised_loss", *map(str, arguments)])
    script.main()
    lines = (tmp_path / "normalised_digits.csv").read_text().splitlines()
    table = [line for line in lines if not line.startswith("#")]
    assert tuple(table[0].split(",")) == normalised_series("digits").names
    assert {line.count(",") for line in table} == {table[0].count(",")}
    assert len(table) == 1 + 4 * (3 + 3)
