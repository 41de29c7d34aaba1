"""Seed one fault of each kind in a copy of the repository, and see that it is caught.

    python tests/gates/run.py            # all gates
    python tests/gates/run.py claim      # those whose name holds a word
    python tests/gates/run.py --keep     # leave the copies for a look

A check that has never been red is a hope. Each gate below damages a copy in one way, runs the
cheapest command that must notice, part of ``make book``, ``make test`` or ``make check``, and asks
that it fails *for that reason*: the text that it prints must name the fault. First the untouched
copy must pass. Then two such copies, on two cores, share the gates.

In the copy every code cell of a chapter is replaced by a stand-in that takes no time: text,
labels, figures and claims stay, so that pages and links are those of the book.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "notebooks/01_minimum_norm.ipynb"
PAGE = "book/teaching.md"
EXERCISES = "course/01_minimum_norm.ipynb"

RECORD = """\
from implicit_bias import ledger

for claim in ledger.claims.values():
    if claim.chapter == {chapter} and claim.section:
        ledger.record(claim.id, measured=0.0, bound=1e-9, control=1.0, what="a stand-in")
"""
DRAW = """\
import matplotlib.pyplot as plt
from implicit_bias import plotting

plotting.use()
plt.plot([0, 1]);"""

BUILD = ["make", "book"]
PAGES = [".venv/bin/python", "-m", "pytest", "-q", "tests/site/test_pages.py"]
NOTEBOOKS = [".venv/bin/python", "tools/check_notebooks.py"]
FLOORS = [".venv/bin/lint-imports"]
NBVAL = [".venv/bin/python", "-m", "pytest", "-q", "--nbval-lax", CHAPTER]
COPIES = [".venv/bin/python", "-m", "pytest", "-q", "-k", "copies", "tests/course/test_release.py"]


class Copy:
    """A copy of the working tree, with the same environment, whose files can be damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.saved: dict[Path, bytes | None] = {}

    def fill(self) -> None:
        """Take the files that git knows, and the chapters without their computations."""
        listed = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(
                    ROOT / name, self.root / name
                )  # with its time, or make would reinstall
        (self.root / ".venv").symlink_to(ROOT / ".venv", target_is_directory=True)
        for path in sorted((self.root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
            self.cut_down(path)

    def cut_down(self, path: Path) -> None:
        """Keep the text, the labels and the figures' places of a chapter, not its computations."""
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = []
        for cell in notebook["cells"]:
            if cell["cell_type"] != "code":
                cells.append(cell)
            elif "figure" in cell["metadata"].get("mystnb", {}):
                cells.append(stand_in(cell["id"], DRAW, cell["metadata"]))
        record = stand_in("records", RECORD.format(chapter=int(path.name[:2])), {})
        write_notebook(path, {**notebook, "cells": [cells[0], record, *cells[1:]]})

    def change(self, name: str, edit: Callable[[str], str]) -> None:
        """Replace the text of a file, and remember the old one."""
        path = self.root / name
        old = path.read_bytes() if path.exists() else None
        self.saved.setdefault(path, old)
        text = (old or b"").decode()
        new = edit(text)
        assert new != text, f"the fault changes nothing in {name}"
        path.write_text(new, encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        self.change(name, lambda old: f"{old}\n{text}\n")

    def change_cell(self, cell: str, edit: Callable[[dict], None]) -> None:
        def edited(text: str) -> str:
            notebook = json.loads(text)
            edit(next(c for c in notebook["cells"] if c["id"] == cell))
            return as_text(notebook)

        self.change(CHAPTER, edited)

    def change_code(self, old: str, new: str) -> None:
        """Replace a part of the cell that records the claims."""

        def edit(cell: dict) -> None:
            source = "".join(cell["source"])
            assert old in source
            cell["source"] = source.replace(old, new).splitlines(keepends=True)

        self.change_cell("records", edit)

    def restore(self) -> None:
        for path, old in self.saved.items():
            if old is None:
                path.unlink()
            else:
                path.write_bytes(old)
        self.saved.clear()

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run a command in the copy, with the library of the copy."""
        environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
        environment |= {"PYTHONPATH": str(self.root / "lib"), "NO_COLOR": "1", "COLUMNS": "200"}
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def as_text(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_notebook(path: Path, notebook: dict) -> None:
    path.write_text(as_text(notebook), encoding="utf-8")


def stand_in(name: str, source: str, metadata: dict) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": metadata,
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


@dataclass
class Gate:
    """A fault, the command that must notice it, and what that must say."""

    name: str
    seed: Callable[[Copy], None]
    command: list[str]
    expect: str
    before: list[list[str]] = field(default_factory=list)


def store_picture(cell: dict) -> None:
    pixel = "iVBORw0KGgo="
    cell["outputs"] = [
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": pixel}}
    ]


def store_wrong_text(cell: dict) -> None:
    cell["source"] = ["# NBVAL_CHECK_OUTPUT\n", "print(1 + 1)"]
    cell["execution_count"] = 1
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["3\n"]}]


def add_epigraph(cell: dict) -> None:
    cell["source"] = [*cell["source"], "\n\n:::{epigraph}\nA directive that the book knows.\n:::"]


def empty_book(copy: Copy) -> None:
    pages = "format: jb-book\nroot: book/nothing\nchapters:\n  - file: book/more\n"
    copy.change("_toc.yml", lambda _: pages)
    copy.change("book/nothing.md", lambda _: "# Nothing\n\nThis book is empty.\n")
    copy.change("book/more.md", lambda _: "# Nothing more\n\nSo is this page of it.\n")
    copy.change("tools/site_ext/slides.toml", lambda _: "[controls]\n")


GATES = [
    Gate(
        "a cell that raises",
        lambda copy: copy.change_code("for claim", "raise RuntimeError('seeded')\nfor claim"),
        BUILD,
        r"RuntimeError: seeded",
    ),
    Gate(
        "a claim that misses its bound",
        lambda copy: copy.change_code("measured=0.0", "measured=0.5"),
        BUILD,
        r"ClaimFailed: .*measured 0\.5 misses the bound",
    ),
    Gate(
        "a claim whose control passes",
        lambda copy: copy.change_code("control=1.0", "control=0.0"),
        BUILD,
        r"ControlPassed: .*control 0 meets the bound",
    ),
    Gate(
        "a claim that nobody made",
        lambda copy: copy.change_code("record(claim.id", "record(claim.id + 'x'"),
        BUILD,
        r"KeyError: .*There is no claim",
    ),
    Gate(
        "a claim without a record",
        lambda copy: copy.change_code(
            "and claim.section", "and claim.section and claim.id != 'M24-T1'"
        ),
        BUILD,
        r"WARNING: ledger: claim M24-T1 names the section .* but no notebook recorded it",
    ),
    Gate(
        "a bad reference to a section",
        lambda copy: copy.append(PAGE, "See {ref}`no-such-label`."),
        BUILD,
        r"teaching\.md.*WARNING: undefined label: '?no-such-label",
    ),
    Gate(
        "a bad reference to a theorem",
        lambda copy: copy.append(PAGE, "See {prf:ref}`no-such-theorem`."),
        BUILD,
        r"teaching.*WARNING: .*no-such-theorem",
    ),
    Gate(
        "a link to a page that is not there",
        lambda copy: copy.append(PAGE, "See [the page](no_such_page.md)."),
        BUILD,
        r"teaching\.md.*WARNING: .*no_such_page",
    ),
    Gate(
        "a link to an anchor that is not there",
        lambda copy: copy.append(PAGE, '<a href="ledger.html#no-such-anchor">See there.</a>'),
        PAGES,
        r"teaching\.html: <a> ledger\.html#no-such-anchor \(no such anchor\)",
        before=[BUILD],
    ),
    Gate(
        "a script from elsewhere",
        lambda copy: copy.append(PAGE, '<script src="https://example.org/x.js"></script>'),
        BUILD,
        r"WARNING: the page would fetch https://example\.org/x\.js",
    ),
    Gate(
        "markup that Colab would show as source",
        lambda copy: copy.change_cell("meaning", add_epigraph),
        BUILD,
        r"no reader copy for Colab: .*cell meaning: the directive \{epigraph\} has no plain form",
    ),
    Gate(
        "an import of limits from dynamics",
        lambda copy: copy.append(
            "lib/implicit_bias/dynamics/exact.py",
            "from implicit_bias.limits import interpolation as _",
        ),
        FLOORS,
        r"dynamics is not allowed to import implicit_bias\.limits",
    ),
    Gate(
        "a stored picture in a notebook",
        lambda copy: copy.change_cell("records", store_picture),
        NOTEBOOKS,
        r"01_minimum_norm\.ipynb: cell 1 \(records\) stores an output",
    ),
    Gate(
        "a stored text that is not what a cell prints",
        lambda copy: copy.change_cell("records", store_wrong_text),
        NBVAL,
        r"(?s)01_minimum_norm\.ipynb.*mismatch",
    ),
    Gate(
        "a stale copy of the exercises",
        lambda copy: copy.change(
            EXERCISES, lambda text: text.replace("Exercises of", "Excercises of")
        ),
        COPIES,
        r"01_minimum_norm\.ipynb differs from its master: run `make exercises`",
    ),
    Gate("an empty book", empty_book, BUILD, r"build: the built book lacks notebooks/01_minimum"),
]


def in_targets(copy: Copy) -> None:
    """The commands used here are those that the make targets run, or the gates prove nothing."""
    _, text = copy.run(["make", "-n", "book"])
    if "pip install" in text:  # the environment is shared: a copy must not install into it
        sys.exit("gates: the environment is out of date: run `make setup` first")
    for target, parts in {
        "book": ["tools/build.py"],
        "test": ["--nbval-lax", "notebooks", "tests/course", "tools/build.py", "pytest tests/site"],
        "check": ["lint-imports", "tools/check_notebooks.py"],
    }.items():
        _, text = copy.run(["make", "-n", "-B", target])
        missing = [part for part in parts if part not in text]
        assert not missing, f"`make {target}` does not run {missing}"
    ci = (copy.root / ".ci" / "run").read_text(encoding="utf-8")
    for target in ("book", "test", "check"):
        assert re.search(rf"\bmake\b.*\b{target}\b|\b{target}\b", ci), (
            f".ci/run lacks make {target}"
        )


def show(name: str, command: list[str], seconds: float, verdict: str) -> None:
    words = " ".join(command).replace(".venv/bin/python -m ", "").replace(".venv/bin/", "")
    print(f"{name:46} {words:44} {seconds:6.1f} s  {verdict}", flush=True)


def attempt(copy: Copy, gate: Gate) -> str | None:
    """Seed one fault. None when it is caught for the right reason, else what went wrong."""
    gate.seed(copy)
    try:
        for command in gate.before:
            code, text = copy.run(command)
            if code:
                return f"{' '.join(command)} was to stay green:\n{text[-3000:]}"
        start = time.monotonic()
        code, text = copy.run(gate.command)
        reason = re.search(gate.expect, text)
        verdict = "red" if code and reason else "RED, BUT WHY?" if code else "GREEN: NOT CAUGHT"
        show(gate.name, gate.command, time.monotonic() - start, verdict)
        return None if code and reason else f"looked for {gate.expect!r} in:\n{text[-3000:]}"
    finally:
        copy.restore()


def main() -> int:
    parser = argparse.ArgumentParser(description="Seed faults and see them caught.")
    parser.add_argument("words", nargs="*", help="only gates whose name holds one of these")
    parser.add_argument("--keep", action="store_true", help="leave the copies")
    options = parser.parse_args()
    chosen = [g for g in GATES if not options.words or any(w in g.name for w in options.words)]
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="gates-"))
    try:
        copy = Copy(folder / "one")
        copy.fill()
        in_targets(copy)
        for command in (BUILD, PAGES, NOTEBOOKS, FLOORS, NBVAL, COPIES):
            begun = time.monotonic()
            code, text = copy.run(command)
            show("nothing seeded", command, time.monotonic() - begun, "RED" if code else "green")
            if code:
                print(f"the untouched copy must pass:\n{text[-6000:]}")
                return 1
        other = Copy(shutil.copytree(copy.root, folder / "two", symlinks=True))
        free = queue.SimpleQueue[Copy]()
        for each in (copy, other):
            free.put(each)

        def check(gate: Gate) -> str | None:
            taken = free.get()
            try:
                return attempt(taken, gate)
            finally:
                free.put(taken)

        with ThreadPoolExecutor(max_workers=2) as pool:
            problems = zip(chosen, pool.map(check, chosen), strict=True)
            bad = [f"{gate.name}: {problem}" for gate, problem in problems if problem]
    finally:
        if options.keep:
            print(f"the copies are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(*bad, sep="\n\n")
    caught = len(chosen) - len(bad)
    print(f"{caught} of {len(chosen)} faults caught, {time.monotonic() - start:.0f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
