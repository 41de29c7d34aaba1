"""The slides of the chapters: they say what the pages say, and nothing is cut off."""

import io
import re
import tomllib
from pathlib import Path, PurePosixPath

import pikepdf
import pytest
from site_ext.slide_reader import LONG

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CONTROLS = tomllib.loads((ROOT / "tools/site_ext/slides.toml").read_text())["controls"]
SMALLEST = 0.7  # of the usual size: 20 pixels on a slide 1280 wide


def words(*tags):
    """What is read, without the signs that link to a heading."""
    text = " ".join(tag.get_text() for tag in tags)
    return " ".join(text.replace("#", " ").split())


@pytest.fixture(params=CHAPTERS)
def both(request, pages):
    """The article of a page, and the slides made from it."""
    article = pages[f"notebooks/{request.param}.html"].select_one("article.bd-article")
    return article, pages[f"slides/{request.param}.html"]


def place(slide):
    """What a slide shows, as an id on the page."""
    return slide.select_one("footer a")["href"].partition("#")[2]


def test_statements_are_those_of_the_page(both):
    article, deck = both
    expected = {
        tag["id"]: words(tag.select_one(".admonition-title"), tag.find("section"))
        for tag in article.select("div.proof")
        if tag.select_one(".caption-number")
    }
    shown = {}
    for slide in deck.select(".slide.is-statement"):
        box = slide.select_one(".statement")
        parts = list(box.find_all(True, recursive=False))
        if place(slide) in shown:  # continued
            assert parts[0].get_text().endswith("(continued)")
            assert len(expected[place(slide)]) > LONG
            parts = parts[1:]
        shown[place(slide)] = f"{shown.get(place(slide), '')} {words(*parts)}".strip()
    assert shown == expected
    assert list(shown) == list(expected)
    assert "Proof" not in words(*deck.select(".slide h3"))


def test_every_figure_is_shown_once(both):
    article, deck = both
    expected = [
        (tag["id"], words(tag.figcaption), tag.img["alt"], PurePosixPath(tag.img["src"]).name)
        for tag in article.find_all("figure")
    ]
    shown = []
    for slide in deck.select(".slide.is-figure"):
        (tag,) = slide.find_all("figure")
        control = tag.select_one(".control")
        assert bool(control) == (place(slide) in CONTROLS)
        if control:
            assert words(control.extract()) == f"Control {CONTROLS[place(slide)]}"
        name = PurePosixPath(tag.img["src"]).name
        shown.append((place(slide), words(tag.figcaption), tag.img["alt"], name))
    assert shown == expected


def test_slides_keep_the_order_of_the_page(both):
    article, deck = both
    ids = [tag["id"] for tag in article.find_all(id=True)]
    places = [ids.index(place(slide)) for slide in deck.select(".slide")]
    question = [slide for slide in deck.select(".slide") if "is-question" in slide["class"]]
    assert len(question) <= 1
    # The question stands in the first section, among its figures.
    rest = [
        p for p, slide in zip(places, deck.select(".slide"), strict=True) if slide not in question
    ]
    assert rest == sorted(rest)
    numbers = [slide["id"] for slide in deck.select(".slide")]
    assert numbers == [str(k) for k in range(1, len(numbers) + 1)]
    kinds = [slide["class"][1] for slide in deck.select(".slide")]
    assert kinds[0] == "is-title"
    assert kinds[-1] == "is-exercises"


def test_title_summary_and_exercises(both):
    article, deck = both
    number, title = article.h1.get_text().rstrip("#").split(". ", 1)
    assert words(deck.h1) == title.strip()
    assert number.split(".")[0] in words(deck.select_one(".chapter"))
    assert title.strip().endswith("?")

    (exercises,) = [h for h in article.find_all("h2") if re.search(r"\bExercises", h.get_text())]
    summary = exercises.parent.find_previous_sibling("section")
    shown = " ".join(words(s.select_one(".inner")) for s in deck.select(".slide.is-summary"))
    assert shown == words(*summary.find_all(["p", "ul", "ol"], recursive=False))

    listed = [words(link) for link in deck.select(".exercises li > a:first-child")]
    assert listed == [words(t) for t in article.select("div.exercise .caption-number")]
    assert len(listed) >= 6
    hows = {words(tag) for tag in deck.select(".exercises .how")}
    assert (
        {"By hand", "By code", "Open"}
        <= hows
        <= {"By hand", "By hand and by code", "By code", "Open"}
    )


def test_a_control_is_drawn_or_named_in_its_figure(pages):
    figures = {
        tag["id"]: tag
        for name in CHAPTERS
        for tag in pages[f"notebooks/{name}.html"].select("figure[id]")
    }
    for label in CONTROLS:
        cell = figures[label].find_parent("div", class_="cell")
        said = words(figures[label].figcaption) + words(cell.select_one(".cell_input"))
        assert re.search(r"CONTROL|control", said), f"{label}: no control in it"


def test_slides_are_linked(pages):
    index = {link["href"] for link in pages["slides/index.html"].select(".decks a")}
    assert index == {f"{name}.html" for name in CHAPTERS}
    for name in CHAPTERS:
        buttons = pages[f"notebooks/{name}.html"].select(".article-header-buttons a[href]")
        assert f"../slides/{name}.html" in [button["href"] for button in buttons], name


# ---------------------------------------------------------------------------------- in a browser

CUT_OFF = """() => [...document.querySelectorAll(".slide")].flatMap((slide) => {
  const frame = slide.getBoundingClientRect(), body = slide.querySelector(".body");
  const inner = body.getBoundingClientRect(), found = [];
  const out = (box, edge) => box.width && (box.left < edge.left - 1 || box.top < edge.top - 1 ||
    box.right > edge.right + 1 || box.bottom > edge.bottom + 1);
  for (const part of body.querySelectorAll("p, li, h3, img, figcaption, mjx-container > svg"))
    if (out(part.getBoundingClientRect(), inner)) found.push(part.outerHTML.slice(0, 150));
  for (const part of slide.querySelectorAll(":scope > header *, :scope > footer > *"))
    if (out(part.getBoundingClientRect(), frame)) found.push(part.outerHTML.slice(0, 150));
  for (const image of slide.querySelectorAll("img"))
    if (!image.naturalWidth) found.push(`not loaded: ${image.src}`);
  return found.map((what) => [slide.id, what]);
})"""


@pytest.fixture
def open_deck(browser, site):
    """Open slides when they are typeset and fitted; `tab.errors` as of `open_page`."""
    contexts = []

    def open_deck(name, after="", size=(1280, 720), scheme="light", **options):
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.requests, tab.errors = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.on("console", lambda m: tab.errors.append(m.text) if m.type == "error" else None)
        tab.goto((site / "slides" / f"{name}.html").as_uri() + after)
        tab.wait_for_function("document.documentElement.dataset.fitted")
        return tab

    yield open_deck
    for context in contexts:
        context.close()


def violations(tab, rules=None):
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = Axe().run(tab, context={"exclude": [["mjx-container"]]}, options=options)
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found.response["violations"]]


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_slides_are_whole_and_accessible(name, open_deck):
    tab = open_deck(name)
    assert not [url for url in tab.requests if not url.startswith(("file:", "data:"))]
    assert not tab.errors
    assert not tab.locator("[data-mjx-error], mjx-merror").count()
    assert tab.locator("span.math, div.math").count() == tab.locator("mjx-container").count() > 0
    assert tab.evaluate(CUT_OFF) == []
    sizes = tab.evaluate(
        "() => [...document.querySelectorAll('.slide')]"
        ".map(s => [s.dataset.key, parseFloat(s.style.getPropertyValue('--fit'))])"
    )
    assert not [(key, size) for key, size in sizes if size < SMALLEST], "too small to be read"
    # All slides at once, as without scripts; then the list; then the colours of the night.
    tab.evaluate("document.documentElement.classList.remove('js')")
    assert violations(tab) == []
    tab.emulate_media(color_scheme="dark")
    assert violations(tab, ["color-contrast"]) == []


def at(tab):
    """The number of the slide that is seen."""
    (here,) = tab.evaluate(
        "() => [...document.querySelectorAll('.slide')]"
        ".filter(s => getComputedStyle(s).visibility === 'visible').map(s => Number(s.id))"
    )
    assert tab.evaluate("location.hash").split("&")[0] == f"#{here}"
    assert tab.locator("#count").inner_text().startswith(f"{here} /")
    assert tab.evaluate("document.activeElement.id") == str(here), "not where a reader hears it"
    return here


@pytest.mark.browser
def test_keys_lead_from_slide_to_slide(open_deck):
    tab = open_deck(CHAPTERS[0])
    last = tab.locator(".slide").count()
    steps = [("ArrowRight", 2), ("Space", 3), ("ArrowDown", 4), ("PageDown", 5), ("ArrowLeft", 4)]
    steps += [("Shift+Space", 3), ("ArrowUp", 2), ("PageUp", 1), ("ArrowLeft", 1), ("End", last)]
    steps += [("ArrowRight", last), ("Home", 1)]
    assert at(tab) == 1
    for key, expected in steps:
        tab.keyboard.press(key)
        assert at(tab) == expected, key
    tab.evaluate("location.hash = '#5'")
    tab.wait_for_function("document.querySelector('#count').textContent.startsWith('5 ')")
    assert at(tab) == 5
    tab.locator("#on").click()
    assert at(tab) == 6
    tab.locator("#back").press("Space")  # a button's own key
    assert at(tab) == 5


@pytest.mark.browser
def test_slides_can_be_left_out(open_deck):
    tab = open_deck(CHAPTERS[0], "#1&without=nobody,exercises")
    last = tab.locator(".slide").count()
    tab.keyboard.press("End")
    assert at(tab) == last - 1
    tab.keyboard.press("Home")
    tab.locator("#all").click()
    assert violations(tab) == []
    assert not tab.get_by_label(f"Show slide {last}", exact=True).is_checked()
    tab.get_by_label("Show slide 2", exact=True).uncheck()
    tab.locator("#list ol a").nth(0).click()
    tab.keyboard.press("ArrowRight")
    assert at(tab) == 3
    key = tab.locator(".slide").nth(1).get_attribute("data-key")
    assert set(tab.evaluate("location.hash").partition("=")[2].split(",")) == {key, "exercises"}
    printed = sheets(tab)
    assert printed == last - 2
    tab.locator("#all").click()
    tab.get_by_role("button", name="Show all").click()
    assert tab.evaluate("location.hash") == "#3"


def sheets(tab):
    """How many sheets the slides are on paper."""
    with pikepdf.open(io.BytesIO(tab.pdf(prefer_css_page_size=True))) as paper:
        width, height = (float(size) for size in paper.pages[0].mediabox[2:])
        assert width / height == pytest.approx(16 / 9, rel=0.01)
        return len(paper.pages)


@pytest.mark.browser
def test_on_a_phone_a_swipe_turns_and_text_is_as_large_as_on_a_page(open_deck):
    tab = open_deck(CHAPTERS[0], size=(390, 780), has_touch=True, is_mobile=True)
    swipe = """([from, to]) => ["touchstart", "touchend"].forEach((kind, k) => {
      const touch = new Touch({identifier: 1, target: document.body, clientY: 300,
                               clientX: [from, to][k]});
      const lists = k ? {changedTouches: [touch]} : {touches: [touch], changedTouches: [touch]};
      document.body.dispatchEvent(new TouchEvent(kind, {bubbles: true, ...lists}));
    })"""
    for ends, expected in (((300, 100), 2), ((300, 280), 2), ((300, 100), 3), ((100, 300), 2)):
        tab.evaluate(swipe, ends)
        assert at(tab) == expected
    small = tab.evaluate(
        "() => [...document.querySelectorAll('.inner p:not(.control), .inner li')]"
        ".filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length"
    )
    assert small == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.keyboard.press("End")  # longer than the screen
    below = tab.evaluate("document.documentElement.scrollHeight")
    assert below >= tab.evaluate("document.querySelector('.slide.here').scrollHeight") > 780


@pytest.mark.browser
def test_without_scripts_all_slides_stand_below_one_another(browser, site):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((site / "slides" / f"{CHAPTERS[0]}.html").as_uri())
    assert all(slide.is_visible() for slide in tab.locator(".slide").all())
    assert not tab.locator("nav.controls").is_visible()
    tops = [slide.bounding_box()["y"] for slide in tab.locator(".slide").all()]
    assert tops == sorted(set(tops))
    context.close()
