"""Grade a folder of submissions: a table, and a report for each student.

Every submission gets a row, whatever it is. A row is kept in ``graded.jsonl`` as soon as it is
known: an interrupted batch goes on where it was, and a submission that has not changed is not
graded twice. What fails on our side (no memory, a broken master) is told apart from what fails on
theirs: such rows have the status "look", and no mark.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from course.hand_ins import HandIn, hand_ins
from course.matching import Foreign, Matcher, Unreadable, read_bytes, read_cells
from course.plan import visible
from course.release import MASTERS
from course.report import Graded, file_name, report, write_table
from course.sandbox import Limits, Misbehaved, NoWalls, Sandbox, Stopped, isolation, missing
from course.scoring import Key, Mark, mark_all

LOG = "graded.jsonl"


def choose_walls(asked: str | None) -> str:
    """The isolation to use; without walls only if that was asked for by name."""
    if asked == "process" or isolation() == "namespaces":
        return asked or "namespaces"
    raise NoWalls(
        f"This machine lets us build no sandbox ({missing()}), and a submission is somebody else's "
        "program. Grade on Linux, as root if ordinary users may not make namespaces (Ubuntu), or "
        "in a virtual machine that holds nothing else with ISOLATION=process."
    )


def keep_out_of_sight(paths: Iterable[Path]) -> None:
    """Refuse to grade when what must stay private lies where the sandbox can read."""
    for path in paths:
        for shown in visible():
            if path.resolve().is_relative_to(Path(shown).resolve()):
                raise NoWalls(
                    f"{path} lies inside {shown}, which every submission can read. Move it "
                    "somewhere else."
                )


def grade_one(
    student: str, path: Path | None, key: Key, limits: Limits, walls: str = "namespaces"
) -> Graded:
    """Grade one submission. Never raises for what a submission does.

    Raises
    ------
    Stopped
        If the grading was interrupted.
    """
    questions = key.master.questions
    try:
        if path is None:
            raise Unreadable("there is no .ipynb file")
        answers = Matcher(key.master).answers(read_cells(read_bytes(path)))
        return Graded(student, mark_all(key, answers, limits, walls))
    except Unreadable as error:
        marks = [Mark(q.name, q.points, 0.0, "not graded") for q in questions]
        return Graded(student, marks, "unreadable", f"The file could not be read: {error}.")
    except Foreign as error:
        return Graded(student, [], "look", f"Another notebook, or another chapter's: {error}.")
    except Stopped:
        raise
    except Exception:  # ours to mend, not the student's fault
        return Graded(student, [], "look", traceback.format_exc(limit=3)[-600:])


def prepare(key: Key, folder: Path, out: Path, limits: Limits, walls: str) -> None:
    """Find out what would fail for everybody, and say so at once.

    Raises
    ------
    NoWalls
        If the setup does not run inside, or something private can be seen there.
    """
    if walls != "process":
        keep_out_of_sight([folder, out, MASTERS, *key.files])
    for question in key.master.questions:
        key.cases(question)
    with Sandbox(limits, walls) as box:
        try:
            box.start(key.setup)
        except Misbehaved as error:
            raise NoWalls(f"The setup of the exercises does not run inside: {error}") from None


class Log:
    """Rows that are known, kept as they come: one line of JSON for each."""

    def __init__(self, path: Path, key: Key, walls: str, again: bool) -> None:
        self.path = path
        self.about = f"{key.digest} {walls}"
        self.known = {} if again else dict(self._read())
        draft = path.with_suffix(".part")
        draft.write_text("".join(f"{line}\n" for line, _ in self.known.values()), encoding="utf-8")
        draft.replace(path)

    def _read(self) -> Iterator[tuple[tuple[str, str], tuple[str, Graded]]]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
                row = entry["row"]
                marks = [Mark(**mark) for mark in row.pop("marks")]
                graded = Graded(marks=marks, **row)
            except (ValueError, TypeError, KeyError):
                continue  # a line that was cut off
            if entry.get("about") == self.about and graded.status != "look":
                yield (graded.student, entry.get("file")), (line, graded)

    def look_up(self, hand_in: HandIn) -> Graded | None:
        """The row of a submission that was graded before and is the same."""
        return self.known.get((hand_in.student, digest(hand_in.path)), ("", None))[1]

    def keep(self, graded: Graded, path: Path | None) -> None:
        line = {"about": self.about, "file": digest(path), "row": asdict(graded)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def digest(path: Path | None) -> str:
    """A fingerprint of a submission, or of why it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(path) if path else b"").hexdigest()
    except Unreadable as error:
        return str(error)


def grade_folder(
    folder: Path,
    key: Key,
    out: Path,
    limits: Limits = Limits(),  # noqa: B008
    walls: str = "namespaces",
    jobs: int = 1,
    again: bool = False,
) -> list[Graded]:
    """Grade all submissions in a folder; write ``grades.csv`` and ``reports/`` into `out`.

    Returns the rows, by student. What was graded before, with this key, and has not changed since
    is taken from the last run, except with `again`.

    Raises
    ------
    FileNotFoundError
        If there is no submission.
    NoWalls
        If the folder, the output or a master could be read by a submission.
    KeyboardInterrupt
        After Ctrl-C. The rows that were known are kept, and written.
    """
    todo, _ = hand_ins(folder)
    Sandbox.stopped.clear()
    prepare(key, folder, out, limits, walls)
    reports = out / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    for old in reports.glob("*.md"):  # of students who are no longer there
        old.unlink()
    log = Log(out / LOG, key, walls, again)
    done: list[Graded] = []

    def finish(graded: Graded) -> None:
        done.append(graded)
        page = reports / file_name(graded.student)
        page.write_text(report(graded, key, walls), encoding="utf-8")
        write_table(out / "grades.csv", done, key)

    left = []
    for hand_in in todo:
        known = log.look_up(hand_in)
        if known is None:
            left.append(hand_in)
        else:
            finish(known)
    with ThreadPoolExecutor(jobs) as pool:
        work = {
            pool.submit(grade_one, one.student, one.path, key, limits, walls): one for one in left
        }
        try:
            for future in as_completed(work):
                graded = future.result()
                log.keep(graded, work[future].path)
                finish(graded)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            Sandbox.stop_all()
            raise
    return sorted(done, key=lambda row: row.student)
