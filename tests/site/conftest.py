"""What the tests of the built site share: the pages, parsed; a server; a browser."""

import os
from pathlib import Path

import pytest
import weights
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
CHROMIUM = weights.CHROMIUM
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (SITE / "index.html").exists():
        pytest.fail("no built site in _build/html: run `make book` first", pytrace=False)
    return SITE


@pytest.fixture(scope="session")
def pages(site):
    """Every page of the built site, parsed, by its path relative to the site."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if not name.startswith("_"):
            found[name] = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    return found


@pytest.fixture(scope="session")
def chapters():
    """The built pages of the chapters."""
    return [f"notebooks/{name}.html" for name in CHAPTERS]


def pytest_generate_tests(metafunc):
    """A test of ``any_page`` is one of each page; axe looks at the colours of a few, or all."""
    # The first leads to another page at once; the second is served under other addresses.
    apart = ("index.html", "404.html")
    names = [path.relative_to(SITE).as_posix() for path in sorted(SITE.rglob("*.html"))]
    names = [name for name in names if name[0] != "_" and name not in apart]
    if "any_page" in metafunc.fixturenames:
        metafunc.parametrize("any_page", names)
    if "axe_page" in metafunc.fixturenames:
        every = os.environ.get("EVERY_PAGE") == "1"
        # Colours take most of the time, and most pages share theirs: all rules on a choice.
        choice = [f"book/{name}.html" for name in ("index", "ledger", "notation")]
        choice += [f"notebooks/{CHAPTERS[0]}.html"]
        cases = []
        for name in names:
            colours = every or name in choice
            cases.append((name, "light", colours))
            if colours:
                cases.append((name, "dark", colours))
        metafunc.parametrize(("axe_page", "scheme", "colours"), cases)


@pytest.fixture(scope="session")
def address(site):
    """The site over http, from a thread of this process."""
    with weights.served(site) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """A Chromium that starts no request of its own."""
    if not CHROMIUM.exists():
        message = f"no browser at {CHROMIUM}: apt-get install --no-install-recommends chromium"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Open an address in a fresh window and wait until its mathematics is typeset.

    ``tab.requests`` and ``tab.errors`` note every request, and every error of a script or of the
    console (which also names files that are missing).
    """
    contexts = []

    def open_page(url, width=1280, scheme="light", **options):
        # Colours that fade into place would be measured on their way.
        still = {"color_scheme": scheme, "reduced_motion": "reduce"}
        context = browser.new_context(viewport={"width": width, "height": 900}, **still, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.requests, tab.errors = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.on("console", lambda m: m.type == "error" and tab.errors.append(m.text))
        tab.goto(url)
        tab.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")
        return tab

    yield open_page
    for context in contexts:
        context.close()
