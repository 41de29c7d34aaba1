"""Who handed in what: the notebooks in a folder, by student.

    folder/alice.ipynb              alice
    folder/bob/anything.ipynb       bob
    folder/carol/one.ipynb, two.ipynb           carol/one and carol/two: which counts is your choice
    folder/dave/                    dave, who handed in no notebook

Links are not followed: one could lead to somebody else's work. What is hidden is left out.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HandIn:
    """A student's name, as a table can show it, and the notebook, if there is one."""

    student: str
    path: Path | None


def printable(text: str) -> str:
    """The text with every character that cannot be printed replaced."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _is_notebook(name: str) -> bool:
    return name.lower().endswith(".ipynb") and not name.startswith(".")


def _notebooks(folder: Path) -> list[Path]:
    """Notebooks anywhere in a folder, links to folders and hidden ones left out."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [Path(place, name) for name in names if _is_notebook(name)]
    return sorted(found)


def hand_ins(folder: Path) -> tuple[list[HandIn], list[str]]:
    """Returns what is to be graded, and the names of files that are not.

    Raises
    ------
    FileNotFoundError
        If the folder is not there, or holds nothing to grade.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder. Name the one that holds the submissions.")
    found: list[tuple[str, Path | None]] = []
    others = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir() and not entry.is_symlink() and not _is_notebook(entry.name):
            own = _notebooks(entry)
            if len(own) < 2:
                found.append((entry.name, own[0] if own else None))
            else:
                found += [(str(path.relative_to(folder))[: -len(".ipynb")], path) for path in own]
        elif _is_notebook(entry.name):
            found.append((entry.name[: -len(".ipynb")], entry))
        else:
            others.append(printable(entry.name))
    if all(path is None for _, path in found):
        raise FileNotFoundError(
            f"{folder} holds no .ipynb file, so there is nothing to grade. Put the submissions "
            "there, as STUDENT.ipynb or STUDENT/anything.ipynb."
        )
    return _named(found, folder), others


def _named(found: list[tuple[str, Path | None]], folder: Path) -> list[HandIn]:
    """Names as they can be shown. Where two are the same, the file's name is added."""
    shown = [printable(name) for name, _ in found]
    count = Counter(shown)
    taken: Counter[str] = Counter()
    result = []
    for name, (_, path) in zip(shown, found, strict=True):
        full = name
        if count[name] > 1:
            where = path.relative_to(folder) if path else "no notebook"
            full = f"{name} ({printable(str(where))})"
        taken[full] += 1
        if taken[full] > 1:
            full = f"{full} ({taken[full]})"
        result.append(HandIn(full, path))
    return result
