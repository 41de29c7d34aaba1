"""Screenshots of built pages: two widths, light and dark, full length.

    python tests/site/screenshots.py FOLDER [PAGE ...]

Pages are named as they lie in ``_build/html``; without any, those that readers meet first.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = [
    "book/index.html",
    "notebooks/01_minimum_norm.html",
    "book/ledger.html",
    "book/errata.html",
]
CHROMIUM = "/usr/bin/chromium"


def main(folder: Path, pages: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for width in (1280, 400):
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=scheme
                )
                tab = context.new_page()
                for name in pages:
                    tab.goto((SITE / name).as_uri())
                    tab.evaluate("() => window.MathJax?.startup?.promise")
                    tab.evaluate(  # pictures out of view would be missing
                        "() => Promise.all([...document.images].map("
                        "image => { image.loading = 'eager'; return image.decode(); }))"
                    )
                    target = folder / f"{Path(name).stem}-{width}-{scheme}.png"
                    tab.screenshot(path=target, full_page=True)
                    print(target)
                context.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or PAGES)
