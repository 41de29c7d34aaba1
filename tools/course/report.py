"""What grading writes: a table for the lecturer, and a page for each student."""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from course.sandbox import STRONG, WEAK
from course.scoring import Key, Mark


@dataclass
class Graded:
    """One row: who, the marks, and whether a person should look at it."""

    student: str
    marks: list[Mark] = field(default_factory=list)
    status: str = "ok"
    note: str = ""

    @property
    def total(self) -> float:
        return round(sum(mark.got for mark in self.marks), 2)


def write_table(path: Path, rows: list[Graded], key: Key) -> None:
    """The marks as CSV, by student, written aside and moved into place."""
    draft = path.with_suffix(".part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = [question.name for question in key.master.questions]
        table.writerow(["student", *names, "total", "out of", "status", "note"])
        most = sum(question.points for question in key.master.questions)
        for row in sorted(rows, key=lambda row: row.student):
            by_name = {mark.question: mark.got for mark in row.marks}
            marks = [by_name.get(name, "") for name in names]
            total = row.total if row.marks else ""
            note = harmless(quiet(row.note))
            table.writerow([harmless(row.student), *marks, total, most, row.status, note])
    draft.replace(path)


def report(graded: Graded, key: Key, walls: str) -> str:
    """What a student gets to read, in Markdown. What they wrote comes as code, never as markup."""
    most = sum(question.points for question in key.master.questions)
    lines = [f"# {key.master.title}", "", f"Student: `{quiet(graded.student)}`", ""]
    if graded.status == "look":
        lines += ["This submission was not graded; your teacher will look at it.", ""]
    if graded.marks:
        lines += [f"**{graded.total:g} of {most:g} points**", ""]
    if graded.note and graded.status != "look":
        lines += [f"`{quiet(graded.note)}`", ""]
    for mark in graded.marks:
        lines += [
            f"## {mark.question}: {mark.got:g} of {mark.points:g}",
            "",
            f"`{quiet(mark.message)}`",
            "",
        ]
    if graded.marks and graded.status == "ok":
        lines += [
            "A quarter of the points is for the inputs in your notebook, the rest for others of "
            "the same kind.",
            "",
        ]
    lines += [f"Graded with {STRONG if walls == 'namespaces' else WEAK}."]
    return "\n".join(lines) + "\n"


def quiet(text: str) -> str:
    """One line of printable characters without a backtick: it stays inside `...` in Markdown."""
    return "".join(c if c.isprintable() else " " for c in text).replace("`", "'")


def file_name(student: str) -> str:
    """A file name for a student, the same in every run, and no two for one name."""
    plain = re.sub(r"[^\w.-]+", "_", student)[:60].strip("._-")
    if plain == student:
        return f"{plain}.md"
    return f"{plain or 'nameless'}-{hashlib.sha256(student.encode()).hexdigest()[:8]}.md"


def harmless(text: str) -> str:
    """A spreadsheet takes =, +, - and @ at the start of a cell for a formula."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
