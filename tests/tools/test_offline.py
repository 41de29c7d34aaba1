"""What is mended on every page, and what counts as asking the network."""

import re
from types import SimpleNamespace

import pytest
from site_ext import offline

BADGE = f'<p><img alt="Open in Colab" src="{offline.COLAB_BADGE}"></p>'


def finish(body, scripts=(), monkeypatch=None):
    """The context of a page after `finish_page`, and the warnings it gave."""
    said = []
    if monkeypatch:
        monkeypatch.setattr(offline.logger, "warning", lambda *words, **_: said.append(words[1]))
    context = {
        "body": body,
        "pathto": lambda name, _resource: f"../{name}",
        "script_files": [SimpleNamespace(filename=name) for name in scripts],
        "css_files": [],
    }
    offline.finish_page(None, "page", "page.html", context, None)
    return context, said


def test_a_folded_proof_has_a_title():
    body = '<div class="proof dropdown admonition" id="proof">\n<p>Proof. By <b>size</b>.</p></div>'
    assert offline.mend_body(body) == (
        '<div class="proof dropdown admonition">\n'
        '<p class="admonition-title">Proof</p>\n<p>By <b>size</b>.</p></div>'
    )
    open_proof = '<div class="proof admonition">\n<p>Proof. By size.</p></div>'
    assert offline.mend_body(open_proof) == open_proof


def test_theorems_keep_their_label_and_lose_repeated_ids():
    body = '<div class="proof theorem admonition" id="ch1-a"><section id="proof-content"></section>'
    assert offline.mend_body(body) == (
        '<div class="proof theorem admonition" id="ch1-a"><section></section>'
    )


def test_a_formula_keeps_its_comma():
    x = '<span class="math notranslate nohighlight">\\(x&lt;1\\)</span>'
    body = f"<p>If {x}, then (with {x}) {x}-norms of ({x}, {x}) are <em>{x}</em> here: {x} too.</p>"
    mended = offline.mend_body(body)
    close = re.findall(r'<span class="close">(.*?</span>[^<]*)</span>', mended)
    assert close == [f"{x},", f"{x})", f"{x}-norms", f"({x},", f"{x})"]
    assert re.sub(r'<span class="close">(.*?</span>[^<]*)</span>', r"\1", mended) == body


@pytest.mark.parametrize(
    "body",
    [
        '<script defer src="https://example.org/x.js"></script>',
        "<img alt='x' src='//example.org/x.png'>",
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<style>@import url("https://example.org/x.css");</style>',
        '<iframe title="x" src="http://example.org/x"></iframe>',
    ],
)
def test_what_a_browser_would_fetch_is_a_warning(body, monkeypatch):
    _, said = finish(body, monkeypatch=monkeypatch)
    assert len(said) == 1
    assert "example.org/x" in said[0]


def test_so_is_a_script_that_an_extension_adds(monkeypatch):
    _, said = finish("", ["https://example.org/x.js", "book.js"], monkeypatch)
    assert said == ["https://example.org/x.js"]


def test_links_and_the_badge_are_not(monkeypatch):
    link = '<a href="https://example.org/x.js">x</a> <img alt="y" src="../_images/y.svg">'
    context, said = finish(BADGE + link, monkeypatch=monkeypatch)
    assert not said
    assert 'src="../_static/colab-badge.svg"' in context["body"]


def test_mathematics_is_loaded_where_there_is_some():
    scripts = ["book.js", "mathjax/tex-svg.js", "sphinx-thebe.js"]
    for body, expected in {
        "<p>none</p>": scripts[:1],
        '<span class="math notranslate">x</span>': scripts[:2],
    }.items():
        context, _ = finish(body, scripts)
        assert [file.filename for file in context["script_files"]] == expected


def test_so_are_cards_and_tabs():
    scripts = ["book.js", "sphinx-design.min.css", "design-tabs.js"]
    for body, expected in {
        '<p class="used-to">none</p>': scripts[:1],
        '<div class="docutils sd-card">x</div>': scripts,
    }.items():
        context, _ = finish(body, scripts)
        assert [file.filename for file in context["script_files"]] == expected
