"""What a published book needs around its pages: an address, cards, a way in, a way back.

From the repository's address in ``_config.yml`` follows that of the site (``html: baseurl`` there
names another, for a domain of its own). Every page then states its canonical address and carries
Open Graph tags, from which others make a card where the page is linked; ``404.html``, made by
sphinx-notfound-page, answers for pages that are not there; search engines find ``robots.txt`` and
``sitemap.xml``. A stock generator of cards would put raw TeX into them.
"""

from __future__ import annotations

import re
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import edition
import rehome
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

CARD = "_static/card.png"
CARD_SIZE = (1200, 630)
CARD_SHOWS = (
    "Seven points. A calm blue curve, where gradient descent ends, and a wild grey one both pass "
    "through all of them."
)
FORMULA = "\N{INVISIBLE TIMES}"  # what no text of the book holds
CITED = re.compile(r"\s*\[[^\]]*\d{4}[^\]]*\]")
LOST = """
<h1>There is no such page</h1>
<p>The address is not one of this book: a page may have been renamed, or the link be older than the
page. Start from the <a href="{front}">front page</a>, <a href="{search}">search</a>, or look a
claim up in <a href="{ledger}">the ledger</a>.</p>
"""
FRONT = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta http-equiv="refresh" content="0; url={page}">
<link rel="canonical" href="{address}">
<link rel="icon" href="_static/favicon.svg">
{tags}</head>
<body><p>The book begins on its <a href="{page}">front page</a>.</p></body>
</html>
"""


def settle(app: Sphinx, config: Config) -> None:
    """Derive from the repository's address what depends on it, and from the edition the footer."""
    options = config.html_theme_options
    address = config.html_baseurl or rehome.site(*rehome.parse(options["repository_url"]))
    config.html_baseurl = address = address.rstrip("/") + "/"
    config.notfound_urls_prefix = prefix = urlsplit(address).path
    places = {"front": config.root_doc, "search": "search", "ledger": "book/ledger"}
    config.notfound_context = {
        "title": "Page not found",
        "body": LOST.format(**{name: f"{prefix}{page}.html" for name, page in places.items()}),
    }

    words = escape(edition.edition(Path(app.srcdir)))
    footer = options.get("extra_footer", "")
    options["extra_footer"] = f'{footer} <span class="edition">{words}.</span>'


def description(tree: nodes.document, at_least: int = 45, at_most: int = 200) -> str:
    """The first whole sentences of a page that can be read without mathematics."""
    text = ""
    for section in list(tree.findall(nodes.section))[:1]:
        for paragraph in (node for node in section if isinstance(node, nodes.paragraph)):
            words = CITED.sub("", "".join(map(plain, paragraph.children)))
            if words.startswith("Reading time"):
                continue
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(words.split())):
                longer = f"{text} {sentence}".strip()
                if FORMULA in sentence or sentence[-1:] not in (*".!?",) or len(longer) > at_most:
                    if text:
                        break  # what follows may lean on what is left out
                    continue
                text = longer
            if len(text) >= at_least:
                return text
    return text


def plain(node: nodes.Node) -> str:
    """The words of a part of a paragraph, with a sign for each formula."""
    if isinstance(node, nodes.math):
        return FORMULA
    if isinstance(node, nodes.Text):
        return node.astext()
    return "".join(map(plain, node.children))


def tags(app: Sphinx, page: str, title: str, tree: nodes.document) -> str:
    """What others show where the page is linked: title, a sentence or two, the book's picture."""
    base, words = app.config.html_baseurl, description(tree)
    width, height = map(str, CARD_SIZE)
    graph = {
        "og:type": "website",
        "og:site_name": app.config.html_title,
        "og:title": title,
        "og:description": words,
        "og:url": base + app.builder.get_target_uri(page),
        "og:image": base + CARD,
        "og:image:alt": CARD_SHOWS,
        "og:image:width": width,
        "og:image:height": height,
    }
    lines = [f'<meta property="{k}" content="{escape(v)}" />' for k, v in graph.items() if v]
    lines.append('<meta name="twitter:card" content="summary_large_image" />')
    if words:
        lines.append(f'<meta name="description" content="{escape(words)}" />')
    return "\n".join(lines) + "\n"


def finish_page(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Add the tags of a page; tell search engines which pages are none."""
    more = ""
    if tree is not None:
        title = unescape(re.sub(r"<[^>]+>", "", context.get("title", "")))
        more = tags(app, page, title, tree)
        if page == app.config.root_doc:
            app.front_tags = more  # type: ignore[attr-defined]
    if page in ("404", "search"):
        context["pageurl"] = None
        more = '<meta name="robots" content="noindex" />\n'
    context["metatags"] = f"{context.get('metatags', '')}\n{more}"
    if page == "404":
        context["content_root"] = app.config.notfound_urls_prefix


def sitemap(app: Sphinx) -> str:
    """The addresses of all pages, in the order of the book."""
    base, order = app.config.html_baseurl, list[str]()

    def walk(page: str) -> None:
        order.append(page)
        for child in app.env.toctree_includes.get(page, []):
            if child not in order:
                walk(child)

    walk(app.config.root_doc)
    order += sorted(app.env.found_docs - set(order))
    lines = "\n".join(
        f"<url><loc>{escape(base + app.builder.get_target_uri(page))}</loc></url>" for page in order
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{lines}\n</urlset>\n'
    )


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write what is no page: the sitemap, robots.txt, and the way from the root to the book."""
    if exception or app.builder.name != "html":
        return
    page = app.builder.get_target_uri(app.config.root_doc)
    front = FRONT.format(
        language=app.config.language,
        title=escape(app.config.html_title),
        page=page,
        address=app.config.html_baseurl + page,
        tags=app.front_tags,  # type: ignore[attr-defined]
    )
    robots = f"User-agent: *\nAllow: /\nSitemap: {app.config.html_baseurl}sitemap.xml\n"
    for name, text in (
        ("index.html", front),
        ("robots.txt", robots),
        ("sitemap.xml", sitemap(app)),
    ):
        Path(app.outdir, name).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("notfound.extension")
    app.connect("config-inited", settle, priority=100)  # before notfound looks at its prefix
    app.connect("html-page-context", finish_page, priority=950)
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
