"""The reader copies of the chapters: plain, whole, with the numbers and addresses of the book."""

import copy
import json
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import rehome
from site_ext.plain_text import leftovers

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
REPOSITORY = rehome.parse(rehome.current(ROOT))
BOOK = rehome.site(*REPOSITORY) + "/"
GITHUB = f"https://colab.research.google.com/github/{'/'.join(REPOSITORY)}/blob/"
COLAB = f"{GITHUB}readers/"
EXERCISES = f"{GITHUB}main/notebooks/exercises/"
HEAD = re.compile(
    r"^> \*\*\[([^\]]+)\]\(([^)\s]+)\)\*\*|^\*\*\[(Fig\. [^\]]+)\]\(([^)\s]+)\)\*\*", re.M
)
SOLUTION = re.compile(r"<summary><b>Solution to ([^<]+)</b></summary>")
HEADING = re.compile(r"^#{1,6} ([\d.]+)\. ", re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def texts(notebook):
    """The Markdown cells of a notebook, by id."""
    return {
        c["id"]: "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    }


def remains(notebook):
    """Every piece of markup in a notebook that no plain reader knows, with its cell."""
    return [(name, found) for name, text in texts(notebook).items() for found in leftovers(text)]


@pytest.fixture(scope="module")
def copies(site):
    """The reader copies, by the name of the chapter."""
    found = {path.stem: json.loads(path.read_text()) for path in (site / "readers").glob("*.ipynb")}
    assert sorted(found) == CHAPTERS, "not one reader copy for each chapter"
    return found


@pytest.fixture(scope="module")
def sources():
    return {
        name: json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text()) for name in CHAPTERS
    }


@pytest.mark.parametrize("name", CHAPTERS)
def test_copies_are_valid_notebooks_of_kernel_python3(copies, name):
    nbformat.validate(copies[name])
    assert copies[name]["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_markup_of_the_book_is_left(copies, name):
    assert remains(copies[name]) == []


@pytest.mark.parametrize("seed", [":::{hint}", "{prf:ref}`thm`", "](../book/errata.md)"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_seeded_leftover_is_found_in_every_copy(copies, name, seed):
    damaged = copy.deepcopy(copies[name])
    cell = [cell for cell in damaged["cells"] if cell["cell_type"] == "markdown"][-2]
    cell["source"] = [*cell["source"], "\n\n", seed]
    assert remains(damaged) == [(cell["id"], seed)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_code_is_the_chapters(copies, sources, name):
    def code(notebook):
        return [
            (cell["id"], re.sub(r"\A#@title .*\n", "", "".join(cell["source"])))
            for cell in notebook["cells"]
            if cell["cell_type"] == "code"
        ]

    assert code(copies[name]) == code(sources[name])


@pytest.mark.parametrize("name", CHAPTERS)
def test_all_text_of_the_chapter_is_there(copies, sources, name):
    """Words in order, markup and formulas apart: nothing is dropped on the way."""

    def words(text):
        text = re.sub(r"^:[\w-]+:.*$|^:{3,}.*$|^#+ .*$|<[^>]*>|\]\([^)]*\)", " ", text, flags=re.M)
        text = re.sub(r"\{[\w:-]+\}`[^`]*`|\[(Theorem|Lemma|Fig\.)[ \d.]+", " ", text)
        text = re.sub(r"\\[lg]t (?=.)", lambda sign: "<>"["g" in sign[0]], text)
        return re.findall(r"[A-Za-z]{2,}", text)

    copied = texts(copies[name])
    for cell, text in texts(sources[name]).items():
        missing = list(words(text))
        for word in words(copied[cell]):
            if missing and word == missing[0]:
                missing.pop(0)
        assert not missing, f"{cell} lacks what begins with {missing[:8]}"


@pytest.mark.parametrize("name", CHAPTERS)
def test_numbers_are_those_of_the_page(copies, pages, name):
    """Theorems, exercises and figures carry the numbers of the built page, in its order."""
    text = "\n\n".join(texts(copies[name]).values())
    article = pages[f"notebooks/{name}.html"].find(id="main-content")
    shown = [tag.get_text().strip() for tag in article.select("span.caption-number")]
    assert [head[0] or head[2] for head in HEAD.findall(text)] == shown
    solved = [
        tag.get_text().split("to", 1)[1].strip()
        for tag in article.select(".solution > .admonition-title")
    ]
    assert SOLUTION.findall(text) == solved
    sections = article.select(":is(h1, h2, h3, h4) .section-number")
    numbers = [tag.get_text().strip().removesuffix(".") for tag in sections]
    assert HEADING.findall(text) == numbers


@pytest.mark.parametrize("name", CHAPTERS)
def test_heads_lead_to_what_they_name(copies, pages, name):
    page = pages[f"notebooks/{name}.html"]
    heads = HEAD.findall("\n\n".join(texts(copies[name]).values()))
    for head in heads:
        title, address = head[0] or head[2], head[1] or head[3]
        target = page.find(id=address.partition("#")[2])
        assert title in target.get_text(" ", strip=True)[:200].replace("  ", " "), title


@pytest.mark.parametrize("name", CHAPTERS)
def test_links_into_the_book_arrive(copies, pages, name):
    dead = []
    for cell, text in texts(copies[name]).items():
        for address in LINK.findall(re.sub(r"\$[^$]*\$", "", text)):
            assert urlsplit(address).scheme == "https", f"{cell}: {address}"
            if not address.startswith(BOOK):
                continue
            path, _, anchor = address.removeprefix(BOOK).partition("#")
            page = pages.get(path)
            if page is None or (anchor and not page.find(id=unquote(anchor))):
                dead.append(f"{cell}: {address}")
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("name", CHAPTERS)
def test_hidden_code_stays_hidden_in_colab_and_jupyterlab(copies, sources, name):
    copied = {cell["id"]: cell for cell in copies[name]["cells"]}
    for cell in sources[name]["cells"]:
        hidden = "hide-cell" in cell["metadata"].get("tags", ())
        assert copied[cell["id"]]["metadata"].get("cellView") == ("form" if hidden else None)
        if hidden:
            assert copied[cell["id"]]["metadata"]["jupyter"] == {"source_hidden": True}
            assert copied[cell["id"]]["source"][0].startswith("#@title ")
            assert copied[cell["id"]]["outputs"] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_are_shown_captioned_and_described(copies, sources, name):
    cells = copies[name]["cells"]
    after = {one["id"]: other for one, other in pairwise(cells)}
    copied = {cell["id"]: cell for cell in cells}
    for cell in sources[name]["cells"]:
        if "figure" in cell["metadata"].get("mystnb", {}):
            kinds = {kind for out in copied[cell["id"]]["outputs"] for kind in out.get("data", ())}
            assert "image/png" in kinds, f"{cell['id']} shows no picture"
            assert "image/svg+xml" not in kinds, "JupyterLab would not draw it"
            text = "".join(after[cell["id"]]["source"])
            assert re.match(r"\*\*\[Fig\. ", text)
            assert "<b>The picture in words</b>" in text


def test_colab_buttons_and_links_open_the_copies(pages, chapters):
    for name in chapters:
        links = {
            link["href"] for link in pages[name].select("a[href]") if "colab" in link["href"]
        } - {"https://colab.research.google.com/"}
        stem = name.removeprefix("notebooks/").removesuffix(".html")
        (exercises,) = (link for link in links if link.startswith(EXERCISES))
        assert links == {f"{COLAB}{stem}.ipynb", exercises}
        path = ROOT / "notebooks" / "exercises" / exercises.removeprefix(EXERCISES)
        assert path.is_file(), f"{name} links to {path.name}"
        assert path.name[:2] == stem[:2], f"{name} links to {path.name}"
        buttons = pages[name].select(f'a.dropdown-item[href="{COLAB}{stem}.ipynb"]')
        assert buttons, f"{name} has no Colab button"


def test_the_list_of_copies_names_them_all(site):
    text = (site / "readers" / "README.md").read_text()
    assert [name for name in CHAPTERS if f"({name}.ipynb)" not in text] == []
    assert [name for name in CHAPTERS if f"({COLAB}{name}.ipynb)" not in text] == []
