"""What the scripts share that make stored series: their data, their files, their options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from implicit_bias.data import load_cifar10, load_digits, make_glyphs
from implicit_bias.evidence.stamp import versions
from implicit_bias.images import ImageData
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "lib/implicit_bias/evidence"
STORE = Path(__file__).resolve().parent.parent / "build/series"

DATA = ("digits", "glyphs", "small-glyphs", "colour-glyphs", "cifar10")


def image_data(name: str, n: int, m: int, draw: int = 0) -> tuple[ImageData, ImageData]:
    """n images to train and m to test. With the same draw, sets of growing n are nested."""
    if name == "digits":
        test, train = load_digits().split((m, n), seed=draw)
    elif name == "cifar10":
        train, test = load_cifar10("train"), load_cifar10("test")
        (train,), (test,) = train.split((n,), seed=draw), test.split((m,), seed=draw)
    else:
        size, colour = (28 if name == "glyphs" else 16), name == "colour-glyphs"
        train = make_glyphs(n, 2 * draw, size, colour)
        test = make_glyphs(m, 2 * draw + 1, size, colour)
    return train, test


def made_with(seconds: float) -> str:
    """The line of the file that says what made it."""
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"versions: {found}, CPU, one thread, {seconds:.0f} s"


def _cell(value: Any) -> str:
    if isinstance(value, (Tensor, tuple, list)):
        return " ".join(map(_cell, value.tolist() if isinstance(value, Tensor) else value))
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def write(file: Path, header: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Comments, the names of the columns, and the rows; vectors in one cell."""
    lines = [f"# {line}" for line in header] + [",".join(rows[0])]
    lines += [",".join(_cell(value) for value in row.values()) for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def options(description: str, cases: Sequence[str]) -> argparse.Namespace:
    """The command line: which cases, where to, and whether a quick version."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", nargs="+", choices=cases, help="all but cifar10 if not given")
    parser.add_argument("--quick", action="store_true", help="small, into build/series")
    parser.add_argument("--store", type=Path, default=STORE, help="where to go on from if killed")
    parser.add_argument("--out", type=Path, help="folder of the files")
    given = parser.parse_args()
    given.data = given.data or [case for case in cases if case != "cifar10"]
    given.out = given.out or (STORE if given.quick else FOLDER)
    torch.set_num_threads(1)
    return given
