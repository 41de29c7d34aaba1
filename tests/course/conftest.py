"""A small assignment with two questions, and what is needed to hand something in for it."""

import json
import os
import sys
from pathlib import Path

import pytest
from check_notebooks import canonical
from course.master import read_master
from course.release import answer_id, student_copy
from course.sandbox import Limits, isolation
from course.scoring import Key

sys.path.insert(0, str(Path(__file__).parent))
from small_assignment import as_notebook, cells


@pytest.fixture(scope="session")
def walls():
    """Skip, or fail where a sandbox is promised (REQUIRE_SANDBOX=1), when none can be built."""
    there = isolation()
    if there != "namespaces":
        if os.environ.get("REQUIRE_SANDBOX"):
            pytest.fail("REQUIRE_SANDBOX is set, but this machine lets us build no sandbox")
        pytest.skip("no namespaces on this machine: nothing can be contained")
    return there


@pytest.fixture(scope="session")
def limits():
    return Limits(
        start=30, question=1.0, patience=30, cpu=4, memory=600 * 2**20, address_space=2**30
    )


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
