"""Reader copies of small chapters: numbers by label, outputs, hidden cells, and what is refused."""

import base64
import json
import struct
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from site_ext.plain_text import NotPlain
from site_ext.readers import Book, Page, point_at_readers, reader_copy

ROOT = Path(__file__).resolve().parents[2]
SITE = "https://ann.github.io/book"
HERE = "notebooks/01_one"


def title(text):
    return SimpleNamespace(astext=lambda: text)


def book(**changes):
    """A book of one chapter with a theorem, a figure and an exercise, and a page of errata."""
    bibliography = {"bel": SimpleNamespace(persons={"author": []}, fields={"year": "2019"})}
    names = [["Belkin"], ["Hsu"], ["Ma"]]
    bibliography["bel"].persons["author"] = [SimpleNamespace(last_names=name) for name in names]
    key = SimpleNamespace(docname="book/bibliography")
    domains = {
        "std": SimpleNamespace(labels={"sec-a": ("book/errata", "sec-a", "A section")}),
        "cite": SimpleNamespace(
            citations=[SimpleNamespace(key="bel", citation_id="id1", bibliography_key=key)],
            bibdata=SimpleNamespace(data=SimpleNamespace(entries=bibliography)),
        ),
    }
    environment = SimpleNamespace(
        get_domain=domains.get,
        proof_list={"thm-a": {"docname": HERE, "realtype": "theorem"}},
        toc_fignumbers={
            HERE: {"theorem": {"thm-a": (1, 2)}, "figure": {"f": (1, 3)}, "exercise": {"e": (1, 1)}}
        },
        toc_secnumbers={HERE: {"": (1,), "#two": (1, 1)}},
        found_docs={HERE, "book/errata"},
        titles={HERE: title("One"), "book/errata": title("Errata")},
    )
    return Book(SimpleNamespace(**{**vars(environment), **changes}), SITE, "The book")


def cell(kind, name, source, **more):
    return {"cell_type": kind, "id": name, "metadata": {}, "source": [source], **more}


def chapter(*cells):
    first = cell("markdown", "title", "# One\n\nWords.\n\n## Two")
    return {"cells": [first, *cells], "metadata": {"kernelspec": {"name": "python3"}}}


def copied(*cells, executed=None, **changes):
    return reader_copy(chapter(*cells), Page(book(**changes), HERE), executed)["cells"]


def test_headings_have_numbers_and_the_first_cell_says_what_it_is():
    first = "".join(copied()[0]["source"])
    assert first.startswith("# 1. One\n\n*A reader copy of a page of [The book](")
    assert first.endswith("Words.\n\n## 1.1. Two")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{prf:ref}`thm-a`", f"[Theorem 1.2]({SITE}/{HERE}.html#thm-a)"),
        ("{numref}`f`", f"[Fig. 1.3]({SITE}/{HERE}.html#f)"),
        ("{ref}`e`", f"[Exercise 1.1]({SITE}/{HERE}.html#e)"),
        ("{ref}`sec-a`", f"[A section]({SITE}/book/errata.html#sec-a)"),
        ("{doc}`../book/errata`", f"[Errata]({SITE}/book/errata.html)"),
        ("[x](../book/errata.md#row)", f"[x]({SITE}/book/errata.html#row)"),
        ("[x](#thm-a)", f"[x]({SITE}/{HERE}.html#thm-a)"),
        ("{cite}`bel`", f"[Belkin et al. (2019)]({SITE}/book/bibliography.html#id1)"),
    ],
)
def test_references(source, expected):
    assert copied(cell("markdown", "a", source))[1]["source"] == [expected]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{prf:ref}`thm-b`", "cell a: nothing in the book is labelled 'thm-b'"),
        ("[x](../book/errors.md)", "cell a: a link goes to '../book/errors.md', which is no page"),
        ("{cite}`nobody`", "cell a: the bibliography has no 'nobody'"),
        ("### Three", "has 3 headings in its Markdown and 2 numbered ones in the book"),
    ],
)
def test_what_is_not_in_the_book_is_refused(source, what):
    with pytest.raises(NotPlain, match=what):
        copied(cell("markdown", "a", source))


def test_outputs_are_those_of_the_executed_notebook():
    result = {"output_type": "execute_result", "execution_count": 7, "data": {"text/plain": "2"}}
    run = {"cells": [cell("code", "c", "1 + 1", outputs=[result])]}
    made = copied(cell("code", "c", "1 + 1"), executed=run)[1]
    assert made["outputs"] == [{**result, "execution_count": None}]
    with pytest.raises(NotPlain, match="cell c: the executed notebook is of another version"):
        copied(cell("code", "c", "1 + 2"), executed=run)


def test_pictures_become_png_of_twice_the_size():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36"/>'
    drawn = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": [svg]}}
    run = {"cells": [cell("code", "c", "draw()", outputs=[drawn])]}
    (made,) = copied(cell("code", "c", "draw()"), executed=run)[1]["outputs"]
    png = base64.b64decode(made["data"]["image/png"])
    assert set(made["data"]) == {"image/png"}
    assert made["metadata"] == {"image/png": {"width": 96, "height": 48}}
    assert struct.unpack(">II", png[16:24]) == (192, 96)


def test_a_hidden_solution_keeps_its_code_and_its_answer_to_itself():
    hidden = {"metadata": {"tags": ["hide-cell"]}, "outputs": []}
    run = {"cells": [cell("code", "c", "x = 1", outputs=[{"output_type": "stream"}])]}
    text = cell("markdown", "s", ":::{solution} e\n:class: dropdown\nSo.\n:::")
    made = copied(text, cell("code", "c", "x = 1", **hidden), executed=run)[2]
    assert made["source"] == ["#@title The code of the solution to Exercise 1.1\n", "x = 1"]
    assert made["metadata"] == {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert made["outputs"] == []


def test_a_figure_is_followed_by_its_caption_and_its_description():
    shown = {"figure": {"name": "f", "caption": "See $a<b$."}, "image": {"alt": "w_1 * w_2"}}
    made = copied(cell("code", "c", "draw()", metadata={"mystnb": shown}))
    assert made[2]["id"] == "c-caption"
    assert "".join(made[2]["source"]) == (
        f"**[Fig. 1.3]({SITE}/{HERE}.html#f)** See $a\\lt b$.\n\n<details>\n"
        "<summary><b>The picture in words</b></summary>\n\nw\\_1 \\* w\\_2\n\n</details>"
    )


def test_the_colab_button_of_a_chapter_opens_the_copy_and_others_stay():
    colab = {"url": "https://colab.research.google.com/github/ann/book/blob/main/x.ipynb"}
    binder = {"url": "https://mybinder.org/v2/gh/ann/book/main"}
    context = {"header_buttons": [{"buttons": [colab, binder]}, "other"]}
    options = {"repository_url": "https://github.com/ann/book"}
    app = SimpleNamespace(config=SimpleNamespace(html_theme_options=options))
    point_at_readers(app, "book/errata", "page.html", context, None)
    assert colab["url"].endswith("main/x.ipynb")
    point_at_readers(app, HERE, "page.html", context, None)
    assert colab["url"] == (
        "https://colab.research.google.com/github/ann/book/blob/readers/01_one.ipynb"
    )
    assert binder["url"] == "https://mybinder.org/v2/gh/ann/book/main"


def test_chapters_link_their_own_copy_in_colab():
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        assert f"/blob/readers/{path.name})" in first, path.name


def test_colab_is_simulated_with_the_lowest_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = dict(line.split(">=") for line in project["dependencies"])
    text = (ROOT / "tests" / "colab" / "requirements.txt").read_text()
    pins = dict(line.split("==") for line in text.splitlines() if "==" in line)
    wrong = [name for name in least if not pins[name].startswith(f"{least[name]}.0")]
    assert not wrong, f"not the lower bounds of pyproject.toml: {wrong}"
