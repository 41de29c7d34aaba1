"""The commands behind `make exercises`, `make trial`, `make assignment` and `make grade`."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

from course.assignment import make_assignment, master_of, read_key
from course.grade import choose_walls, grade_folder
from course.hand_ins import hand_ins
from course.master import MasterError, read_master
from course.release import ROOT, stale, write_copies
from course.sandbox import WEAK, NoWalls
from course.trial import trial

BUILT = ROOT / "assignments"  # not in _build: `make clean` must not take the key


def exercises(options: argparse.Namespace) -> int:
    if options.check:
        for problem in (problems := stale()):
            print(f"exercises: {problem}")
        return int(bool(problems))
    for path in write_copies():
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def assign(options: argparse.Namespace) -> int:
    if options.master is None:
        source = master_of(options.chapter)
        out = options.out or BUILT / f"{options.chapter:02d}"
    else:
        source = options.master
        out = options.out or BUILT / source.stem
    handout, private = make_assignment(source, out)
    print(f"to hand out: {handout}\nto grade with, never to hand out: {private}")
    return 0


def try_out(options: argparse.Namespace) -> int:
    start = time.monotonic()
    master = read_master(options.master)
    problems = trial(master, range(options.seeds), choose_walls(options.isolation))
    for problem in problems:
        print(f"trial: {problem}")
    asked = f"{len(master.questions)} exercises with {options.seeds} seeds"
    print(f"trial: {asked}, {len(problems)} problems, {time.monotonic() - start:.0f} s")
    return int(bool(problems))


def private_folder(options: argparse.Namespace) -> Path:
    """The key that was named, or the only one that was made here."""
    if options.key is not None:
        return Path(options.key)
    made = sorted(BUILT.glob("*/private"))
    there = ", ".join(path.parent.name for path in made) or "none"
    if options.chapter:
        made = [path for path in made if path.parent.name == f"{options.chapter:02d}"]
    if len(made) != 1:
        raise FileNotFoundError(
            f"Which assignment is this? Those made in {BUILT}: {there}. Name the chapter "
            "(CHAPTER=3) or the private folder (KEY=folder)."
        )
    return made[0]


def marks(options: argparse.Namespace) -> int:
    if not str(options.submissions).strip():
        raise FileNotFoundError("Which submissions? Name their folder: make grade SUBMISSIONS=...")
    folder = Path(options.submissions)
    warnings.simplefilter("ignore", SyntaxWarning)  # of the students' code
    start = time.monotonic()
    private = private_folder(options)
    key = read_key(private)
    todo, others = hand_ins(folder)
    if others:
        print(f"grade: not notebooks, so not graded: {', '.join(others)}")
    walls = choose_walls(options.isolation)
    if walls == "process":
        print(f"grade: WARNING: {WEAK}.")
    out = options.out or private.parent / "grades"
    print(f"grade: {len(todo)} submissions to `{key.master.title}`", flush=True)
    try:
        rows = grade_folder(folder, key, out, walls=walls, jobs=options.jobs, again=options.again)
    except KeyboardInterrupt:
        print(
            f"\ngrade: interrupted. What was graded is kept in {out / 'grades.csv'}; the same "
            "command goes on from there."
        )
        return 130
    width = max(len(row.student) for row in rows)
    for row in rows:
        total = f"{row.total:6.2f}" if row.marks else "     -"
        print(f"{row.student:{width}s}  {total}  {row.status}")
    look = [row for row in rows if row.status == "look"]
    if look:
        print(f"grade: {len(look)} without a mark, for you to look at: the table says why.")
    if len(look) == len(rows):
        print(f"grade: is {private} the key to these submissions?")
    print(f"{len(rows)} graded in {time.monotonic() - start:.0f} s: {out / 'grades.csv'}")
    return int(bool(look))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="course", description="Exercises and their grading.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("exercises", help="write the students' copies of all masters")
    command.add_argument("--check", action="store_true", help="only say which copies are stale")
    command.set_defaults(run=exercises)
    command = commands.add_parser("assignment", help="a folder to hand out, one to grade with")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("chapter", type=int, nargs="?")
    which.add_argument("--master", type=Path, help="exercises of your own")
    command.add_argument("--out", type=Path)
    command.set_defaults(run=assign)
    command = commands.add_parser("trial", help="is a master fit to be assigned?")
    command.add_argument("master", type=Path)
    command.add_argument("--seeds", type=int, default=20)
    command.add_argument("--isolation", choices=["namespaces", "process"])
    command.set_defaults(run=try_out)
    command = commands.add_parser("grade", help="grade a folder of notebooks")
    command.add_argument("submissions")
    command.add_argument("--chapter", type=int)
    command.add_argument("--key", type=Path, help="the private folder of the assignment")
    command.add_argument("--out", type=Path)
    command.add_argument("--jobs", type=int, default=2)
    command.add_argument("--again", action="store_true", help="also what was graded before")
    command.add_argument("--isolation", choices=["namespaces", "process"])
    command.set_defaults(run=marks)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (FileNotFoundError, FileExistsError, PermissionError, MasterError, NoWalls) as error:
        print(f"course: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
