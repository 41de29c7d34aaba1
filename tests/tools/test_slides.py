"""Slides of a small chapter: what is shown, in which order, under which number, and what is not."""

from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from site_ext import slides
from site_ext.slide_pages import deck_page, index_page
from site_ext.slide_reader import LONG, ROOM, NoSlides, Reader, halves
from sphinx.errors import ExtensionError

PAGE = "notebooks/01_one"
SVG = '<?xml version="1.0"?>\n<svg width="{}pt" height="{}pt" viewBox="0 0 1 1"></svg>'


def heading(level, number, text, name):
    link = f'<a class="headerlink" href="#{name}">#</a>'
    span = f'<span class="section-number">{number}. </span>'
    return f"<h{level}>{span}{text}{link}</h{level}>"


def statement(name, number, title, text, kind="theorem"):
    return f"""<div class="proof {kind} admonition" id="{name}"><p class="admonition-title">
<span class="caption-number">{number} </span> ({title})</p><section class="{kind}-content">
{text}</section></div><div class="proof dropdown admonition"><p class="admonition-title">Proof</p>
<p>Secret.</p></div>"""


def figure(name, number, file="a.svg", more=""):
    return f"""<figure class="align-default" id="{name}"><img alt="A line &amp; a dot."
src="../_images/{file}"/><figcaption><p><span class="caption-number">{number} </span><span
class="caption-text">A caption{more}.</span><a class="headerlink" href="#{name}">#</a></p>
</figcaption></figure>"""


def exercise(name, number, text):
    return f"""<div class="exercise admonition" id="{name}"><p class="admonition-title"><span
class="caption-number">Exercise {number} </span></p><section><p>{text}</p></section></div>
<div class="solution dropdown admonition"><p>Solved.</p></div>"""


FIRST = f"""{heading(2, "1.1", "Two models", "two")}<p>Look?</p>{figure("fig-a", "Fig. 1.1")}
<div class="cell_input"><pre><span>plot()</span> <figure id="no"></figure></pre></div>
<p>Both fit. Which one?</p><p>Read on.</p>"""
SECOND = f"""{heading(2, "1.2", "The answer", "answer")}
{statement("thm-a", "Theorem 1.1", "One", '<p id="par">See <a href="#two">there</a>.</p>')}
<section id="sub">{heading(3, "1.2.1", "Finer", "sub")}{figure("fig-b", "Fig. 1.2", "b.svg")}
{statement("lem-a", "Lemma 1.1", "Two", "<p>So.</p>", "lemma")}</section>
<details class="admonition"><summary>More</summary>{figure("fig-c", "Fig. 1.3")}</details>
<p>Not asked?</p>"""
SUMMARY = f"""{heading(2, "1.3", "What it means", "means")}<p>One.</p><p>{"long " * 130}</p>
<p>Last, <a href="../book/x.html">x</a>.</p>"""
LONGER = "Is 1 &lt; 2 one of those that take more than a line to prove?"
EXERCISES = f"""{heading(2, "1.4", "Exercises", "exercises")}
{exercise("ex-a", "1.1", f"<strong>By hand.</strong> Let <em>x.</em> be M24. {LONGER} Find it.")}
{exercise("ex-b", "1.2", "<strong>Open.</strong> What is it?")}"""
LEAD = "<p>The lead.</p><p><em>Reading time: long.</em></p><div class='cell'></div><p></p>"


def page(**changes):
    parts = {"two": FIRST, "answer": SECOND, "means": SUMMARY, "exercises": EXERCISES, **changes}
    sections = "".join(f'<section id="{k}">{text}</section>' for k, text in parts.items())
    return f"""<html><head><script>window.MathJax = {{"a": 1}}</script></head><body>
<article class="bd-article"><section id="one">{heading(1, "1", "Which <em>one</em>?", "one")}{LEAD}
{sections}<section id="claims"><h2>The claims</h2>{figure("fig-d", "Fig. 1.4")}</section></section>
</article><footer><span class="edition">Version 1, today.</span></footer></body></html>"""


@pytest.fixture
def site(tmp_path):
    for name in ("notebooks", "_images"):
        (tmp_path / name).mkdir()
    (tmp_path / "_images" / "a.svg").write_text(SVG.format(300, 200))
    (tmp_path / "_images" / "b.svg").write_text(SVG.format("100.5", 201))
    (tmp_path / f"{PAGE}.html").write_text(page())
    return tmp_path


def read(site, text=None, controls=None):
    if text:
        (site / f"{PAGE}.html").write_text(text)
    return Reader(site, PAGE, controls or {}).deck()


def test_what_is_shown_in_which_order(site):
    """Figures that are folded away, or in the text of code, are not shown; exercises end it."""
    deck = read(site)
    assert [slide.key for slide in deck.slides] == [
        *("title", "fig-a", "question", "thm-a", "fig-b", "lem-a"),
        *("summary-1", "summary-2", "summary-3", "fig-d", "exercises"),
    ]


def test_the_title_the_lead_and_the_question(site):
    deck = read(site)
    assert (deck.number, deck.title, deck.chapter) == ("1", "Which <em>one</em>?", "1")
    assert deck.slides[0].body == "<p>The lead.</p>"
    assert deck.slides[2].body == "<p>Both fit. Which one?</p>"
    assert deck.mathjax == 'window.MathJax = {"a": 1}'
    assert deck.edition == "Version 1, today"


def test_a_statement_has_its_number_and_name_and_no_proof(site):
    theorem, lemma = (slide for slide in read(site).slides if slide.kind == "statement")
    soup = BeautifulSoup(theorem.body, "html.parser")
    assert " ".join(soup.h3.get_text().split()) == "Theorem 1.1 (One)"
    assert soup.p.decode() == '<p>See <a href="../notebooks/01_one.html#two">there</a>.</p>'
    assert "Secret" not in theorem.body
    assert theorem.heading.endswith("The answer")
    assert 'class="statement lemma"' in lemma.body
    assert lemma.heading.endswith("Finer")


def test_a_figure_has_its_caption_its_words_and_its_control(site):
    one, two, *_ = (slide for slide in read(site, controls={"fig-b": "dotted."}).slides[1:5:3])
    soup = BeautifulSoup(one.body, "html.parser")
    assert soup.img["alt"] == "A line & a dot."
    assert soup.img["src"] == "../_images/a.svg"
    assert " ".join(soup.figcaption.get_text().split()) == "Fig. 1.1 A caption."
    assert "--aspect: 1.500" in one.body
    assert "--aspect: 0.500" in two.body
    assert BeautifulSoup(two.body, "html.parser").select_one(".control").get_text() == (
        "Control dotted."
    )


def test_the_summary_has_a_thought_on_each_slide(site):
    bodies = [slide.body for slide in read(site).slides if slide.kind == "summary"]
    assert [body.count("<p>") for body in bodies] == [1, 1, 1]
    assert "../book/x.html" in bodies[-1]
    short = page(means=f"<h2>Means</h2><p>One.</p><p>{'a' * (ROOM - 4)}</p><p>b</p>")
    bodies = [slide.body for slide in read(site, short).slides if slide.kind == "summary"]
    assert [body.count("<p>") for body in bodies] == [2, 1]


def test_exercises_are_listed_by_how_they_begin(site):
    (slide,) = (slide for slide in read(site).slides if slide.kind == "exercises")
    rows = BeautifulSoup(slide.body, "html.parser").find_all("li")
    assert "1 &lt; 2" in slide.body
    assert [" ".join(row.get_text().split()) for row in rows] == [
        "Exercise 1.1 By hand Let x. be M24. Is 1 < 2 one of those that take more than a line to "
        "prove? …",
        "Exercise 1.2 Open What is it?",
    ]
    assert rows[0].a["href"] == "../notebooks/01_one.html#ex-a"


def test_a_long_statement_is_continued_between_paragraphs():
    text = f"<p>{'a' * 700}</p><div>formula</div><p>b</p><p>{'c' * 700}</p><p>d</p>"
    parts = BeautifulSoup(text, "html.parser").find_all(True)
    first, second = halves(parts)
    assert [part.get_text()[0] for part in first] == ["a", "f", "b"]
    assert [part.get_text()[0] for part in second] == ["c", "d"]
    assert sum(len(part.get_text()) for part in parts) > LONG
    assert halves(parts[:3]) == [parts[:3]]


def test_a_continued_statement_keeps_its_number_and_place(site):
    long = statement("thm-l", "Theorem 1.9", "Long", f"<p>{'a ' * 400}</p><p>{'b ' * 400}</p>")
    one, two = (s for s in read(site, page(answer=f"<h2>A</h2>{long}")).slides if "thm" in s.key)
    assert (one.key, two.key, two.name) == ("thm-l", "thm-l-2", "Theorem 1.9 (continued)")
    assert one.place == two.place == "thm-l"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bd-article", "other", "no article"),
        ('class="section-number"', "", "no number"),
        ("Exercises", "Tasks", 'no section "Exercises"'),
        ('class="exercise', 'class="task', "holds none"),
        ('id="fig-a"', "", "a figure lacks"),
        ("A line &amp; a dot.", "", "a figure lacks"),
        ("a.svg", "z.svg", "size of"),
        ('id="thm-a"', "", "a statement has no"),
    ],
)
def test_what_no_slides_can_be_made_of_is_said(site, old, new, message):
    with pytest.raises(NoSlides, match=message):
        read(site, page().replace(old, new))


def test_a_page_of_slides_links_each_to_its_place(site):
    deck = read(site)
    soup = BeautifulSoup(deck_page(deck, "The <book>"), "html.parser")
    places = [slide.select_one("footer a")["href"] for slide in soup.select(".slide")]
    assert places == [f"../{PAGE}.html#{slide.place}" for slide in deck.slides]
    assert [slide["id"] for slide in soup.select(".slide")] == [
        str(k + 1) for k in range(len(deck.slides))
    ]
    values = [box["value"] for box in soup.select("#list input")]
    assert values == [slide["data-key"] for slide in soup.select(".slide")]
    assert soup.select_one('meta[name="robots"]')["content"] == "noindex"
    assert soup.title.string == "Slides: 1. Which one?"
    assert "The <book>" in soup.select_one(".is-title footer").get_text()
    index = BeautifulSoup(index_page([deck], "Book"), "html.parser")
    assert index.select_one(".decks a")["href"] == "01_one.html"
    assert f"{len(deck.slides)} slides" in index.get_text()


def application(site, found):
    config = SimpleNamespace(html_title="Book", project="")
    return SimpleNamespace(
        outdir=str(site),
        builder=SimpleNamespace(name="html"),
        config=config,
        env=SimpleNamespace(found_docs=found),
    )


def test_the_build_writes_slides_of_chapters_alone(site, monkeypatch):
    monkeypatch.setattr(slides, "read_controls", lambda: {"fig-a": "dotted."})
    slides.write_slides(application(site, {PAGE, "book/index"}), None)
    assert sorted(p.name for p in (site / "slides").iterdir()) == ["01_one.html", "index.html"]
    assert "dotted." in (site / "slides" / "01_one.html").read_text()


def test_a_control_in_a_figure_that_is_gone_stops_the_build(site, monkeypatch):
    monkeypatch.setattr(slides, "read_controls", lambda: {"fig-z": "dotted."})
    with pytest.raises(ExtensionError, match=r"slides\.toml names the control in fig-z"):
        slides.write_slides(application(site, {PAGE}), None)


def test_chapters_have_a_button_that_leads_to_their_slides():
    context = {"header_buttons": [{"type": "group"}]}
    slides.add_button(None, PAGE, "page.html", context, None)
    assert context["header_buttons"][0]["url"] == "../slides/01_one.html"
    assert len(context["header_buttons"]) == 2
    slides.add_button(None, "book/index", "page.html", context, None)
    assert len(context["header_buttons"]) == 2
