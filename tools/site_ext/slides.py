"""Slides: for each chapter, its question, statements, figures, summary and exercises, to show.

`make book` writes them to ``slides/`` of the site from the pages that it has built: `slide_reader`
takes them apart, `slide_pages` has the markup, ``static/slides.css`` and ``slides.js`` the rest.
nbconvert makes slides of whole cells, proofs and code included, and reveal.js comes from elsewhere;
these need the site's own MathJax and nothing else, and work from a disk.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from site_ext.slide_pages import Deck, deck_page, index_page
from site_ext.slide_reader import NoSlides, Reader

HERE = Path(__file__).parent
CHAPTER = re.compile(r"notebooks/\d\d_\w+")


def read_controls(path: Path = HERE / "slides.toml") -> dict[str, str]:
    """What is the control in a figure, by the figure's label."""
    return dict(tomllib.loads(path.read_text(encoding="utf-8"))["controls"])


def decks(site: Path, pages: list[str]) -> list[Deck]:
    """The slides of built pages. Raises `NoSlides` where a page is not as they need it."""
    controls = read_controls()
    found = [Reader(site, page, controls).deck() for page in pages]
    keys = {slide.key for deck in found for slide in deck.slides}
    if lost := sorted(controls.keys() - keys):
        raise NoSlides(
            f"tools/site_ext/slides.toml names the control in {', '.join(lost)}, and no chapter "
            "shows a figure of that label, so that the slides would keep silent about one: "
            "mend the label, or take the line out."
        )
    return found


def write(site: Path, pages: list[str], book: str) -> list[Deck]:
    """Write the slides of built pages, and their list, into ``slides/`` of the site."""
    found = decks(site, pages)
    folder = site / "slides"
    folder.mkdir(exist_ok=True)
    for deck in found:
        name = f"{Path(deck.page).name}.html"
        (folder / name).write_text(deck_page(deck, book), encoding="utf-8")
    (folder / "index.html").write_text(index_page(found, book), encoding="utf-8")
    return found


def write_slides(app: Sphinx, exception: Exception | None) -> None:
    """Write the slides when the pages have been written."""
    if exception or app.builder.name != "html":
        return
    pages = sorted(filter(CHAPTER.fullmatch, app.env.found_docs))
    try:
        write(Path(app.outdir), pages, app.config.html_title or app.config.project)
    except NoSlides as error:
        raise ExtensionError(f"slides: {error}") from error


def add_button(
    _app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Link the slides of a chapter above it."""
    if CHAPTER.fullmatch(page) and "header_buttons" in context:
        context["header_buttons"].insert(
            0,
            {
                "type": "link",
                "url": f"../slides/{Path(page).name}.html",
                "text": "Slides",
                "tooltip": "Slides of this chapter",
                "icon": "fa-solid fa-person-chalkboard",
                "label": "slides-button",
            },
        )


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", add_button, priority=600)
    app.connect("build-finished", write_slides)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
