"""The built site in a browser: no request leaves, mathematics, search, filters, phones, axe."""

import re
from urllib.parse import urlsplit

import pytest
import weights

pytestmark = pytest.mark.browser

# Faults of the theme that no override of ours mends, one by one. There are none.
TOLERATED: set[str] = set()


def elsewhere(requests):
    return [
        url
        for url in requests
        if urlsplit(url).scheme not in ("file", "data", "blob", "about")
        and urlsplit(url).hostname != "127.0.0.1"
    ]


def look_at(tab, name):
    """Nothing came from elsewhere, nothing failed, all mathematics is typeset."""
    assert not elsewhere(tab.requests), f"{name} asks for {elsewhere(tab.requests)}"
    assert not tab.errors, f"{name}: {tab.errors}"
    left = tab.evaluate(
        "() => [...document.querySelectorAll('span.math, div.math')]"
        ".filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)"
    )
    assert not left, f"{name}: not typeset: {left[:3]}"
    broken = tab.locator("[data-mjx-error], mjx-merror").evaluate_all(
        "es => es.map(e => e.getAttribute('data-mjx-error') || e.textContent)"
    )
    assert not broken, f"{name}: bad TeX: {broken[:3]}"


def test_every_page_is_light_on_a_phone_and_loads_without_an_error(any_page, address, open_page):
    tab = open_page(f"{address}/{any_page}", width=400)
    tab.wait_for_load_state("networkidle")
    look_at(tab, any_page)
    found = weights.weigh(tab.requests)
    heaviest = sorted(found.items(), key=lambda item: -item[1])[:4]
    assert sum(found.values()) <= weights.BUDGET, (
        f"{any_page} weighs {sum(found.values())} bytes gzipped, which a phone on a slow network "
        f"waits for: {heaviest}"
    )
    width = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    worst = tab.evaluate(
        "() => [...document.querySelectorAll('#main-content *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".slice(0, 3).map(e => e.outerHTML.slice(0, 120))"
    )
    assert width <= 1, f"{any_page} scrolls sideways on a phone by {width} px: {worst}"
    claims = tab.locator(".cell_output .ledger-rows")
    assert claims.count() == any_page.startswith("notebooks/")
    hidden = claims.evaluate_all("es => es.filter(e => e.scrollWidth > e.clientWidth + 1).length")
    assert not hidden, f"{any_page}: what its claims measure lies out of sight on a phone"


def test_pictures_come_with_the_reader_and_push_nothing_away(chapters, address, open_page):
    """Opening a chapter fetches few of its pictures, reading it all; no line moves meanwhile."""
    for name in chapters:
        tab = open_page(f"{address}/{name}", width=400)
        tab.wait_for_load_state("networkidle")
        images = tab.locator(".bd-article figure img")
        wanted = set(images.evaluate_all("es => es.map(e => e.src)"))
        assert len(wanted & set(tab.requests)) < len(wanted), f"{name} fetches all pictures at once"
        places = "() => [...document.querySelectorAll('h2, figure')].map(e => e.offsetTop)"
        before = tab.evaluate(places)
        for image in images.all():
            image.scroll_into_view_if_needed()
            loaded = "image => image.complete && image.naturalWidth > 0"
            tab.wait_for_function(loaded, arg=image.element_handle(), timeout=10_000)
        after = tab.evaluate(places)
        moved = max(abs(one - other) for one, other in zip(before, after, strict=True))
        assert moved <= 2, f"{name}: its pictures move the text by {moved} px"


@pytest.mark.parametrize(
    "name", ["book/index", "notebooks/01_minimum_norm", "book/ledger", "search"]
)
def test_from_a_disk_too(name, site, open_page):
    tab = open_page((site / f"{name}.html").as_uri())
    tab.wait_for_load_state("networkidle")
    look_at(tab, name)
    raw = tab.locator("span.math, div.math").count()
    assert raw or not name.startswith("notebooks"), f"{name} holds no mathematics"


def test_a_solution_opens(chapters, site, open_page):
    for name in (chapters[0], chapters[-1]):
        tab = open_page((site / name).as_uri())
        for kind in ("solution", "proof"):
            folded = tab.locator(f"div.{kind}.dropdown")
            assert folded.count(), f"{name} has no folded {kind}"
            box, text = folded.first, folded.first.locator("p:not(.admonition-title)").first
            button = box.locator("button.toggle-button")
            assert not text.is_visible(), f"{name}: a {kind} lies open"
            assert button.get_attribute("aria-expanded") == "false"
            button.focus()
            tab.keyboard.press("Enter")  # as readers without a mouse do
            assert text.is_visible(), f"{name}: a {kind} does not open"
            assert button.get_attribute("aria-expanded") == "true"
        assert not tab.errors, f"{name}: {tab.errors}"
        tab.context.close()


FOCUS = """() => {
  const e = document.activeElement, box = e.getBoundingClientRect();
  const part = {".skip-link": "skip", ".search-button-field": "search", ".bd-sidebar-primary":
    "menu", ".bd-header-article": "tools", ".bd-article": "text", ".prev-next-footer": "next"};
  const place = Object.keys(part).find((p) => e.closest(p));
  const ring = getComputedStyle(e);
  return {place: part[place] ?? "other", tag: e.tagName, width: box.width,
    ring: ring.outlineStyle !== "none" || ring.boxShadow !== "none",
    html: e.outerHTML.slice(0, 120)};
}"""


def test_the_tab_key_goes_through_a_chapter_in_the_order_of_reading(site, open_page, chapters):
    tab = open_page((site / chapters[0]).as_uri())
    stops = []
    while len(stops) < 300:
        tab.keyboard.press("Tab")
        stop = tab.evaluate(FOCUS)
        if stop["tag"] == "BODY":  # once around
            break
        stops.append(stop)
    places = [stop["place"] for stop in stops]
    assert places[0] == "skip"
    first = {name: places.index(name) for name in ("search", "menu", "tools", "text", "next")}
    # The title, in the menu's column, links to the front page before the search.
    places[1] = "skip" if places[1] == "menu" else places[1]
    first["menu"] = places.index("menu")
    assert list(first.values()) == sorted(first.values()), first
    formulas = [stop for stop in stops if stop["tag"] == "MJX-CONTAINER"]
    assert len(formulas) < 10, "the reader presses Tab at every formula"
    unseen = [stop["html"] for stop in stops[:60] if stop["width"] < 1 or not stop["ring"]]
    assert not unseen, f"focus cannot be seen: {unseen}"


def test_the_skip_link_leads_to_the_text(site, open_page, chapters):
    tab = open_page((site / chapters[0]).as_uri())
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("() => !!document.activeElement.closest('#main-content')")


def test_a_wide_formula_can_be_scrolled_from_the_keyboard(site, open_page, chapters):
    tab = open_page((site / chapters[0]).as_uri(), width=400)
    tab.wait_for_function("document.querySelectorAll('mjx-container[tabindex=\"0\"]').length")
    unreached = tab.evaluate(
        """() => [...document.querySelectorAll("div.math, mjx-container")].filter((box) =>
          box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto" &&
          !box.closest("[tabindex='0']") && !box.querySelector("[tabindex='0']")
        ).map((box) => box.outerHTML.slice(0, 200))"""
    )
    assert not unreached, unreached


def test_no_line_begins_with_the_comma_after_a_formula(site, open_page, chapters):
    for name in chapters[:2]:
        tab = open_page((site / name).as_uri(), width=400)
        tab.wait_for_function("document.querySelector('mjx-container')")
        lines = tab.locator(".bd-article p > span.close:visible").evaluate_all(
            """spans => spans.filter(
              (span) => span.lastChild.nodeType === Node.TEXT_NODE && !span.querySelector(".wide")
            ).map((span) => {
              const range = document.createRange();
              range.selectNodeContents(span.lastChild);
              const box = span.querySelector("mjx-container").getBoundingClientRect();
              const end = range.getBoundingClientRect();
              return [end.left >= box.right - 1 && end.top < box.bottom, span.textContent];
            })"""
        )
        broken = [text for together, text in lines if not together]
        assert len(lines) > 30
        assert not broken, f"{name}: {len(broken)} of {len(lines)} broken: {broken[:3]}"


def test_a_page_that_is_not_there_is_answered_from_any_depth(site, open_page):
    front = (site / "index.html").read_text(encoding="utf-8")
    canonical = re.search(r'rel="canonical" href="([^"]*)book/index\.html"', front)
    prefix = urlsplit(canonical[1]).path

    class Pages(weights.Quiet):
        """Serves the site as GitHub Pages does: under its prefix, with 404.html for the rest."""

        def do_GET(self):
            path = urlsplit(self.path).path
            file = site / path.removeprefix(prefix)
            if path.startswith(prefix) and file.is_file():
                self.path = path.removeprefix(prefix[:-1])
                return super().do_GET()
            text = (site / "404.html").read_bytes()
            self.send_response(404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            return self.wfile.write(text)

    with weights.served(site, Pages) as address:
        for place in ("gone.html", "notebooks/gone/deep/down.html"):
            tab = open_page(f"{address}{prefix}{place}")
            tab.wait_for_load_state("networkidle")
            missing = [error for error in tab.errors if "404" in error]
            assert len(missing) == len(tab.errors) == 1, f"{place}: {tab.errors}"  # itself
            assert not elsewhere(tab.requests)
            assert tab.get_by_role("heading", name="There is no such page").is_visible()
            assert tab.locator(".bd-sidebar-primary a.reference").count() > 10
            tab.locator(".bd-article a").first.click()
            tab.wait_for_url("**/book/index.html")
            tab.go_back()
            tab.locator(".bd-sidebar-primary a.reference").nth(1).click()
            tab.wait_for_url("**/book/reading.html")


@pytest.mark.parametrize("words", ["minimum norm", "Bregman"])
def test_search_finds_pages(words, address, open_page):
    tab = open_page(f"{address}/search.html?q={words.replace(' ', '+')}")
    tab.wait_for_selector("#search-results ul.search li a", timeout=20_000)
    assert tab.locator("#search-results ul.search li a").count() >= 1


def test_the_ledger_filters(site, open_page):
    tab = open_page((site / "book/ledger.html").as_uri())
    shown = tab.locator("#ledger-table tr[data-source]:visible")
    count = tab.locator("#ledger-shown")
    assert shown.count() == 91
    assert count.inner_text() == "91 claims"
    tab.get_by_label("Source", exact=True).select_option("G18")
    sources = set(shown.evaluate_all("rows => rows.map(row => row.dataset.source)"))
    assert sources == {"G18"}
    assert count.inner_text() == f"{shown.count()} of 91 claims"
    tab.get_by_label("Source", exact=True).select_option("")
    tab.get_by_label("Verdict", exact=True).select_option("open")
    assert set(shown.evaluate_all("rows => rows.map(row => row.dataset.verdict)")) <= {"open"}
    tab.get_by_label("Verdict", exact=True).select_option("holds")
    assert shown.count() >= 1
    tab.get_by_label("Verdict", exact=True).select_option("")
    assert shown.count() == 91


def test_the_ledger_is_complete_without_scripts(site, open_page):
    tab = open_page((site / "book/ledger.html").as_uri(), java_script_enabled=False)
    assert tab.locator("#ledger-table tr[data-source]:visible").count() == 91
    assert not tab.locator(".ledger-filter").is_visible()


def test_axe_finds_nothing(axe_page, scheme, colours, site, open_page):
    """Nothing of any level. The colours of every page, in both schemes, are left to `make axe`."""
    from axe_playwright_python.sync_playwright import Axe

    tab = open_page((site / axe_page).as_uri(), scheme=scheme)
    look_at(tab, axe_page)
    rules = {} if colours else {"color-contrast": {"enabled": False}}
    results = Axe().run(tab, options={"resultTypes": ["violations"], "rules": rules})
    found = [
        f"{violation['impact']}: {violation['id']} ({len(violation['nodes'])}): "
        f"{[node['html'][:160] for node in violation['nodes'][:3]]}"
        for violation in results.response["violations"]
        if violation["id"] not in TOLERATED
    ]
    assert not found, "\n".join(found)
