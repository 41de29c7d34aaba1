"""Print the built book as one PDF: every page in the order of the book, solutions at the end.

    make pdf        # needs Chromium; writes _build/pdf/book.pdf

The pages that readers see are put one after another into ``_build/pdf/print.html``, which Chromium
prints: outline and tags come from the headings, theorem boxes from the site's own styles, figures
and formulas stay vectors. Links within the book lead to places in the PDF.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path, PurePosixPath
from posixpath import normpath
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import edition
import pikepdf
import weights
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "pdf"
HERE = Path(__file__).parent
# What belongs to a page on a screen, not to one on paper.
SCREEN = ".headerlink, .tocsection, .prev-next-footer, script, .ledger-filter, a.reference.download"


class NoBook(RuntimeError):
    """There is nothing to print, or nothing to print with."""


def order(site: Path = SITE) -> tuple[str, list[str]]:
    """The address of the published book, and its pages in order, from the sitemap."""
    if not (site / "sitemap.xml").is_file():
        raise NoBook("there is no built book in _build/html to print. Run `make book` first.")
    tree = ElementTree.parse(site / "sitemap.xml")
    places = [str(place.text) for place in tree.iter() if place.tag.endswith("}loc")]
    base = places[0].removesuffix("book/index.html")
    return base, [place.removeprefix(base) for place in places]


def place(page: str, fragment: str = "") -> str:
    """The id in the PDF of a page, or of a place on it."""
    slug = PurePosixPath(page).with_suffix("").as_posix().replace("/", "-")
    return f"{slug}--{fragment}" if fragment else slug


class Printer:
    """Puts the pages of a site into one."""

    def __init__(self, site: Path = SITE) -> None:
        self.site = site
        self.base, self.pages = order(site)
        self.solutions: list[str] = []
        self.mathjax = ""

    def address(self, page: str, address: str) -> str:
        """Where a link of a page leads in the PDF: within it, or to the published book."""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return address
        name = normpath(f"{PurePosixPath(page).parent}/{unquote(parts.path)}")
        target = name if parts.path else page
        if target in self.pages:
            return f"#{place(target, unquote(parts.fragment))}"
        return self.base + target + (f"#{parts.fragment}" if parts.fragment else "")

    def article(self, page: str) -> Tag:
        """The text of a page, with ids and links as they are in the PDF, all of it unfolded."""
        soup = BeautifulSoup((self.site / page).read_text(encoding="utf-8"), "html.parser")
        if not self.mathjax and (
            script := soup.find("script", string=re.compile("window.MathJax"))
        ):
            self.mathjax = str(script.string)
        article = soup.select_one("article.bd-article")
        if article is None:
            raise NoBook(f"{page} has no article: did the theme change? See tools/pdf.py.")
        for tag in article.select(SCREEN):
            tag.decompose()
        for tag in article.find_all(True):
            if tag.get("id"):
                tag["id"] = place(page, tag["id"])
            if tag.name == "a" and tag.get("href"):
                tag["href"] = self.address(page, tag["href"])
            if tag.name == "img":
                name = normpath(f"{PurePosixPath(page).parent}/{unquote(tag['src'])}")
                tag["src"] = f"../html/{name}"
                del tag["loading"]
            if tag.name == "details":
                tag["open"] = ""
        article["id"] = place(page)
        return article

    def set_aside(self, page: str, article: Tag) -> None:
        """Move the solutions of a page, code included, to the appendix, and leave links."""
        moved = []
        for solution in article.select("div.solution, div.cell.tag_hide-cell"):
            moved.append(str(solution))
            if "cell" in solution["class"]:
                solution.decompose()
                continue
            note = BeautifulSoup("", "html.parser").new_tag("p", attrs={"class": "to-solution"})
            link = BeautifulSoup("", "html.parser").new_tag("a", href=f"#{solution['id']}")
            link.string = "Solution in the appendix"
            note.append(link)
            solution.replace_with(note)
        if moved:
            title = re.sub(r"\s+", " ", article.find("h1").get_text()).strip()
            self.solutions.append(f"<section><h2>{escape(title)}</h2>{''.join(moved)}</section>")

    def book(self) -> str:
        """The whole book as one page of HTML."""
        articles = []
        for page in self.pages:
            article = self.article(page)
            self.set_aside(page, article)
            articles.append(str(article))
        if self.solutions:
            articles.append(
                '<article class="bd-article"><h1 id="solutions">Appendix: solutions</h1>'
                f"{''.join(self.solutions)}</article>"
            )
        styles = sorted(
            {
                urlsplit(link["href"]).path.removeprefix("../")
                for link in BeautifulSoup(
                    (self.site / self.pages[-1]).read_text(encoding="utf-8"), "html.parser"
                ).select("link[rel=stylesheet]")
            },
            key=lambda name: ("book.css" in name, "pydata" not in name, name),
        )
        sheets = "\n".join(f'<link rel="stylesheet" href="../html/{name}">' for name in styles)
        ledger = (HERE / "site_ext" / "ledger.css").read_text(encoding="utf-8")
        paper = (HERE / "pdf.css").read_text(encoding="utf-8")
        title = "The Implicit Bias of Gradient Descent"
        return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{title}</title>
{sheets}
<style>{ledger}{paper}</style>
<script>{self.mathjax}</script>
<script defer src="../html/_static/mathjax/tex-svg.js"></script></head>
<body><header class="cover"><p class="book-title">{title}</p>
<p>An executable textbook</p><p>{edition.edition(ROOT)}</p>
<p><a href="{self.base}">{self.base}</a></p></header>
<main class="bd-main">{"".join(articles)}</main></body></html>
"""


SHRINK = """() => {
  // A formula wider than the paper is made as wide as the paper. First all is measured, then all
  // is changed: in turns, the browser would lay the whole book out again for every formula.
  const wide = [];
  for (const box of document.querySelectorAll("mjx-container")) {
    const picture = box.querySelector("svg"), line = box.closest("p, li, dd, td, th, div, section");
    const room = line.clientWidth;
    if (room > 50 && picture.getBoundingClientRect().width > room) wide.push([picture, room]);
  }
  for (const [picture, room] of wide) {
    picture.style.width = `${room}px`;
    picture.style.height = "auto";
  }
  return [...document.querySelectorAll("[data-mjx-error]")].map((e) => e.dataset.mjxError);
}"""


def print_book(source: Path, target: Path) -> None:
    """Have Chromium print a page of HTML, once its mathematics is typeset."""
    from playwright.sync_api import sync_playwright

    if not weights.CHROMIUM.exists():
        raise NoBook(
            f"no browser at {weights.CHROMIUM} to print with: "
            "apt-get install --no-install-recommends chromium"
        )
    number = (
        '<div style="width:100%;font-size:8px;text-align:center"><span class="pageNumber"></span>'
        "</div>"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(weights.CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 680, "height": 960})
        tab.set_default_timeout(900_000)
        tab.goto(source.as_uri())
        tab.evaluate("() => window.MathJax.startup.promise.then(() => null)")
        tab.emulate_media(media="print")
        broken = tab.evaluate(SHRINK)
        if broken:
            raise NoBook(f"formulas that MathJax refuses on the joined page: {broken[:3]}")
        tab.pdf(
            path=target,
            format="A4",
            outline=True,
            tagged=True,
            print_background=True,
            prefer_css_page_size=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=number,
        )
        browser.close()


def headings(html: str) -> list[str]:
    """The words of all headings, in order."""
    found = BeautifulSoup(html, "html.parser").find_all(re.compile("h[1-6]"))
    for math in (math for heading in found for math in heading.select(".math")):
        math.string = re.sub(r"\\[()]", "", math.get_text())
    return [" ".join(heading.get_text(" ").split()) for heading in found]


def name_outline(target: Path, titles: list[str]) -> int:
    """Give the outline the words of the headings: Chromium runs lines together.

    Returns the number of pages.
    """
    with pikepdf.open(target, allow_overwriting_input=True) as book:
        stack, items = [book.Root.Outlines.get("/First")], []
        while stack:
            if (item := stack.pop()) is not None:
                items.append(item)
                stack += [item.get("/Next"), item.get("/First")]
        if len(items) != len(titles):
            raise NoBook(
                f"the outline has {len(items)} entries for {len(titles)} headings, "
                "so it would mislead: is a heading of the book hidden, or empty?"
            )
        for item, title in zip(items, titles, strict=True):
            item.Title = pikepdf.String(title)
        book.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate)
        return len(book.pages)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    source, target = OUT / "print.html", OUT / "book.pdf"
    try:
        html = Printer().book()
        source.write_text(html, encoding="utf-8")
        print_book(source, target)
        pages = name_outline(target, headings(html))
    except NoBook as error:
        sys.exit(f"pdf: {error}")
    print(f"{target}: {pages} pages, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
