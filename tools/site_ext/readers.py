"""Reader copies: each chapter as a plain notebook, with the book's numbers, beside the site.

`make book` writes them to ``_build/html/readers``, from the notebooks as they were executed for the
pages: their code cells are the chapter's, their text is `plain_text`'s, their outputs are the
book's, pictures drawn again as PNG. Colab opens notebooks from a repository only, so the workflow
that publishes the site also puts this folder on a branch, ``readers``, and every Colab button of
the book points there.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
import rehome
import resvg_py
from jupyter_cache import get_cache
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from site_ext.plain_text import NotPlain, Place, folded, inline, plain

BRANCH = "readers"
CHAPTER = re.compile(r"notebooks/\d\d_\w+")
COLAB = "https://colab.research.google.com/github"
SOLUTION = re.compile(r"^[:`]{3,}\{solution\}\s+(\S+)", re.M)
Notebook = dict[str, Any]


class Book:
    """What the built book calls its parts, and where they stand on the published site."""

    def __init__(self, env: BuildEnvironment, site: str, title: str) -> None:
        self.env, self.site, self.title = env, site.rstrip("/"), title
        self.places = {label: Place(name, url) for label, name, url in self._labels()}

    def address(self, docname: str, anchor: str = "") -> str:
        return f"{self.site}/{docname}.html" + (f"#{anchor}" if anchor else "")

    def _labels(self) -> Iterator[tuple[str, str, str]]:
        standard = self.env.get_domain("std")
        for label, (docname, anchor, title) in standard.labels.items():  # type: ignore[attr-defined]
            yield label, title, self.address(docname, anchor)
        statements = getattr(self.env, "proof_list", {})
        for label, entry in statements.items():
            yield label, entry["realtype"].title(), self.address(entry["docname"], label)
        for docname, kinds in self.env.toc_fignumbers.items():
            for kind, numbers in kinds.items():
                for label, number in numbers.items():
                    kind_shown = statements.get(label, {}).get("realtype", kind)
                    form = "Fig. %s" if kind == "figure" else f"{kind_shown.title()} %s"
                    name = form % ".".join(map(str, number))
                    yield label, name, self.address(docname, label)


class Page:
    """A `Guide` to the book for one of its pages."""

    def __init__(self, book: Book, docname: str) -> None:
        self.book, self.docname = book, docname
        numbers = book.env.toc_secnumbers.get(docname, {}).values()
        self.numbers = [".".join(map(str, number)) + "." for number in numbers]
        self.headings = 0

    def label(self, label: str) -> Place:
        try:
            return self.book.places[label]
        except KeyError:
            raise NotPlain(
                f"nothing in the book is labelled {label!r}: look for a misspelt label"
            ) from None

    def page(self, path: str) -> Place:
        path, _, anchor = path.partition("#")
        if not path and anchor in self.book.places:
            return self.book.places[anchor]
        docname = self.docname
        if path:
            steps: list[str] = []
            for step in (PurePosixPath(self.docname).parent / path).parts:
                steps[:] = steps[:-1] if step == ".." else [*steps, step]
            docname = "/".join(steps).removesuffix(".md").removesuffix(".ipynb")
        if docname not in self.book.env.found_docs:
            raise NotPlain(
                f"a link goes to {path!r}, which is no page of the book, so that readers elsewhere "
                "cannot follow it: link a page, or give the whole address"
            )
        return Place(self.book.env.titles[docname].astext(), self.book.address(docname, anchor))

    def citation(self, key: str) -> Place:
        domain: Any = self.book.env.get_domain("cite")
        cited = next((citation for citation in domain.citations if citation.key == key), None)
        if cited is None:
            raise NotPlain(f"the bibliography has no {key!r}: add it to book/references.bib")
        entry = domain.bibdata.data.entries[key]
        people = [" ".join(person.last_names).strip("{}") for person in entry.persons["author"]]
        authors = f"{people[0]} et al." if len(people) > 2 else " and ".join(people)
        name = f"{authors} ({entry.fields['year']})"
        return Place(name, self.book.address(cited.bibliography_key.docname, cited.citation_id))

    def heading(self) -> str:
        self.headings += 1
        return self.numbers[self.headings - 1] if self.headings <= len(self.numbers) else ""


def reader_copy(notebook: Notebook, page: Page, executed: Notebook | None = None) -> Notebook:
    """The plain notebook of a chapter, with the outputs of the `executed` one if there is one.

    Raises
    ------
    NotPlain
        Where a cell holds what has no plain form; the message names the cell.
    """
    cells: list[Notebook] = []
    outputs = iter([c for c in executed["cells"] if c["cell_type"] == "code"] if executed else [])
    solution = ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        try:
            if cell["cell_type"] == "markdown":
                cells.append(markdown(cell["id"], plain(source, page)))
                if found := SOLUTION.findall(source):
                    solution = page.label(found[-1]).name
            elif cell["cell_type"] == "code":
                cells += code(cell, source, next(outputs, None), page, solution)
        except NotPlain as error:
            raise NotPlain(f"{page.docname}.ipynb, cell {cell['id']}: {error}") from None
    if page.headings != len(page.numbers):
        raise NotPlain(
            f"{page.docname}.ipynb has {page.headings} headings in its Markdown and "
            f"{len(page.numbers)} numbered ones in the book, so that numbers would be wrong: "
            "write headings with # only, outside directives"
        )
    welcome(cells[0], page)
    name = PurePosixPath(page.docname).name
    return {
        "cells": cells,
        "metadata": {
            **notebook["metadata"],
            "colab": {"name": f"{name}.ipynb", "provenance": [], "toc_visible": True},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def markdown(name: str, text: str) -> Notebook:
    lines = text.splitlines(keepends=True)
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": lines}


def code(
    cell: Notebook, source: str, run: Notebook | None, page: Page, solution: str
) -> Iterator[Notebook]:
    """A code cell as it is, with its outputs, and the caption of its figure after it."""
    if run is not None and "".join(run["source"]) != source:
        raise NotPlain("the executed notebook is of another version of the chapter: `make book`")
    metadata: Notebook = {}
    outputs = run["outputs"] if run else []
    if "hide-cell" in cell["metadata"].get("tags", ()):
        # Colab shows a title for such a cell, JupyterLab three dots. What it prints goes too.
        metadata = {"cellView": "form", "jupyter": {"source_hidden": True}}
        source = f"#@title The code of the solution{f' to {solution}' * bool(solution)}\n{source}"
        outputs = []
    yield {
        "cell_type": "code",
        "execution_count": None,
        "id": cell["id"],
        "metadata": metadata,
        "outputs": [shown_anywhere(output) for output in outputs],
        "source": source.splitlines(keepends=True),
    }
    shown = cell["metadata"].get("mystnb", {})
    if "figure" in shown:
        figure = shown["figure"]
        place = page.label(figure["name"])
        text = f"**[{place.name}]({place.address})** {inline(figure['caption'], page)}"
        if alternative := shown.get("image", {}).get("alt"):
            words = re.sub(r"([\\`*_$<\[\]])", r"\\\1", alternative)
            text += "\n\n" + folded("The picture in words", words)
        yield markdown(f"{cell['id']}-caption", text)


def shown_anywhere(output: Notebook) -> Notebook:
    """An output as every place shows it: JupyterLab draws no SVG of a notebook not run here."""
    made = {**output, "execution_count": None} if "execution_count" in output else dict(output)
    if "image/svg+xml" in output.get("data", {}):
        drawing = "".join(output["data"]["image/svg+xml"])
        png = bytes(resvg_py.svg_to_bytes(svg_string=drawing, dpi=96, zoom=2))
        width, height = (size // 2 for size in struct.unpack(">II", png[16:24]))  # of the PNG
        data = {kind: text for kind, text in output["data"].items() if kind != "image/svg+xml"}
        made["data"] = {**data, "image/png": base64.b64encode(png).decode()}
        made["metadata"] = {"image/png": {"width": width, "height": height}}
    return made


def welcome(cell: Notebook, page: Page) -> None:
    """Say below the title what this copy is."""
    title, _, rest = "".join(cell["source"]).partition("\n")
    text = (
        f"{title}\n\n*A reader copy of a page of "
        f"[{page.book.title}]({page.book.address(page.docname)}). References lead to the book; "
        "the results shown are the book's until you run the cells, the first one first.*\n"
    )
    cell["source"] = f"{text}{rest}".splitlines(keepends=True)


# ------------------------------------------------------------------------------------- the build


def executed(app: Sphinx, path: Path) -> Notebook | None:
    """A notebook with the outputs of its page, or None in a build that executes nothing.

    They are the cache's: of a run that it did not repeat, MyST-NB writes no notebook with outputs.
    """
    if app.config.nb_execution_mode != "cache":
        return None
    notebook = nbformat.read(path, as_version=4)
    try:
        _, whole = get_cache(app.env.mystnb_config.execution_cache_path).merge_match_into_notebook(
            notebook
        )
    except KeyError:
        raise ExtensionError(
            f"no reader copy for Colab: the cache has no run of {path.name}, and its copy would "
            "show no results. Remove _build and `make book`"
        ) from None
    return json.loads(nbformat.writes(whole))


def write_readers(app: Sphinx, exception: Exception | None) -> None:
    """Write the reader copies when the pages have been written."""
    if exception or app.builder.name != "html":
        return
    owner, name = rehome.parse(app.config.html_theme_options["repository_url"])
    book = Book(app.env, rehome.site(owner, name), app.config.html_title or app.config.project)
    folder = Path(app.outdir, "readers")
    folder.mkdir(exist_ok=True)
    lines = []
    for docname in sorted(filter(CHAPTER.fullmatch, app.env.found_docs)):
        path = Path(app.env.doc2path(docname))
        notebook = json.loads(path.read_text(encoding="utf-8"))
        try:
            copy = reader_copy(notebook, Page(book, docname), executed(app, path))
        except NotPlain as error:
            raise ExtensionError(f"no reader copy for Colab: {error}") from error
        file = f"{PurePosixPath(docname).name}.ipynb"
        text = json.dumps(copy, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / file).write_text(text, encoding="utf-8")
        title = app.env.titles[docname].astext()
        lines.append(f"- [{title}]({file}): [open in Colab]({colab(owner, name, docname)})")
    (folder / "README.md").write_text(README.format(book=book, list="\n".join(lines)))


README = """\
# Reader copies

The chapters of [{book.title}]({book.site}) as plain notebooks, for Colab, GitHub and JupyterLab.
They are made with the book, from the notebooks of the branch `main`: mend those, not these. Text
and figures are under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), code under MIT.

{list}
"""


def colab(owner: str, name: str, docname: str) -> str:
    """Where Colab finds the reader copy of a page."""
    return f"{COLAB}/{owner}/{name}/blob/{BRANCH}/{PurePosixPath(docname).name}.ipynb"


def point_at_readers(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Let the Colab button of a chapter open the reader copy."""
    if not CHAPTER.fullmatch(page):
        return
    owner, name = rehome.parse(app.config.html_theme_options["repository_url"])
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()) if isinstance(group, dict) else ():
            if str(button.get("url", "")).startswith(COLAB):
                button["url"] = colab(owner, name, page)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", point_at_readers, priority=600)
    app.connect("build-finished", write_readers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
