"""Make the students' copies: ``notebooks/exercises/NN_name.ipynb`` from ``course/NN_name.ipynb``.

A copy has the texts, the setup, an empty answer cell for each question with a marker line, and the
visible checks. It has no solution, no hidden test and no wrong answer. Ids of cells are fixed:
answers are found by them, or by the marker line, when the copy comes back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from check_notebooks import canonical, clean

from course.master import Cell, Master, Question, read_master

ROOT = Path(__file__).resolve().parents[2]
MASTERS = ROOT / "course"
COPIES = ROOT / "notebooks" / "exercises"
CHECKS = MASTERS / "checks.py"


def marker(question: Question) -> str:
    """The first line of an answer cell, by which it is found wherever it is moved."""
    return f"# Answer: {question.name} (keep this line)"


def answer_id(question: Question) -> str:
    return f"answer-{question.name}".replace("_", "-")


def check_id(question: Question) -> str:
    return f"check-{question.name}".replace("_", "-")


def answer_source(question: Question, body: str) -> str:
    return f"{marker(question)}\n{body}"


def check_source(question: Question) -> str:
    call = f"check({question.name}, judge_{question.name}, cases_{question.name}())"
    return "\n\n\n".join([*(part.strip() for part in question.visible), call])


def checks_source(path: Path = CHECKS) -> str:
    """The module `checks` without its docstring, as a cell."""
    return path.read_text(encoding="utf-8").split('"""', 2)[2].strip()


def _cell(kind: str, name: str, source: str, *tags: str) -> Cell:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": name,
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source.strip("\n"),
    }
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def student_copy(master: Master, solved: bool = False) -> dict[str, Any]:
    """The notebook for students; with ``solved`` the reference solution stands in the answers."""
    cells: list[Cell] = []
    setups = texts = 0
    for kind, item in master.plan:
        if kind == "question":
            cells += [
                _cell("markdown", f"text-{answer_id(item)[7:]}-{k}", text)
                for k, text in enumerate(item.text)
            ]
            body = item.solution if solved else item.stub
            cells.append(_cell("code", answer_id(item), answer_source(item, body)))
            cells.append(_cell("code", check_id(item), check_source(item), "hide-input"))
        elif kind == "setup":
            cells.append(_cell("code", f"setup-{setups}", item))
            setups += 1
            if setups == len(master.setup):
                cells.append(_cell("code", "checks", checks_source(), "hide-input"))
        else:
            cells.append(_cell("markdown", f"text-{texts}", item))
            texts += 1
    notebook: dict[str, Any] = clean(
        {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    )
    return notebook


def masters(folder: Path = MASTERS) -> list[Path]:
    """The masters of all chapters that have one, in order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def stale(folder: Path = MASTERS, copies: Path = COPIES) -> list[str]:
    """What is wrong with the copies: missing, different from their master, or without one."""
    expected = {path.name: canonical(student_copy(read_master(path))) for path in masters(folder)}
    found = {p.name: p.read_text(encoding="utf-8") for p in copies.glob("*.ipynb")}
    problems = [f"{name} has no master in course/" for name in sorted(found.keys() - expected)]
    for name, text in sorted(expected.items()):
        if name not in found:
            problems.append(f"{name} is missing: run `make exercises`")
        elif found[name] != text:
            problems.append(f"{name} differs from its master: run `make exercises`")
    return problems


def write_copies(folder: Path = MASTERS, copies: Path = COPIES) -> list[Path]:
    """Write the copy of every master; returns the paths."""
    copies.mkdir(parents=True, exist_ok=True)
    written = []
    for path in masters(folder):
        target = copies / path.name
        target.write_text(canonical(student_copy(read_master(path))), encoding="utf-8")
        written.append(target)
    return written
