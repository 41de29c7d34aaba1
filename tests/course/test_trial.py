"""A master is tried before it is assigned: each fault that it may have is named."""

import pytest
from check_notebooks import canonical
from course.__main__ import main
from course.master import read_master
from course.trial import trial
from small_assignment import as_notebook, cells

WRONG = '## Ignore ##\n# WRONG {what}; at most {most}; says "{says}"\ndef {name}(x):\n    {body}\n'
# Fit to be assigned: three wrong answers to each question, compared and found different.
FIT = {
    "double": ["return 3 * x", "return x", "return -2 * x"],
    "total": ["return 2 * x.sum()", "return x.sum() + 1", "raise OSError('compared')"],
}


def written(path, fit=FIT, most=0.5, says="compared", solution=None):
    """A small master in a file."""
    made = []
    for kind, source in cells():
        if solution and source.startswith("def double"):
            source = source.replace("2 * x", solution)
        made.append((kind, source))
        if source == "# END TESTS":
            name = next(n for n in reversed(FIT) if any(f"name: {n}" in s for _, s in made))
            for number, body in enumerate(fit[name]):
                more = {"what": f"wrong {number}", "most": most, "says": says}
                made.append(("code", WRONG.format(name=name, body=body, **more)))
    path.write_text(canonical(as_notebook(made)), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "00_exam.ipynb"


def test_a_fit_master_has_no_faults(path, walls):
    assert trial(read_master(written(path)), [0, 1], walls) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"solution": "2.5 * x"}, "double, seed 4: the reference gets 0%: Compared."),
        ({"fit": {**FIT, "total": ["return 0 * x.sum()"]}}, "total, seed 4: 1 wrong answers"),
        ({"fit": {**FIT, "double": ["return x + x"] * 3}}, "`wrong 0` gets 100%, 50% is the most"),
        ({"says": "a factor of two"}, '`wrong 0` is not told "a factor of two" but: Compared.'),
        ({"most": 1}, "`wrong 0` may get everything"),
    ],
)
def test_each_fault_is_named(path, walls, damage, said):
    found = trial(read_master(written(path, **damage)), [4], walls)
    assert any(said in fault for fault in found), found


def test_an_answer_that_ends_its_process_does_not_end_the_trial(path, walls):
    ends = ["import os; os._exit(0)", "return x", "return -2 * x"]
    found = trial(read_master(written(path, {**FIT, "double": ends})), [4], walls)
    assert len(found) == 1
    assert '`wrong 0` is not told "compared" but: Your code ended the process' in found[0]


def test_exercises_of_ones_own_are_tried_assigned_and_found_again(
    tmp_path, path, walls, capsys, monkeypatch
):
    monkeypatch.setattr("course.__main__.BUILT", tmp_path / "built")
    written(path)
    assert main(["trial", str(path), "--seeds", "2"]) == 0
    assert "2 exercises with 2 seeds, 0 problems" in capsys.readouterr().out
    assert main(["assignment", "--master", str(path)]) == 0
    assert (tmp_path / "built/00_exam/handout/00_exam.ipynb").exists()
    assert "hidden_" not in (tmp_path / "built/00_exam/handout/00_exam.ipynb").read_text()
    written(path, solution="x * 7")
    assert main(["trial", str(path), "--seeds", "1"]) == 1
    assert "the reference gets 0%" in capsys.readouterr().out
    assert main(["trial", str(tmp_path / "gone.ipynb")]) == 2
    assert main(["assignment", "3"]) == 0  # the name of the other stands where one has to choose
    assert main(["grade", str(tmp_path)]) == 2
    assert "00_exam, 03" in capsys.readouterr().err
