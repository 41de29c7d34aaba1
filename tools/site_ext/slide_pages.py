"""What a slide is, and the markup of slides: a page for each chapter, and a page that lists them.

Without scripts and on paper all slides of a chapter stand one below another; ``slides.js`` shows
one at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="../_static/favicon.svg">
<link rel="stylesheet" href="../_static/slides.css">
<script>
document.documentElement.classList.add("js");
document.documentElement.dataset.theme = localStorage.getItem("theme") || "auto";
</script>
"""
DECK = """{head}<script>{mathjax}</script>
<script defer src="../_static/mathjax/tex-svg.js"></script>
<script defer src="../_static/slides.js"></script>
</head>
<body class="deck">
<main class="tex2jax_ignore mathjax_ignore">
{slides}
</main>
<nav class="controls" aria-label="Slides">
<button type="button" id="back" aria-label="Previous slide">‹</button>
<a id="count" href="index.html" aria-label="Slides of all chapters"></a>
<button type="button" id="on" aria-label="Next slide">›</button>
<button type="button" id="all">All slides</button>
<button type="button" id="full">Full screen</button>
</nav>
<dialog id="list" aria-labelledby="list-title" class="tex2jax_ignore mathjax_ignore">
<h2 id="list-title">Slides to show</h2>
<p>Slides without a tick are left out. The address of this page remembers which: keep it as a
bookmark.</p>
<ol>
{rows}
</ol>
<form method="dialog"><button>Close</button>
<button type="button" id="reset">Show all</button></form>
</dialog>
</body>
</html>
"""
INDEX = """{head}</head>
<body class="index">
<main>
<h1>Slides</h1>
<p>For each page of a chapter: its question, every numbered statement without its proof, every
figure, what it means, and how the exercises begin. They are made with
<a href="../{start}">the book</a>, and say what it says.</p>
<ul class="decks">
{rows}
</ul>
<h2>How to show them</h2>
<ul>
<li>Arrow keys, space, Page Up, Page Down, Home and End lead from slide to slide; on a phone or a
tablet, swipe.</li>
<li>“All slides” lists them. Take the tick from those that you leave out; the address remembers
which, also in a bookmark or a link on the page of your course.</li>
<li>Print a page, or save it as PDF, for a sheet of paper each. Those left out stay out.</li>
<li>Each slide links to its place in the book, where the proof and the code are.</li>
<li>Text and figures are under CC BY 4.0: use single slides in your own, and name the book.</li>
</ul>
</main>
<footer>{book}. <span class="edition">{edition}.</span></footer>
</body>
</html>
"""


@dataclass(frozen=True)
class Slide:
    """One slide. Texts are HTML, `place` is the id of what it shows on the page."""

    key: str  # stays the same when slides are added before this one
    kind: str  # title, question, statement, figure, summary or exercises
    name: str  # in the list of slides
    heading: str
    body: str
    place: str


@dataclass(frozen=True)
class Deck:
    """The slides of one page of the book, with what their own page needs."""

    page: str  # notebooks/01_minimum_norm
    number: str
    title: str
    slides: list[Slide]
    mathjax: str
    edition: str

    @property
    def chapter(self) -> str:
        return self.number.split(".")[0]


def plain(html: str) -> str:
    """The words of HTML, formulas as TeX."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def section(deck: Deck, slide: Slide, number: int, book: str) -> str:
    """One slide."""
    place = f"../{deck.page}.html#{slide.place}"
    heading = f'<h2 id="h{number}">{slide.heading}</h2>'
    source = f'<a href="{place}" aria-describedby="h{number}">In the book</a>'
    if slide.kind == "title":
        heading = (
            f'<p class="chapter">Chapter {deck.chapter}'
            f"{f' · {deck.number}' * (deck.number != deck.chapter)}</p>\n"
            f'<h1 id="h{number}">{deck.title}</h1>'
        )
        edition = f' <span class="edition">{escape(deck.edition)}.</span>' * bool(deck.edition)
        source += f" <span>{escape(book)}.{edition} CC BY 4.0.</span>"
    return (
        f'<section class="slide is-{slide.kind}" id="{number}" data-key="{escape(slide.key)}" '
        f'tabindex="-1" role="group" aria-roledescription="slide" '
        f'aria-label="{number} of {len(deck.slides)}">\n<header>{heading}</header>\n'
        f'<div class="body"><div class="inner">\n{slide.body}\n</div></div>\n'
        f"<footer>{source}</footer>\n</section>"
    )


def row(slide: Slide, number: int) -> str:
    """One slide in the list of a chapter."""
    key = escape(slide.key)
    heading = f"\n<small>{slide.heading}</small>" * (slide.kind in ("statement", "figure"))
    return (
        f'<li><input type="checkbox" checked id="show-{number}" value="{key}" '
        f'aria-label="Show slide {number}"> '
        f'<a href="#{number}">{slide.name}</a>{heading}</li>'
    )


def deck_page(deck: Deck, book: str) -> str:
    """The slides of a chapter as a page."""
    numbered = list(enumerate(deck.slides, start=1))
    title = f"Slides: {deck.number}. {plain(deck.title)}"
    return DECK.format(
        head=HEAD.format(title=escape(title)),
        mathjax=deck.mathjax,
        slides="\n".join(section(deck, slide, k, book) for k, slide in numbered),
        rows="\n".join(row(slide, k) for k, slide in numbered),
    )


def index_page(decks: list[Deck], book: str) -> str:
    """The page that lists the slides of all chapters."""
    rows = "\n".join(
        f'<li><a href="{Path(deck.page).name}.html">{escape(deck.number)}. {plain(deck.title)}</a> '
        f"<small>{len(deck.slides)} slides</small></li>"
        for deck in decks
    )
    return INDEX.format(
        head=HEAD.format(title=escape(f"Slides: {book}")),
        rows=rows,
        book=escape(book),
        start=decks[0].page + ".html" if decks else "index.html",
        edition=escape(decks[0].edition) if decks else "",
    )
