"""Descriptions and addresses of pages, on small documents."""

from types import SimpleNamespace

import pytest
import rehome
from docutils import nodes
from site_ext import published


def document(*paragraphs):
    """A document of one section; in a paragraph, text between dollars is a formula."""
    section = nodes.section()
    for text in paragraphs:
        paragraph = nodes.paragraph()
        for k, part in enumerate(text.split("$")):
            paragraph += nodes.math(part, part) if k % 2 else nodes.Text(part)
        section += paragraph
    tree = nodes.document(None, None)
    tree += section
    return tree


LONG = "This sentence is long enough to stand for a page by itself, as it has eighty characters."


@pytest.mark.parametrize(
    ("paragraphs", "expected"),
    [
        ([LONG], LONG),
        ([LONG, LONG], LONG),
        (["A subtitle", LONG], LONG),  # no sentence
        (["Reading time: an hour.", LONG], LONG),
        (["It computes $x$ only. It ends. Where is $y$? No.", LONG], f"It ends. {LONG}"),
        (["Four sources [A and B, 2018, C, 2019] say so.", LONG], f"Four sources say so. {LONG}"),
        ([f"{LONG} {LONG} {LONG}"], f"{LONG} {LONG}"),  # at most 200 characters
        (["$x$"], ""),
    ],
)
def test_a_description_is_whole_sentences_without_mathematics(paragraphs, expected):
    assert published.description(document(*paragraphs)) == expected


def settled(**options):
    """The configuration of a book at example/book, after `settle`."""
    config = SimpleNamespace(
        html_baseurl=options.get("baseurl", ""),
        html_theme_options={"repository_url": options.get("repository"), "extra_footer": "Free."},
        root_doc="book/index",
    )
    published.settle(SimpleNamespace(srcdir=rehome.ROOT), config)
    return config


def test_the_sites_address_follows_from_the_repositorys():
    config = settled(repository="https://github.com/example/book")
    assert config.html_baseurl == "https://example.github.io/book/"
    assert config.notfound_urls_prefix == "/book/"
    assert 'href="/book/book/index.html"' in config.notfound_context["body"]
    assert config.html_theme_options["extra_footer"].startswith("Free. <span")


def test_a_domain_of_its_own_comes_first():
    config = settled(repository="https://github.com/example/book", baseurl="https://book.org")
    assert config.html_baseurl == "https://book.org/"
    assert config.notfound_urls_prefix == "/"


def test_without_a_repository_on_github_it_says_so():
    with pytest.raises(rehome.BadAddress, match="Give it as"):
        settled(repository="https://example.org/a/b")
