"""What the pages of the built site weigh, as a browser fetches them from a server that compresses.

    python tools/weights.py     # a table; needs Chromium

Mathematics (MathJax, which every page shares) is not counted. Pictures count where opening the page
fetches them: the rest are fetched when a reader comes near them (see site_ext/pictures.py).
"""

from __future__ import annotations

import functools
import gzip
import http.server
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
CHROMIUM = Path("/usr/bin/chromium")
BUDGET = 250_000  # bytes, gzipped
MATHEMATICS = "_static/mathjax/"
PICTURES = "_images/"


@functools.cache
def gzipped(path: Path) -> int:
    """The bytes of a file as they travel."""
    return len(gzip.compress(path.read_bytes(), compresslevel=6, mtime=0))


def weigh(requests: Iterable[str], site: Path = SITE) -> dict[str, int]:
    """The weight of each file of the site among the addresses that a page asked for."""
    weights = {}
    for address in requests:
        parts = urlsplit(address)
        name = unquote(parts.path).lstrip("/")
        if parts.scheme in ("http", "https") and not name.startswith(MATHEMATICS):
            weights[name] = gzipped(site / name)
    return weights


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def served(site: Path = SITE, kind: type[Quiet] = Quiet) -> Iterator[str]:
    """The site over http, from a thread of this process."""
    handler = functools.partial(kind, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    from playwright.sync_api import sync_playwright

    if not (SITE / "index.html").exists():
        sys.exit("weights: no built site in _build/html. Run `make book` first.")
    names = sorted(
        path.relative_to(SITE).as_posix()
        for path in SITE.rglob("*.html")
        if path.name != "404.html"
    )
    heavy = 0
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        for name in (name for name in names if not name.startswith("_") and "/" in name):
            tab, requests = browser.new_page(), []
            tab.on("request", lambda request, seen=requests: seen.append(request.url))
            tab.goto(f"{address}/{name}", wait_until="networkidle")
            found = weigh(requests)
            total = sum(found.values())
            pictures = sum(weight for file, weight in found.items() if file.startswith(PICTURES))
            heavy += total > BUDGET
            print(
                f"{name:50} {total / 1000:7.1f} kB, of which pictures {pictures / 1000:7.1f} kB"
                f"{'  TOO HEAVY' * (total > BUDGET)}"
            )
            tab.close()
        browser.close()
    print(f"budget {BUDGET / 1000:.0f} kB; {heavy} pages above it")


if __name__ == "__main__":
    main()
