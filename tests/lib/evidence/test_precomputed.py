"""Stored measurements are read as they were written."""

import importlib.resources

import pytest
from implicit_bias.evidence.precomputed import full_training


def test_reads_what_the_file_says():
    file = importlib.resources.files("implicit_bias.evidence").joinpath("full_training.csv")
    rows = [r for r in file.read_text(encoding="utf-8").splitlines() if not r.startswith("#")]
    names = rows[0].split(",")
    stored = full_training()
    assert len(rows) - 1 == len(stored.starts) * len(stored.widths) * len(stored.seeds)
    for row in rows[1:]:
        cells = dict(zip(names, row.split(","), strict=True))
        at = stored.widths.tolist().index(int(cells["units"])), int(cells["seed"])
        for name in names[3:]:
            assert float(stored.column(name, cells["start"])[at]) == float(cells[name])


def test_says_what_made_it():
    made = full_training().made
    assert "tools/full_training.py" in made
    assert "torch" in made


def test_refuses_what_is_not_there():
    with pytest.raises(KeyError, match=r"no column 'loss'.*'error'"):
        full_training().column("loss", "gaussian")
