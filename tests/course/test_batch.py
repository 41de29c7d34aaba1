"""A whole folder is graded: every student has a row, nothing is lost, nothing is done twice."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import course.grade
import course.plan
import pytest
from course.__main__ import main
from course.grade import grade_folder, grade_one, keep_out_of_sight
from course.hand_ins import hand_ins
from course.report import Graded, file_name, report
from course.sandbox import NoWalls, Sandbox, Stopped
from course.scoring import Mark

ROOT = Path(__file__).resolve().parents[2]


def table(out):
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_every_submission_has_a_row(tmp_path, key, limits, walls, hand_in):
    folder, out = tmp_path / "submissions", tmp_path / "out"
    folder.mkdir()
    hand_in(folder / "=cmd().ipynb")
    hand_in(folder / "partial.ipynb", double="def double(x): return x")
    hand_in(folder / "hostile.ipynb", double="while True: pass")
    (folder / "broken.ipynb").write_text("{")
    (folder / "other.ipynb").write_text('{"cells": [{"cell_type": "code", "source": "1"}]}')
    shutil.copy(folder / "partial.ipynb", os.fsencode(folder) + b"/\xff\xfe.ipynb")
    rows = {r.student: r for r in grade_folder(folder, key, out, limits, walls, jobs=2)}
    marks = {name: (row.total, row.status) for name, row in rows.items()}
    assert marks == {
        "=cmd()": (2, "ok"),
        "partial": (1, "ok"),
        "hostile": (1, "ok"),
        "broken": (0, "unreadable"),
        "other": (0, "look"),
        "??": (1, "ok"),
    }
    rows = table(out)
    assert rows["'=cmd()"]["total"] == "2.0"  # not a formula
    assert rows["other"]["total"] == ""  # no mark, which is not a mark of 0
    assert "another chapter's" in rows["other"]["note"]
    assert len(list((out / "reports").iterdir())) == 6


def test_an_interrupted_batch_goes_on_where_it_was(
    tmp_path, key, limits, walls, hand_in, monkeypatch
):
    folder, out = tmp_path / "submissions", tmp_path / "out"
    folder.mkdir()
    for name in "abcd":
        hand_in(folder / f"{name}.ipynb")
    asked, breaks = [], ["c"]

    def interrupted(student, *rest):
        asked.append(student)
        if student in breaks:
            breaks.clear()
            raise KeyboardInterrupt
        return grade_one(student, *rest)

    monkeypatch.setattr(course.grade, "grade_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grade_folder(folder, key, out, limits, walls)
    assert sorted(table(out)) == ["a", "b"]
    with (out / "graded.jsonl").open("a") as file:
        file.write('{"cut o')
    hand_in(folder / "b.ipynb", double="def double(x): return x")  # handed in again
    asked.clear()
    rows = grade_folder(folder, key, out, limits, walls)
    assert asked == ["b", "c", "d"]
    assert [row.total for row in rows] == [2, 1, 2, 2]
    assert sorted(table(out)) == ["a", "b", "c", "d"]
    grade_folder(folder, key, out, limits, walls)
    assert len(asked) == 3
    grade_folder(folder, key, out, limits, walls, again=True)
    assert len(asked) == 7
    (folder / "a.ipynb").unlink()
    grade_folder(folder, key, out, limits, walls)
    assert sorted(path.name for path in (out / "reports").iterdir()) == ["b.md", "c.md", "d.md"]


PROGRAM = """
import signal, sys
from pathlib import Path
from course.grade import grade_folder
from course.master import read_master
from course.sandbox import Limits
from course.scoring import Key

# Whoever runs these tests in the background ignores SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder, master, out = map(Path, sys.argv[1:])
try:
    grade_folder(folder, Key(read_master(master), 7), out, Limits(question=500))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_ends_what_runs_and_keeps_what_is_done(tmp_path, master_path, key, walls, hand_in):
    folder, out = tmp_path / "submissions", tmp_path / "out"
    folder.mkdir()
    hand_in(folder / "a.ipynb")
    for name in "bcd":
        hand_in(folder / f"{name}.ipynb", double="while True: pass")
    paths = f"{ROOT / 'lib'}{os.pathsep}{ROOT / 'tools'}"
    grader = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder, master_path, out],
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    deadline = time.monotonic() + 100
    while not (out / "grades.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    os.killpg(grader.pid, signal.SIGINT)  # as a terminal does, to all of the group
    try:
        assert grader.wait(15) == 130  # what runs would take 20 seconds more
    finally:
        grader.kill()
        grader.wait()
    assert list(table(out)) == ["a"]


def test_a_stopped_sandbox_gives_no_mark(tmp_path, key, limits, walls, hand_in, monkeypatch):
    path = hand_in(tmp_path / "a.ipynb")
    Sandbox.stopped.set()
    try:
        with pytest.raises(Stopped):
            grade_one("a", path, key, limits, walls)
    finally:
        Sandbox.stopped.clear()


def test_who_handed_in_what(tmp_path):
    for name in (
        "alice.ipynb",
        "bob/hw.IPYNB",
        "bob/.ipynb_checkpoints/hw.ipynb",
        "bob/__MACOSX/._hw.ipynb",
        "carol/one.ipynb",
        "carol/deep/two.ipynb",
        "dave/answer.pdf",
        "eve.ipynb",
        "eve/hw.ipynb",
        ".hidden/x.ipynb",
        "late.zip",
        "-rf.ipynb",
        "new\nline.ipynb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mallory").mkdir()
    (tmp_path / "mallory" / "mine").symlink_to(tmp_path / "bob")
    found, others = hand_ins(tmp_path)
    assert {one.student: one.path and str(one.path.relative_to(tmp_path)) for one in found} == {
        "alice": "alice.ipynb",
        "bob": "bob/hw.IPYNB",
        "carol/one": "carol/one.ipynb",
        "carol/deep/two": "carol/deep/two.ipynb",
        "dave": None,
        "eve (eve.ipynb)": "eve.ipynb",
        "eve (eve/hw.ipynb)": "eve/hw.ipynb",
        "mallory": None,
        "-rf": "-rf.ipynb",
        "new?line": "new\nline.ipynb",
    }
    assert others == ["late.zip"]


@pytest.mark.parametrize("text", ["=1+1", " =1+1", "\t=1", "+1", "-1", "@x"])
def test_no_formula_reaches_a_spreadsheet(text):
    assert course.report.harmless(text) == f"'{text}"


def test_report_shows_what_a_student_wrote_as_code(key):
    evil = "`</code><script>alert(1)</script>\n# 100 points\n![x](http://x)\u202e\ud800"
    row = Graded(evil, [Mark("double", 1, 0, evil), Mark("total", 1, 1, "Right.")])
    text = report(row, key, "namespaces")
    text.encode()
    shown = [line for line in text.splitlines() if "script" in line]
    assert len(shown) == 2
    for line in shown:
        head, code, tail = line.split("`")
        assert "script" in code
        assert head in ("", "Student: ")
        assert tail == ""
    assert "\n# 100" not in text


def test_names_of_reports_stay_in_their_folder_and_differ():
    names = ["a", "a/b", "a_b", "../../etc/passwd", "..", "-rf", "A b", "x" * 300, "ä", "a\u0308"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all("/" not in name and name[0] not in ".-" and len(name) < 80 for name in files)
    assert files[0] == "a.md"


def test_private_files_must_not_lie_where_submissions_read(tmp_path, monkeypatch):
    monkeypatch.setattr(course.grade, "visible", lambda: ["/usr", str(tmp_path)])
    keep_out_of_sight([Path("/srv/private")])
    with pytest.raises(NoWalls, match="which every submission can read"):
        keep_out_of_sight([tmp_path / "private"])


def test_what_can_be_seen_cannot_be_changed(tmp_path, key, limits, walls, hand_in, monkeypatch):
    """Also where a path has letters that the kernel writes as they are, or as octal."""
    seen = tmp_path / "a b é\\ü"
    seen.mkdir()
    seen.chmod(0o777)
    (seen / "file").write_text("x")
    (seen / "file").chmod(0o666)
    usual = course.plan.visible()
    monkeypatch.setattr(course.plan, "visible", lambda: [*usual, str(seen)])
    source = (
        f"def double(x):\n    assert open({str(seen / 'file')!r}).read() == 'x'\n"
        f"    open({str(seen / 'file')!r}, 'w').write('owned')\n    return 2 * x"
    )
    graded = grade_one("a", hand_in(tmp_path / "a.ipynb", double=source), key, limits, walls)
    assert graded.marks[0].share == 0
    assert "Read-only file system" in graded.marks[0].message
    assert (seen / "file").read_text() == "x"


def test_commands_say_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("course.__main__.BUILT", tmp_path / "built")
    assert main(["grade", ""]) == 2
    assert "Which submissions?" in capsys.readouterr().err
    assert main(["grade", str(tmp_path)]) == 2
    assert "Which assignment is this?" in capsys.readouterr().err
    assert main(["assignment", "3"]) == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["grade", str(empty)]) == 2
    assert "holds no .ipynb file" in capsys.readouterr().err
    assert main(["grade", str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert main(["grade", str(empty), "--chapter", "1"]) == 2
    assert "Those made" in capsys.readouterr().err
