"""What is executed again when something changes, on a book of two pages."""

import json
import os
import sys

import build
import pytest
from jupyter_cache import get_cache

CODE = """\
import json, os, pathlib
import tiny
folder = pathlib.Path(os.environ["IMPLICIT_BIAS_LEDGER"])
(folder / "T1.json").write_text(json.dumps({"id": "T1", "chapter": 1}))
print("the answer is", tiny.answer())
"""


def write_notebook(root, *sources, name="01_minimum_norm"):
    cells = [{"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Chapter"}]
    cells += [
        {
            "cell_type": "code",
            "id": f"c{k}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for k, source in enumerate(sources)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (root / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))


@pytest.fixture
def book(tmp_path):
    """The smallest book that the build takes."""
    for folder in ("book", "lib", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_config.yml").write_text(
        "title: T\nonly_build_toc_files: true\nexecute: {execute_notebooks: cache}\n"
        "sphinx: {config: {html_context: {default_mode: auto}}}\n"
    )
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: notebooks/01_minimum_norm\n"
    )
    (tmp_path / "book" / "index.md").write_text("# Front\n")
    (tmp_path / "requirements.txt").write_text("numpy==2.0\n")
    (tmp_path / "lib" / "tiny.py").write_text("def answer():\n    return 41\n")
    write_notebook(tmp_path, CODE)
    return tmp_path


@pytest.fixture
def prepared(book):
    """The book as after a good build, with a marker for what a build keeps."""
    assert build.prepare(book)
    marker = book / "_build" / "marker"
    marker.touch()
    for chapter in (1, 2):
        record = {"id": f"T{chapter}", "chapter": chapter}
        (book / "_build" / "ledger" / f"T{chapter}.json").write_text(json.dumps(record))
    (book / "_build" / "html").mkdir()
    state = book / "_build" / ".state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "good": True}))
    assert not build.prepare(book), "nothing has changed"
    return book


def records(book):
    return sorted(path.stem for path in (book / "_build" / "ledger").iterdir())


@pytest.mark.parametrize("name", ["lib/tiny.py", "requirements.txt", "lib/data.toml"])
def test_a_change_to_what_notebooks_import_removes_all(prepared, name):
    with (prepared / name).open("a") as file:
        file.write("\n# changed\n")
    assert build.prepare(prepared)
    assert not (prepared / "_build" / "marker").exists()
    assert records(prepared) == []


def test_so_does_the_scale_of_the_experiments(prepared, monkeypatch):
    monkeypatch.setenv("IMPLICIT_BIAS_SCALE", "paper")
    assert build.prepare(prepared)
    assert records(prepared) == []


def test_a_change_to_code_removes_the_records_of_its_chapter(prepared):
    write_notebook(prepared, CODE, "1 + 1")
    assert build.prepare(prepared)
    assert (prepared / "_build" / "marker").exists()
    assert records(prepared) == ["T2"]


@pytest.mark.parametrize("name", ["book/index.md", "_toc.yml", "_config.yml"])
def test_a_change_to_text_keeps_all_that_was_executed(prepared, name):
    with (prepared / name).open("a") as file:
        file.write("\n\n")
    assert build.prepare(prepared)
    assert records(prepared) == ["T1", "T2"]
    assert not (prepared / "_build" / "html").exists(), "pages are written anew"


def test_an_exercise_is_no_page_and_runs_no_chapter_again(prepared):
    (prepared / "notebooks" / "exercises").mkdir()
    write_notebook(prepared, "print(1)", name="exercises/01_minimum_norm")
    build.prepare(prepared)
    assert records(prepared) == ["T1", "T2"]


def test_after_a_failed_build_pages_are_read_again(prepared):
    (prepared / "book" / "index.md").write_text("# Broken\n")
    assert build.prepare(prepared)
    (prepared / "_build" / ".doctrees").mkdir()
    assert build.prepare(prepared), "the build in between was not good"
    assert not (prepared / "_build" / ".doctrees").exists()
    assert records(prepared) == ["T1", "T2"]


def test_caches_of_tools_are_no_change(prepared):
    (prepared / "lib" / "__pycache__").mkdir()
    (prepared / "lib" / "__pycache__" / "tiny.pyc").touch()
    (prepared / "notebooks" / ".ipynb_checkpoints").mkdir()
    (prepared / "notebooks" / ".ipynb_checkpoints" / "a.ipynb").write_text("{}")
    assert not build.prepare(prepared)


def page(book):
    return (book / "_build" / "html" / "notebooks" / "01_minimum_norm.html").read_text()


def test_editing_the_library_executes_again_what_imports_it(book, capfd):
    assert build.make(book)
    said = "".join(capfd.readouterr())
    assert "Executing notebook" in said
    assert "WARNING" not in said
    assert "the answer is 41" in page(book)
    assert not build.make(book)

    (book / "lib" / "tiny.py").write_text("def answer():\n    return 42\n")
    assert build.make(book)
    assert "the answer is 42" in page(book)

    # A run in the cache counts only with its records: both go when its code changes.
    cache = get_cache(book / "_build" / ".jupyter_cache")
    assert records(book) == ["T1"]
    assert len(cache.list_cache_records()) == 1
    write_notebook(book, "print('no record')")
    assert build.prepare(book)
    assert records(book) == []
    assert cache.list_cache_records() == []


def test_the_notebooks_of_one_chapter_run_again_together(book):
    """Records name the chapter: the ones of the second part would else go for ever."""
    second = CODE.replace("T1", "T3")
    write_notebook(book, second, name="01_second_part")
    toc = book / "_toc.yml"
    toc.write_text(toc.read_text() + "- file: notebooks/01_second_part\n")
    assert build.make(book)
    assert records(book) == ["T1", "T3"]
    write_notebook(book, CODE, "1 + 1")
    assert build.make(book)
    assert records(book) == ["T1", "T3"]


@pytest.mark.skipif(os.name != "posix", reason="runs jupyter-book")
def test_a_build_without_pages_fails(book, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    (book / "jupyter-book").symlink_to("/bin/true")
    monkeypatch.setattr(sys, "executable", str(book / "python"))
    with pytest.raises(SystemExit, match=r"lacks index\.html, notebooks/01_minimum_norm\.html"):
        build.make(book)
    assert build.prepare(book), "a build that failed is no build"
