"""Grade a folder of submissions: a table, and a report for each student.

Every submission gets a row, whatever it is; a row is written as soon as it is known, so that
nothing is lost when the batch is interrupted. What fails on our side (no memory, a broken master)
is told apart from what fails on theirs: such rows have the status "look", and no mark.
"""

from __future__ import annotations

import csv
import re
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from course.matching import Matcher, Unreadable, read_submission
from course.sandbox import STRONG, WEAK, Limits, Misbehaved, NoWalls, Sandbox, isolation, visible
from course.scoring import Key, Mark, mark_all


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


def submissions(folder: Path) -> list[tuple[str, Path]]:
    """Students and their notebooks: ``alice.ipynb`` or ``alice/anything.ipynb``."""
    found = []
    for path in sorted(folder.rglob("*.ipynb")):
        parts = path.relative_to(folder).with_suffix("").parts
        if not any(part.startswith(".") for part in parts):
            found.append(("/".join(parts), path))
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no .ipynb file, so there is nothing to grade. Put the submissions "
            "there, as STUDENT.ipynb or STUDENT/anything.ipynb."
        )
    return found


def choose_walls(asked: str | None) -> str:
    """The isolation to use; without walls only if that was asked for by name."""
    if asked == "process":
        return asked
    there = isolation()
    if there == "process":
        raise NoWalls(
            "This machine lets us build no sandbox (Linux with user namespaces, or root), and a "
            "submission is somebody else's program. Grade on a machine that does, or in a virtual "
            "machine that holds nothing else with ISOLATION=process."
        )
    return there


def keep_out_of_sight(paths: Iterable[Path]) -> None:
    """Refuse to grade when what must stay private lies where the sandbox can read."""
    for path in paths:
        for shown in map(Path, visible()):
            if shown == path.resolve() or shown in path.resolve().parents:
                raise NoWalls(
                    f"{path} lies inside {shown}, which every submission can read. Move it "
                    "somewhere else."
                )


def grade_one(
    student: str, path: Path, key: Key, limits: Limits, walls: str = "namespaces"
) -> Graded:
    """Grade one submission. Never raises for what a submission does."""
    questions = key.master.questions
    try:
        answers = Matcher(key.master).answers(read_submission(path))
        return Graded(student, mark_all(key, answers, limits, walls))
    except Unreadable as error:
        marks = [Mark(q.name, q.points, 0.0, "not graded") for q in questions]
        return Graded(student, marks, "unreadable", f"The file could not be read: {error}.")
    except Exception:  # ours to mend, not the student's fault
        return Graded(student, [], "look", traceback.format_exc(limit=3)[-600:])


def grade_folder(
    folder: Path,
    key: Key,
    out: Path,
    limits: Limits = Limits(),  # noqa: B008
    walls: str = "namespaces",
    jobs: int = 1,
) -> list[Graded]:
    """Grade all submissions in a folder; write ``grades.csv`` and ``reports/`` into `out`.

    Raises
    ------
    FileNotFoundError
        If there is no submission.
    NoWalls
        If the folder, or the output, could be read by a submission.
    """
    todo = submissions(folder)
    if walls != "process":
        keep_out_of_sight([folder, out])
        with Sandbox(limits, walls) as box:  # a setup that fails is our fault: say so at once
            try:
                box.start(key.setup)
            except Misbehaved as error:
                raise NoWalls(f"The setup of the exercises does not run inside: {error}") from None
    reports = out / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    done: dict[str, Graded] = {}
    with ThreadPoolExecutor(jobs) as pool:
        work = [pool.submit(grade_one, who, path, key, limits, walls) for who, path in todo]
        for number, future in enumerate(work):
            graded = future.result()
            done[graded.student] = graded
            name = f"{number + 1:03d}-{_file_name(graded.student)}.md"
            (reports / name).write_text(report(graded, key, walls), encoding="utf-8")
            write_table(out / "grades.csv", list(done.values()), key)
    return list(done.values())


def write_table(path: Path, rows: list[Graded], key: Key) -> None:
    """The marks as CSV, written aside and moved into place."""
    draft = path.with_suffix(".part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = [question.name for question in key.master.questions]
        table.writerow(["student", *names, "total", "out of", "status"])
        most = sum(question.points for question in key.master.questions)
        for row in rows:
            by_name = {mark.question: mark.got for mark in row.marks}
            marks = [by_name.get(name, "") for name in names]
            total = row.total if row.marks else ""
            table.writerow([_harmless(row.student), *marks, total, most, row.status])
    draft.replace(path)


def report(graded: Graded, key: Key, walls: str) -> str:
    """What a student gets to read, in Markdown. What they wrote comes as code, never as markup."""
    most = sum(question.points for question in key.master.questions)
    lines = [f"# {key.master.title}", "", f"Student: `{_quiet(graded.student)}`", ""]
    if graded.marks:
        lines += [f"**{graded.total:g} of {most:g} points**", ""]
    if graded.note:
        lines += [f"`{_quiet(graded.note)}`", ""]
    for mark in graded.marks:
        lines += [
            f"## {mark.question}: {mark.got:g} of {mark.points:g}",
            "",
            f"`{_quiet(mark.message)}`",
            "",
        ]
    lines += [f"Graded with {STRONG if walls == 'namespaces' else WEAK}."]
    return "\n".join(lines) + "\n"


def _quiet(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).replace("`", "'")


def _file_name(student: str) -> str:
    return re.sub(r"[^\w.-]+", "_", student)[:80].strip(".") or "nameless"


def _harmless(text: str) -> str:
    """A spreadsheet takes =, +, - and @ at the start of a cell for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" else text
