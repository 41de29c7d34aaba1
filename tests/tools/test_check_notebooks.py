"""Each kind of uncleanness is found, named and, where that needs no run, mended."""

import copy
import json

import check_notebooks
import pytest
from check_notebooks import MARK, canonical, clean, problems


def code(name, source, outputs=(), count=None, **metadata):
    return {
        "cell_type": "code",
        "id": name,
        "metadata": metadata,
        "source": source.splitlines(keepends=True),
        "outputs": list(outputs),
        "execution_count": count,
    }


STREAM = {"output_type": "stream", "name": "stdout", "text": ["2\n"]}
PICTURE = {"output_type": "display_data", "data": {"image/png": "iVBO"}, "metadata": {}}
ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}


@pytest.fixture
def notebook():
    return {
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# A\n", "b"]},
            code("one", "a = 1\na", mystnb={"image": {"alt": "x"}}, tags=["hide-input"]),
            code("two", f"{MARK}\nprint(2)", [STREAM], 2),
            code(
                "three",
                f"{MARK}\n3",
                [
                    {
                        "output_type": "execute_result",
                        "data": {"text/plain": ["3"]},
                        "metadata": {},
                        "execution_count": 3,
                    }
                ],
                3,
            ),
        ],
        "metadata": copy.deepcopy(check_notebooks.METADATA),
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def test_a_clean_notebook_passes_and_stays(notebook):
    assert problems(notebook, canonical(notebook)) == []
    assert clean(notebook) == notebook


def change(notebook, what):
    cells = notebook["cells"]
    match what:
        case "picture":
            cells[1]["outputs"], cells[1]["execution_count"] = [PICTURE], 1
        case "picture beside text":
            cells[2]["outputs"] = [STREAM, PICTURE]
        case "error":
            cells[2]["outputs"] = [STREAM, ERROR]
        case "stderr":
            cells[2]["outputs"] = [STREAM, {**STREAM, "name": "stderr"}]
        case "unmarked text":
            cells[1]["outputs"] = [STREAM]
        case "unmarked count":
            cells[1]["execution_count"] = 1
        case "null count":
            cells[2]["execution_count"] = None
        case "other count":
            cells[2]["execution_count"] = 17
        case "count of the result":
            cells[3]["outputs"][0]["execution_count"] = 17
        case "kernel":
            notebook["metadata"]["kernelspec"]["name"] = "my-env"
        case "version":
            notebook["metadata"]["language_info"]["version"] = "3.11.2"
        case "stray":
            cells[0]["metadata"] = {"collapsed": True}
        case "no id":
            del cells[0]["id"]
        case "same id":
            cells[1]["id"] = "title"
        case "bad id":
            cells[1]["id"] = "one two"


MENDED = {
    "picture": "not marked",
    "picture beside text": "not plain text (image/png)",
    "error": "not plain text (error)",
    "stderr": "not plain text (stderr)",
    "unmarked text": "not marked",
    "unmarked count": "execution count",
    "null count": "must carry the execution count 2",
    "other count": "must carry the execution count 2",
    "count of the result": "must carry the execution count 3",
    "kernel": "kernel python3",
    "version": "other metadata",
    "stray": "stray metadata (collapsed)",
    "no id": "no valid id",
    "same id": "id of another cell",
    "bad id": "no valid id",
}


@pytest.mark.parametrize("what", MENDED)
def test_uncleanness_is_found_and_mended(notebook, what):
    change(notebook, what)
    found = problems(notebook)
    assert len(found) == 1
    assert MENDED[what] in found[0]
    mended = clean(notebook)
    assert problems(mended, canonical(mended)) == []
    assert [cell["source"] for cell in mended["cells"]] == [
        cell["source"] for cell in notebook["cells"]
    ]


def test_what_needs_a_hand_is_found_and_left(notebook):
    notebook["cells"][2]["outputs"] = []
    notebook["cells"][3]["outputs"][0]["data"]["text/plain"] = ["3" * 3_000]
    notebook["cells"][0]["attachments"] = {"a.png": {"image/png": "iVBO"}}
    for version in (notebook, clean(notebook)):
        found = problems(version)
        assert len(found) == 3
        assert "attached file" in found[0]
        assert "nothing is compared" in found[1]
        assert "more than 2000 characters" in found[2]


def test_old_format_and_other_writing(notebook):
    assert "JupyterLab" in problems({**notebook, "nbformat_minor": 4})[0]
    assert "as Jupyter writes it" in problems(notebook, json.dumps(notebook))[0]


def test_the_command(notebook, tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    notebook["cells"][1]["outputs"] = [PICTURE]
    path.write_text(json.dumps(notebook))
    assert check_notebooks.main([str(path)]) == 1
    assert "a.ipynb: cell 1 (one)" in capsys.readouterr().out
    assert check_notebooks.main([str(path), "--fix"]) == 0
    assert check_notebooks.main([str(path)]) == 0
    path.write_text("{")
    assert check_notebooks.main([str(path)]) == 1
    assert "restore it from git" in capsys.readouterr().out


def test_the_book_s_own_notebooks_are_clean():
    assert check_notebooks.main([]) == 0
