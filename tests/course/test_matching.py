"""Answers are found whatever has happened to their cells; a lost one costs its own mark only."""

import copy
import json

import pytest
from course.grade import grade_one
from course.matching import Matcher, plain_python, read_submission

RIGHT = "def double(x):\n    return 2 * x"


def code(source, name="own"):
    return {"cell_type": "code", "id": name, "metadata": {}, "source": source, "outputs": []}


def find(notebook, name):
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def delete(notebook):
    notebook["cells"].remove(find(notebook, "answer-double"))


def move(notebook):
    cell = find(notebook, "answer-double")
    notebook["cells"].remove(cell)
    notebook["cells"].append(cell)


def lose_all_ids(notebook):
    for cell in notebook["cells"]:
        del cell["id"]


def colab(notebook):
    for cell in notebook["cells"]:
        cell["metadata"]["id"] = cell.pop("id")


def retype(notebook):
    delete(notebook)
    notebook["cells"].insert(3, code(RIGHT))


def become_text(notebook):
    find(notebook, "answer-double")["cell_type"] = "markdown"


def duplicate(notebook):
    cell = copy.deepcopy(find(notebook, "answer-double"))
    find(notebook, "answer-double")["source"] = ["def double(x): return x"]
    notebook["cells"].append(cell)


def keep_an_empty_copy(notebook):
    cell = copy.deepcopy(find(notebook, "answer-double"))
    cell["source"] = [cell["source"][0], "def double(x):\n", "    ..."]
    notebook["cells"].append(cell)


def split(notebook):
    find(notebook, "answer-double")["source"] = ["def double(x): return FACTOR * identity(x)"]
    notebook["cells"].insert(0, code("%matplotlib inline\n!ls\nFACTOR = 2"))
    notebook["cells"].append(code("def identity(x): return +x", "late"))


def edit_setup(notebook):
    find(notebook, "setup-0")["source"] = ["import numpy as np\n", "import math"]
    find(notebook, "answer-double")["source"] = ["def double(x): return x * math.sqrt(4)"]


def swap(notebook):
    one, two = find(notebook, "answer-double"), find(notebook, "answer-total")
    one["source"], two["source"] = two["source"], one["source"]


def spoil_the_checks(notebook):
    find(notebook, "check-double")["source"] = ["def double(x): return x"]
    find(notebook, "checks")["source"] = ["raise SystemExit"]


def add_a_loop_elsewhere(notebook):
    notebook["cells"].insert(1, code("while True: pass"))


def misspell(notebook):
    find(notebook, "answer-double")["source"] = ["def duble(x): return 2 * x"]


def break_syntax(notebook):
    find(notebook, "answer-double")["source"] = ["def double(x) return"]


CHANGES = {
    delete: (0, "no answer"),
    move: (1, ""),
    lose_all_ids: (1, ""),
    colab: (1, ""),
    retype: (1, ""),
    become_text: (1, "text cell"),
    duplicate: (1, "the last one counts"),
    keep_an_empty_copy: (1, ""),
    split: (1, ""),
    edit_setup: (1, ""),
    swap: (1, ""),
    spoil_the_checks: (1, ""),
    add_a_loop_elsewhere: (1, ""),
    misspell: (0, "defines no function double"),
    break_syntax: (0, "not valid Python"),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_cells(change, tmp_path, key, limits, walls, hand_in):
    share, says = CHANGES[change]
    graded = grade_one("a", hand_in(tmp_path / "a.ipynb", change=change), key, limits, walls)
    assert graded.status == "ok", graded.note
    double, total = graded.marks
    assert double.share == share, double.message
    assert says.lower() in double.message.lower()
    assert total.share == 1, total.message


def test_untouched_copy_has_no_answers(tmp_path, key):
    from course.release import student_copy

    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(student_copy(key.master)))
    answers = Matcher(key.master).answers(read_submission(path))
    assert [answer.cells for answer in answers.values()] == [[], []]


def test_magics_are_left_out_and_modulo_is_not():
    assert plain_python("%pip install x\nif 1:\n    !ls") == "pass\nif 1:\n    pass"
    assert plain_python("print(5\n% 3)") == "print(5\n% 3)"
    assert plain_python("%%bash\nrm -rf /") == ""
