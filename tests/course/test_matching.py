"""Answers are found whatever has happened to their cells; a lost one costs its own mark only."""

import copy
import json
import time

import pytest
from course.grade import grade_one
from course.matching import Foreign, Matcher, plain_python, read_submission

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


@pytest.mark.parametrize(
    "source",
    [
        "import library as lib\ndef double(x): return lib.twice(x)",
        "from library import twice as fine\ndef double(x): return fine(x)",
        "def double(x): return getattr(library, 'twice')(x)",
    ],
)
def test_a_function_to_do_without_is_found_under_another_name(source, tmp_path, key, hand_in):
    master = copy.deepcopy(key.master)
    master.questions[0].without = frozenset({"twice"})
    parts = read_submission(hand_in(tmp_path / "a.ipynb", double=source))
    answer = Matcher(master).answers(parts)["double"]
    assert answer.cells == []
    assert "your answer uses twice" in answer.note


def test_many_cells_that_use_many_names_take_no_time(tmp_path, key, hand_in):
    def add(notebook):
        for number in range(1900):
            names = "+".join(f"v{(number + k) % 1900}" for k in range(15))
            notebook["cells"].append(code(f"v{number} = {names}", f"own{number}"))

    path = hand_in(tmp_path / "a.ipynb", change=add, double="def double(x): return v0")
    start = time.process_time()
    answers = Matcher(key.master).answers(read_submission(path))
    assert len(answers["double"].cells) > 1000
    assert time.process_time() - start < 10  # it took minutes when every cell was read for each


def test_a_notebook_of_another_chapter_is_told_apart(tmp_path, key, hand_in):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [code("def other(x): return x")]}))
    with pytest.raises(Foreign, match="none of its cells"):
        Matcher(key.master).answers(read_submission(path))
