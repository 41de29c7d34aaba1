"""Find a submission's answers, whatever has happened to its cells.

The submission is data here: it is parsed, never run. A question's answer is the last cell that
carries its id or its marker line, or that defines the function asked for, and that is not the empty
cell as it was handed out. So a cell may be moved, copied, retyped from scratch, or turned into
text; a deleted one costs its own question only. Everything else the grader takes from its own copy.

With an answer go the student's own cells that define a name which it uses, and those that they use.
Other cells are not run: an endless loop in one exercise does not cost the next.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course.master import Master, Question, bound, source_of
from course.release import answer_id, marker, student_copy

LARGEST = 5 * 2**20
_MAGIC = re.compile(r"^([ \t]*)[%!?].*$", re.MULTILINE)
_ID = re.compile(r"[\w-]{1,64}")


class Unreadable(ValueError):
    """A submission that is no notebook, with the reason for the report."""


@dataclass(frozen=True)
class Part:
    """A cell of a submission: its place, id, whether it is code, and its source."""

    place: int
    name: str
    code: bool
    source: str


@dataclass
class Answer:
    """What to run for one question, in order; empty when there is no answer."""

    cells: list[str] = field(default_factory=list)
    note: str = ""


def read_submission(path: Path) -> list[Part]:
    """The cells of a submission. Links, pipes, devices and huge files are refused unread."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"it cannot be opened, or is a link ({error.strerror})") from None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable("it is not a plain file")
        if about.st_size > LARGEST:
            raise Unreadable(f"it has {about.st_size} bytes, more than the {LARGEST} allowed")
        text = file.read(LARGEST + 1)
    try:
        notebook = json.loads(text)
        cells = notebook["cells"]
        if not isinstance(cells, list):
            raise TypeError
        return [part(place, cell) for place, cell in enumerate(cells[:2000])]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unreadable("it is not a notebook: its JSON is damaged, or has no cells") from None


def part(place: int, cell: dict[str, Any]) -> Part:
    """One cell, read with distrust. Colab keeps a cell's id in its metadata."""
    metadata = cell.get("metadata")
    names = [cell.get("id"), metadata.get("id") if isinstance(metadata, dict) else None]
    name = next((n for n in names if isinstance(n, str) and _ID.fullmatch(n)), "")
    return Part(place, name, cell.get("cell_type") == "code", str(source_of(cell)))


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def plain_python(source: str) -> str:
    """The source without IPython's magics and shell lines; nothing of a ``%%`` cell is left."""
    if source.lstrip().startswith("%%"):
        return ""
    # A line may begin with a modulo sign by right: only what is no Python otherwise is touched.
    return source if _tree(source) else _MAGIC.sub(r"\1pass", source)


def _parsed(source: str) -> ast.Module | None:
    return _tree(plain_python(source))


def _binds(tree: ast.Module) -> set[str]:
    try:
        return set().union(*(bound(node) for node in tree.body))
    except RecursionError:
        return set()


def _uses(tree: ast.Module) -> set[str]:
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _names(source: str) -> set[str]:
    """All names and attributes that a source mentions."""
    tree = _tree(source)
    nodes = list(ast.walk(tree)) if tree else []
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def _squeezed(source: str) -> str:
    return "".join(source.split())


class Matcher:
    """Matches the cells of submissions with the questions of one master."""

    def __init__(self, master: Master) -> None:
        self.master = master
        copy = student_copy(master)["cells"]
        self.handed_out = {_squeezed(source_of(cell)) for cell in copy}
        self.checks = {cell["id"] for cell in copy if cell["id"].startswith("check")}

    def answers(self, parts: list[Part]) -> dict[str, Answer]:
        """For each question what to run; no answer for a question has an empty list of cells."""
        own = [part for part in parts if not self._untouched(part)]
        trees = {part.place: _parsed(part.source) for part in own}
        return {q.name: self._answer(q, own, trees) for q in self.master.questions}

    def _untouched(self, part: Part) -> bool:
        """Handed out by us and unchanged; a check cell is ours whatever was done to it."""
        return part.name in self.checks or _squeezed(part.source) in self.handed_out

    def _answer(
        self, question: Question, own: list[Part], trees: dict[int, ast.Module | None]
    ) -> Answer:
        marked, named = [], []
        for part in own:
            tree = trees[part.place]
            is_marked = part.name == answer_id(question) or marker(question) in part.source
            defines = tree is not None and question.name in _binds(tree)
            if is_marked:
                marked.append(part)
            if defines and (part.code or is_marked):
                named.append(part)
        found = (named or marked)[-1:]
        if not found:
            return Answer(note="there is no answer: the cell is empty or has been deleted")
        chosen = found[0]
        notes = []
        if not named:
            notes.append(f"your cell defines no function {question.name}, or is not valid Python")
        if len(named) > 1:
            notes.append(f"{len(named)} cells define {question.name}: the last one counts")
        if not chosen.code:
            notes.append("your answer's cell had become a text cell; it was run as code")
        cells = [*self._needed(chosen, own, trees), plain_python(chosen.source)]
        used = set().union(*(_names(cell) for cell in cells)) & question.without
        if used:
            names = " and ".join(sorted(used))
            return Answer(note=f"your answer uses {names}, which this question asks to do without")
        return Answer(cells, "; ".join(notes))

    def _needed(
        self, chosen: Part, own: list[Part], trees: dict[int, ast.Module | None]
    ) -> list[str]:
        """The student's cells that define what the answer uses, and so on, in their order."""
        needed: dict[int, Part] = {}
        todo = [chosen]
        while todo:
            tree = trees[todo.pop().place]
            for name in sorted(_uses(tree)) if tree else []:
                for part in reversed(own):
                    other = trees[part.place]
                    if part.place == chosen.place or not part.code or other is None:
                        continue
                    if name in _binds(other):
                        if part.place not in needed:
                            needed[part.place] = part
                            todo.append(part)
                        break
        return [plain_python(needed[place].source) for place in sorted(needed)]
