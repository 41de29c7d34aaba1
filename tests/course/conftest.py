"""A small assignment with two questions, and what is needed to hand something in for it."""

import json

import pytest
from check_notebooks import canonical
from course.master import read_master
from course.release import answer_id, student_copy
from course.sandbox import Limits, isolation
from course.scoring import Key

CONFIG = '# ASSIGNMENT CONFIG\nchapter: 0\ntitle: "Small exercises"'
JUDGE = """\
def judge_{name}(value, x):
    if np.shape(value) != np.shape({right}):
        return 0, "wrong shape"
    return float(np.allclose(value, {right})), "compared"


def cases_{name}():
    return [(np.arange(3.0),)]
"""
HIDDEN = """\
# HIDDEN
def hidden_{name}(seed):
    return [(np.random.default_rng(seed).standard_normal(4),)]
"""
QUESTIONS = {"double": "2 * x", "total": "x.sum()"}


def cells():
    yield "raw", CONFIG
    yield "code", "import numpy as np"
    for name, right in QUESTIONS.items():
        yield "raw", f"# BEGIN QUESTION\nname: {name}\npoints: 1"
        yield "markdown", f"Write `{name}(x)`."
        yield "raw", "# BEGIN SOLUTION"
        yield "code", f"def {name}(x):\n    # BEGIN SOLUTION\n    return {right}\n    # END SOLUTION"
        yield "raw", "# END SOLUTION"
        yield "raw", "# BEGIN TESTS"
        yield "code", JUDGE.format(name=name, right=right)
        yield "code", HIDDEN.format(name=name)
        yield "raw", "# END TESTS"
        yield "raw", "# END QUESTION"


def as_notebook(pairs):
    made = []
    for number, (kind, source) in enumerate(pairs):
        cell = {"cell_type": kind, "id": f"c{number}", "metadata": {}, "source": source}
        made.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="session")
def walls():
    """Skip, or fail where a sandbox is promised (REQUIRE_SANDBOX=1), when none can be built."""
    import os

    there = isolation()
    if there != "namespaces":
        if os.environ.get("REQUIRE_SANDBOX"):
            pytest.fail("REQUIRE_SANDBOX is set, but this machine lets us build no sandbox")
        pytest.skip("no namespaces on this machine: nothing can be contained")
    return there


@pytest.fixture(scope="session")
def limits():
    return Limits(start=30, question=2.0, cpu=4, memory=600 * 2**20, address_space=2**30)


@pytest.fixture(scope="session")
def master_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("private") / "00_small.ipynb"
    path.write_text(canonical(as_notebook(cells())), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def key(master_path):
    return Key(read_master(master_path), seed=7)


@pytest.fixture(scope="session")
def hand_in(key):
    """Writes a submission with these sources in the answers' cells."""

    def write(path, change=None, **answers):
        notebook = student_copy(key.master, solved=True)
        for question in key.master.questions:
            for cell in notebook["cells"]:
                if cell["id"] == answer_id(question) and question.name in answers:
                    head = cell["source"][0]
                    cell["source"] = head + answers[question.name]
        if change:
            change(notebook)
        path.write_text(json.dumps(notebook), encoding="utf-8")
        return path

    return write
