"""Read the one master notebook of a chapter's exercises.

The format is that of ``otter assign``: raw cells ``# BEGIN QUESTION``, ``# BEGIN SOLUTION``,
``# BEGIN TESTS`` and their ends, with YAML in the first; in solutions, lines between
``# BEGIN SOLUTION`` and ``# END SOLUTION``, or ending in ``# SOLUTION``, are the answer. A test
cell whose first line is ``# HIDDEN`` is for the grader only. Otter itself is not needed: it brings
ninety packages, and runs tests inside the student's process. What test cells must define is ours:

    cases_NAME()       visible: a list of argument tuples for the student's function NAME
    judge_NAME(value, *arguments)      visible: (share from 0 to 1, message)
    hidden_NAME(seed)  hidden: more argument tuples

and so are two settings of a question, in comments (``# seconds: 20``, ``# without: max_margin``:
functions that are the answer), and cells of wrong answers, which Otter ignores:

    ## Ignore ##
    # WRONG a factor of two; at most 0.25; says "twice too long"
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Cell = dict[str, Any]

_BOUNDARY = re.compile(r"#\s*(BEGIN|END)\s+(QUESTION|SOLUTION|TESTS)\s*$", re.IGNORECASE)
_CONFIG = re.compile(r"#\s*ASSIGNMENT\s+CONFIG\s*$", re.IGNORECASE)
_WRONG = re.compile(
    r'#\s*WRONG\s+(?P<name>[^;]+);\s*at most\s+(?P<most>[\d.]+);\s*says\s+"(?P<says>.+)"'
)
IGNORE = "## Ignore ##"
NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")


class MasterError(ValueError):
    """A master that cannot be read, with the cell, the reason and the remedy."""


@dataclass(frozen=True)
class Wrong:
    """A plausible wrong answer: what it is, the most it may score, and what it must be told."""

    name: str
    most: float
    says: str
    source: str


@dataclass
class Question:
    """One exercise: the function that a student writes, and all that judges it.

    An answer that names one of the functions in `without` is not accepted: they are the answer.
    """

    name: str
    points: float
    seconds: float = 20.0
    without: frozenset[str] = frozenset()
    text: list[str] = field(default_factory=list)
    solution: str = ""
    visible: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def stub(self) -> str:
        """The solution's cell with the answer taken out."""
        return without_solution(self.solution)


@dataclass
class Master:
    """A chapter's exercises in their order; `plan` keeps the order of texts and questions."""

    chapter: int
    title: str
    setup: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    plan: list[tuple[str, Any]] = field(default_factory=list)  # ("markdown" | "setup" | "question")


def source_of(cell: Cell) -> str:
    """The text of a cell, which Jupyter stores as a string or as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def without_solution(source: str) -> str:
    """The source with every answer replaced by ``...``, as Otter does it."""
    kept: list[str] = []
    inside = False
    for line in source.splitlines():
        mark = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if mark == "# BEGIN SOLUTION":
            if inside:
                raise MasterError("# BEGIN SOLUTION inside a solution: close the first one")
            inside = True
            kept.append(f"{indent}...")
        elif mark == "# END SOLUTION":
            if not inside:
                raise MasterError("# END SOLUTION without a beginning")
            inside = False
        elif inside:
            continue
        elif re.search(r"#\s*SOLUTION$", mark):
            head = re.match(r"(\s*[\w.,\s]+?=)(?!=)", line)
            kept.append(f"{head[1]} ..." if head else f"{indent}...")
        else:
            kept.append(line)
    if inside:
        raise MasterError("# BEGIN SOLUTION without an end: students would get an empty cell")
    return "\n".join(kept)


def defined(source: str) -> set[str]:
    """Names that a cell binds at its top level: functions, classes, imports, assignments."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        names |= bound(node)
    return names


def bound(node: ast.stmt) -> set[str]:
    """Names that one statement binds, those inside functions and classes excepted."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            names |= bound(child)  # type: ignore[arg-type]
        else:
            names |= {
                part.id
                for part in ast.walk(child)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    return names


def _ours(config: str, key: str) -> str:
    """A setting of a question that Otter does not know: in a comment, or it would refuse it."""
    found = re.search(rf"^#\s*{key}:(.*)$", config, re.MULTILINE)
    return found[1].strip() if found else ""


class _Reader:
    """Walks through the cells of a master, one method per kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.master: Master | None = None
        self.open: list[str] = []
        self.question: Question | None = None

    def fail(self, index: int, reason: str) -> None:
        raise MasterError(f"{self.name}, cell {index}: {reason}")

    def raw(self, index: int, source: str) -> None:
        first, _, rest = source.strip().partition("\n")
        if _CONFIG.match(first):
            config = yaml.safe_load(rest) or {}
            chapter = re.match(r"\d\d(?=_)", self.name)
            if chapter is None or not config.get("name"):
                self.fail(index, "the file is called NN_name.ipynb, and the config has a `name:`")
                return
            self.master = Master(int(chapter[0]), str(config["name"]))
            return
        boundary = _BOUNDARY.match(first)
        if boundary is None:
            self.fail(index, f"raw cell {first!r} is none of # BEGIN/END QUESTION, SOLUTION, TESTS")
            return
        edge, block = boundary[1].upper(), boundary[2].upper()
        if edge == "END":
            if not self.open or self.open.pop() != block:
                self.fail(index, f"# END {block} closes nothing: is a # BEGIN {block} missing?")
            if block == "QUESTION":
                self.close(index)
            return
        expected = [] if block == "QUESTION" else ["QUESTION"]
        if self.open != expected:
            self.fail(index, f"# BEGIN {block} inside {' and '.join(self.open) or 'no question'}")
        self.open.append(block)
        if block == "QUESTION":
            config = yaml.safe_load(rest) or {}
            if not NAME.fullmatch(str(config.get("name", ""))):
                self.fail(index, "the question's `name:` must be the name of a Python function")
            self.question = Question(
                config["name"],
                float(config.get("points", 1)),
                float(_ours(rest, "seconds") or 20),
                frozenset(re.findall(r"\w+", _ours(rest, "without"))),
            )

    def text(self, index: int, source: str) -> None:
        assert self.master is not None
        if self.question is not None:
            self.question.text.append(source)
        else:
            self.master.plan.append(("markdown", source))

    def code(self, index: int, source: str) -> None:
        assert self.master is not None
        question = self.question
        if question is None:
            self.master.setup.append(source)
            self.master.plan.append(("setup", source))
        elif source.startswith(IGNORE):
            head = source.splitlines()[1] if source.count("\n") else ""
            told = _WRONG.match(head)
            if told is None:
                self.fail(index, f'`{head}` should read: # WRONG name; at most 0.25; says "..."')
                return
            body = "\n".join(source.splitlines()[2:]).strip() + "\n"
            question.wrong.append(Wrong(told["name"], float(told["most"]), told["says"], body))
        elif self.open[-1] == "SOLUTION":
            if question.solution:
                self.fail(index, f"question {question.name} has two solution cells; one is asked")
            question.solution = source
        elif self.open[-1] == "TESTS":
            first, _, rest = source.partition("\n")
            hidden = first.strip().upper() == "# HIDDEN"
            (question.hidden if hidden else question.visible).append(rest if hidden else source)
        else:
            self.fail(index, "a code cell of a question must be in its SOLUTION or TESTS")

    def close(self, index: int) -> None:
        question = self.question
        assert question is not None
        assert self.master is not None
        name = question.name
        if any(name == other.name for other in self.master.questions):
            self.fail(index, f"two questions are named {name}; marks could not be told apart")
        wanted = {
            "solution": ([question.solution], {name}),
            "stub": ([question.stub], {name}),
            "visible tests": (question.visible, {f"cases_{name}", f"judge_{name}"}),
            "hidden tests": (question.hidden, {f"hidden_{name}"}),
        }
        for what, (sources, names) in wanted.items():
            there = set().union(*(defined(source) for source in sources))
            if missing := sorted(names - there):
                self.fail(index, f"the {what} of {name} do not define {', '.join(missing)}")
        self.master.questions.append(question)
        self.master.plan.append(("question", question))
        self.question = None


def read_master(path: Path) -> Master:
    """Returns the master in a notebook file.

    Raises
    ------
    MasterError
        If a block is not closed, a question lacks a part, or two have one name.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    reader = _Reader(path.name)
    for index, cell in enumerate(cells):
        source, kind = source_of(cell), cell["cell_type"]
        if not source.strip():
            continue
        if reader.master is None and kind != "raw":
            reader.fail(index, "the first cell must be a raw one: # ASSIGNMENT CONFIG")
        getattr(reader, {"markdown": "text"}.get(kind, kind))(index, source)
    if reader.master is None or reader.open:
        reader.fail(
            len(cells), f"ends inside {' and '.join(reader.open) or 'nothing: it is empty'}"
        )
    assert reader.master is not None
    return reader.master
