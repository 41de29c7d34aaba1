"""The built site in a browser: no request leaves, mathematics, search, filters, phones, axe."""

import re
from urllib.parse import urlsplit

import pytest

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


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_no_request_leaves_and_mathematics_is_typeset(scheme, site, address, main_page, open_page):
    name = main_page
    tab = open_page((site / name).as_uri() if scheme == "file" else f"{address}/{name}")
    tab.wait_for_load_state("networkidle")
    assert not elsewhere(tab.requests), f"{name} asks for {elsewhere(tab.requests)}"
    assert not tab.errors, f"{name}: {tab.errors}"
    raw = tab.locator("span.math, div.math").count()
    assert raw or name == "book/index.html", f"{name} holds no mathematics"
    left = tab.evaluate(
        "() => [...document.querySelectorAll('span.math, div.math')]"
        ".filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)"
    )
    assert not left, f"{name}: not typeset: {left[:3]}"
    broken = tab.locator("[data-mjx-error], mjx-merror").evaluate_all(
        "es => es.map(e => e.getAttribute('data-mjx-error') || e.textContent)"
    )
    assert not broken, f"{name}: bad TeX: {broken[:3]}"


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


def test_no_page_scrolls_sideways_on_a_phone(site, pages, open_page):
    wide = []
    for name, soup in pages.items():
        if soup.find("meta", attrs={"http-equiv": re.compile("refresh", re.I)}):
            continue  # it leads to another page at once
        tab = open_page((site / name).as_uri(), width=400)
        width = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if width > 1:
            worst = tab.evaluate(
                "() => [...document.querySelectorAll('#main-content *')]"
                ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
                ".slice(0, 3).map(e => e.outerHTML.slice(0, 120))"
            )
            wide.append(f"{name} by {width} px: {worst}")
        tab.context.close()
    assert not wide, "\n".join(wide)


# A page has the same structure in the dark: only its colours are other ones.
@pytest.mark.parametrize(("scheme", "rules"), [("light", None), ("dark", ["color-contrast"])])
def test_axe_finds_nothing_serious(scheme, rules, main_page, site, open_page):
    from axe_playwright_python.sync_playwright import Axe

    tab = open_page((site / main_page).as_uri(), scheme=scheme)
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    results = Axe().run(tab, options=options)
    found = [
        f"{violation['id']} ({len(violation['nodes'])}): "
        f"{[node['html'][:160] for node in violation['nodes'][:3]]}"
        for violation in results.response["violations"]
        if violation["impact"] in ("critical", "serious") and violation["id"] not in TOLERATED
    ]
    assert not found, "\n".join(found)
