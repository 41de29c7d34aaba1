"""Students' copies: made from the master, without what is private, and never stale."""

import contextlib
import io
import json
import shutil

import pytest
from check_notebooks import canonical, problems
from course.assignment import make_assignment, master_of, read_key
from course.master import MasterError, read_master, without_solution
from course.matching import plain_python
from course.release import COPIES, MASTERS, check_id, masters, stale, student_copy, write_copies
from small_assignment import as_notebook, cells

PATHS = [pytest.param(path, id=path.stem) for path in masters()]


def test_copies_are_those_of_their_masters():
    assert stale() == []


def test_a_stale_a_missing_and_a_foreign_copy_are_named(tmp_path):
    write_copies(MASTERS, tmp_path)
    one, two = sorted(tmp_path.iterdir())[:2]
    one.write_text(one.read_text().replace("Write", "Rite", 1))
    two.unlink()
    shutil.copy(one, tmp_path / "99_other.ipynb")
    found = stale(MASTERS, tmp_path)
    assert found[0] == "99_other.ipynb has no master in course/"
    assert f"{one.name} differs from its master: run `make exercises`" in found
    assert f"{two.name} is missing: run `make exercises`" in found


@pytest.mark.parametrize("path", PATHS)
def test_copy_holds_nothing_private(path):
    master = read_master(path)
    copy = (COPIES / path.name).read_text(encoding="utf-8")
    text = "\n".join("".join(cell["source"]) for cell in json.loads(copy)["cells"])
    for question in master.questions:
        assert f"hidden_{question.name}" not in text
        assert f"def {question.name}(" in text
        told = {line.strip() for line in question.stub.splitlines()}
        visible = "\n".join(question.visible)
        answer = [line.strip() for line in question.solution.splitlines()]
        for line in answer:
            if len(line) > 12 and line not in told and line not in visible:
                assert line not in text, f"{question.name} gives away: {line}"
    for word in ("SOLUTION", "HIDDEN", "WRONG"):
        assert word not in text


@pytest.mark.parametrize("path", PATHS)
def test_masters_and_copies_are_clean_notebooks(path):
    for each in (path, COPIES / path.name):
        text = each.read_text(encoding="utf-8")
        assert problems(json.loads(text), text) == []


def test_solution_marks_are_those_of_otter():
    source = (
        "a = 1\nx = 2  # SOLUTION\n# BEGIN SOLUTION\ny = 3\n# END SOLUTION\nprint(a)  # SOLUTION"
    )
    assert without_solution(source) == "a = 1\nx = ...\n...\n..."
    with pytest.raises(MasterError, match="without an end"):
        without_solution("# BEGIN SOLUTION\n1")


FAULTS = {
    "# END TESTS": ("is none of", "# gone"),
    "# END QUESTION": ("is none of", "# gone"),
    "# BEGIN TESTS": ("# END TESTS closes nothing|BEGIN SOLUTION", "# END TESTS"),
    "hidden_double": ("hidden tests of double do not define hidden_double", "other"),
    "judge_total": ("visible tests of total do not define judge_total", "other"),
    "name: total": ("two questions are named double", "name: double"),
    "name: double": ("must be the name of a Python function", "name: 2"),
    "def total": ("solution of total do not define total", "def sum_up"),
    "# ASSIGNMENT CONFIG": ("is none of", "# ASSIGNMENT"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_master_says_what_is_missing(fault, tmp_path):
    damaged = [(kind, source.replace(fault, FAULTS[fault][1])) for kind, source in cells()]
    path = tmp_path / "00_a.ipynb"
    path.write_text(canonical(as_notebook(damaged)))
    with pytest.raises(MasterError, match=FAULTS[fault][0]):
        read_master(path)


def test_assignment_keeps_its_seed_and_refuses_another_version(tmp_path):
    handout, private = make_assignment(master_of(3), tmp_path)
    assert sorted(path.name for path in handout.iterdir()) == ["03_max_margin.ipynb", "README.md"]
    copy = json.loads((handout / "03_max_margin.ipynb").read_text())
    assert copy == student_copy(read_master(private / "03_max_margin.ipynb"))
    seed = read_key(private).seed
    make_assignment(master_of(3), tmp_path)
    assert read_key(private).seed == seed
    (private / "03_max_margin.ipynb").write_text("{}")
    with pytest.raises(FileExistsError, match="another version"):
        make_assignment(master_of(3), tmp_path)
    with pytest.raises(FileNotFoundError, match="Chapter 99 has no exercises"):
        master_of(99)


def test_a_key_that_is_lost_or_damaged_says_what_to_do(tmp_path):
    _, private = make_assignment(master_of(3), tmp_path)
    (private / "key.json").write_text("{}")
    with pytest.raises(MasterError, match="should read"):
        read_key(private)
    (private / "key.json").unlink()
    with pytest.raises(FileNotFoundError, match="is gone, and with it the seed"):
        read_key(private)
    (private / "key.json").write_text('{"seed": 1}')
    assert read_key(private).seed == 1
    (private / "checks.py").unlink()
    with pytest.raises(FileNotFoundError, match="not the private folder"):
        read_key(private)


def run_all(notebook):
    """What each code cell of a notebook prints, run from top to bottom."""
    names, printed = {"__name__": "__main__"}, {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(plain_python("".join(cell["source"])), names)
            printed[cell["id"]] = shown.getvalue()
    return printed


@pytest.mark.parametrize("path", PATHS)
def test_copy_runs_from_top_to_bottom_and_says_what_is_missing(path):
    master = read_master(path)
    empty = run_all(json.loads((COPIES / path.name).read_text(encoding="utf-8")))
    solved = run_all(student_copy(master, solved=True))
    for question in master.questions:
        lines = empty[check_id(question)].splitlines()
        assert lines
        assert all("0%" in line and "returns nothing yet" in line for line in lines)
        right = solved[check_id(question)].splitlines()
        assert len(right) == len(lines)
        assert all("100%" in line for line in right), right
