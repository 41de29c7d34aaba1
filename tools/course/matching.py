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

LARGEST = 5 * 2**20  # bytes of a notebook, with its outputs
LONGEST = 200_000  # characters of the student's own cells: syntax trees take a thousand times that
_MAGIC = re.compile(r"^([ \t]*)[%!?].*$", re.MULTILINE)
_ID = re.compile(r"[\w-]{1,64}")


class Unreadable(ValueError):
    """A submission that is no notebook, with the reason for the report."""


class Foreign(ValueError):
    """A notebook that has nothing to do with the assignment."""


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


def read_bytes(path: Path) -> bytes:
    """The bytes of a submission. Links, pipes, devices and huge files are refused unread."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"it cannot be opened, or is a link ({error.strerror})") from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable("it is not a plain file")
        if about.st_nlink > 1:
            raise Unreadable(
                "it is a hard link, so it may be somebody else's file: copy the folder and grade "
                "the copy"
            )
        if about.st_size > LARGEST:
            raise Unreadable(
                f"it has {about.st_size} bytes, more than the {LARGEST} allowed: clear its outputs "
                "and hand it in again"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST + 1)
    finally:
        os.close(descriptor)


def read_submission(path: Path) -> list[Part]:
    """The cells of a submission."""
    return read_cells(read_bytes(path))


def read_cells(text: bytes) -> list[Part]:
    """The cells in the bytes of a notebook."""
    try:
        notebook = json.loads(text)
        if isinstance(notebook, dict) and "worksheets" in notebook:
            raise Unreadable("it has the format of before 2015: open it in JupyterLab and save it")
        cells = notebook["cells"]
        if not isinstance(cells, list):
            raise TypeError
        return [part(place, cell) for place, cell in enumerate(cells[:2000])]
    except Unreadable:
        raise
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


def _binds(tree: ast.Module) -> set[str]:
    try:
        return set().union(*(bound(node) for node in tree.body))
    except RecursionError:
        return set()


@dataclass(frozen=True)
class Parsed:
    """A cell with the names that it binds at its top level, and those that it uses."""

    part: Part
    binds: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()

    @classmethod
    def of(cls, part: Part) -> Parsed:
        tree = _tree(plain_python(part.source))
        if tree is None:
            return cls(part)
        names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
        uses = frozenset(node.id for node in names if isinstance(node.ctx, ast.Load))
        return cls(part, frozenset(_binds(tree)), uses)


def _names(source: str) -> set[str]:
    """All names that a source mentions: variables, attributes, imports, and strings."""
    found: set[str] = set()
    for node in ast.walk(_tree(source) or ast.Module([], [])):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found |= set(node.name.split("."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # getattr(module, "name")
    return found


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
        """For each question what to run; no answer for a question has an empty list of cells.

        Raises
        ------
        Foreign
            If no cell has anything to do with any question.
        Unreadable
            If there is more code than anybody would write.
        """
        if not any(self._ours(part) for part in parts):
            raise Foreign(f"none of its cells belongs to `{self.master.title}`")
        own = [part for part in parts if not self._untouched(part)]
        if sum(len(part.source) for part in own if part.code or self._ours(part)) > LONGEST:
            raise Unreadable(f"its own cells have more than {LONGEST} characters of code")
        cells = [Parsed.of(part) for part in own if part.code or self._ours(part)]
        return {question.name: self._answer(question, cells) for question in self.master.questions}

    def _ours(self, part: Part) -> bool:
        """Whether a cell has the id, the marker line or the function of a question."""
        return part.name in self.checks or any(
            part.name == answer_id(question)
            or marker(question) in part.source
            or f"def {question.name}(" in part.source
            for question in self.master.questions
        )

    def _untouched(self, part: Part) -> bool:
        """Handed out by us and unchanged; a check cell is ours whatever was done to it."""
        return part.name in self.checks or _squeezed(part.source) in self.handed_out

    def _answer(self, question: Question, own: list[Parsed]) -> Answer:
        marked, named = [], []
        for cell in own:
            part = cell.part
            is_marked = part.name == answer_id(question) or marker(question) in part.source
            if is_marked:
                marked.append(cell)
            if question.name in cell.binds and (part.code or is_marked):
                named.append(cell)
        found = (named or marked)[-1:]
        if not found:
            return Answer(note="there is no answer: the cell is empty or has been deleted")
        chosen = found[0]
        notes = []
        if not named:
            notes.append(f"your cell defines no function {question.name}, or is not valid Python")
        if len(named) > 1:
            notes.append(f"{len(named)} cells define {question.name}: the last one counts")
        if not chosen.part.code:
            notes.append("your answer's cell had become a text cell; it was run as code")
        cells = [*self._needed(chosen, own), plain_python(chosen.part.source)]
        used = set().union(*(_names(cell) for cell in cells)) & question.without
        if used:
            names = " and ".join(sorted(used))
            return Answer(note=f"your answer uses {names}, which this question asks to do without")
        return Answer(cells, "; ".join(notes))

    def _needed(self, chosen: Parsed, own: list[Parsed]) -> list[str]:
        """The student's cells that define what the answer uses, and so on, in their order."""
        last = {
            name: cell
            for cell in own
            if cell is not chosen and cell.part.code
            for name in cell.binds
        }
        needed: dict[int, Parsed] = {}
        todo = [chosen]
        while todo:
            for name in todo.pop().uses:
                cell = last.get(name)
                if cell is not None and cell.part.place not in needed:
                    needed[cell.part.place] = cell
                    todo.append(cell)
        return [plain_python(needed[place].part.source) for place in sorted(needed)]
