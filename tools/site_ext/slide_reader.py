"""What slides show of a chapter, taken from its built page.

The page alone has the numbers, captions and links as readers see them. Statements come without
their proofs, figures with their captions and texts in words, exercises with how they begin.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from posixpath import normpath, relpath
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag

from site_ext.slide_pages import Deck, Slide

SIZE = re.compile(r'<svg\b[^>]*?\swidth="([\d.]+)[a-z]*"[^>]*?\sheight="([\d.]+)')
CODE = re.compile(r"<pre\b.*?</pre>", re.S)
LONG = 1300  # characters, with TeX, of a statement that would be too small on one slide
TASTE = 60  # characters, with TeX, that say what an exercise is about
ROOM = 650  # characters of a summary that can be read from the last row


class NoSlides(ValueError):
    """A page is not built as slides need it."""


def halves(parts: list[Tag]) -> list[list[Tag]]:
    """The paragraphs and formulas of a statement, in two parts if they are too long for a slide."""
    sizes = [len(part.get_text()) for part in parts]
    # Between two paragraphs: a formula stays with its sentence.
    places = [k for k in range(1, len(parts)) if parts[k - 1].name == parts[k].name == "p"]
    if sum(sizes) <= LONG or not places:
        return [parts]
    at = min(places, key=lambda k: abs(2 * sum(sizes[:k]) - sum(sizes)))
    return [parts[:at], parts[at:]]


class Reader:
    """Takes slides from a built page of the book."""

    def __init__(self, site: Path, page: str, controls: dict[str, str]) -> None:
        self.site, self.page, self.controls = site, page, controls
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        # Code is most of a page, and on no slide.
        self.soup = BeautifulSoup(CODE.sub("", text), "html.parser")
        article = self.soup.select_one("article.bd-article")
        if article is None or article.find("h1") is None:
            raise NoSlides(
                f"{page}.html has no article with a title, from which its slides are made: "
                "did the theme change? See tools/site_ext/slides.py."
            )
        self.article = article

    def fail(self, what: str) -> NoSlides:
        return NoSlides(f"{self.page}: no slides can be made, as {what}.")

    def html(self, tag: Tag, inside: bool = True) -> str:
        """A part of the page as it stands on a slide: no ids, links from the slides' folder."""
        tag = copy.copy(tag)
        for mark in tag.select(".headerlink"):
            mark.decompose()
        for part in [tag, *tag.find_all(True)]:
            del part["id"]
            for name in ("href", "src"):
                if part.get(name):
                    part[name] = self.address(part[name])
        return (tag.decode_contents() if inside else str(tag)).strip()

    def address(self, address: str) -> str:
        """An address on the page, from the slides' folder."""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return address
        path = normpath(f"{Path(self.page).parent}/{parts.path}") if parts.path else ""
        path = relpath(path or f"{self.page}.html", "slides")
        return f"{path}#{parts.fragment}" if parts.fragment else path

    def deck(self) -> Deck:
        """All slides, in the order of the page."""
        heading = self.article.find("h1")
        number = heading.select_one(".section-number")
        if number is None:
            raise self.fail("its title has no number: does _toc.yml number the chapters?")
        title = self.html(heading).removeprefix(str(number)).strip()
        config = self.soup.find("script", string=re.compile(r"window\.MathJax\s*="))
        edition = self.soup.select_one(".edition")
        return Deck(
            self.page,
            number.get_text().strip(" ."),
            title,
            list(self.slides(title)),
            str(config.string) if config else "",
            edition.get_text().strip(" .") if edition else "",
        )

    def slides(self, title: str) -> Iterator[Slide]:
        top = self.article.find("h1").parent
        sections = top.find_all("section", recursive=False)
        words = [section.find("h2").get_text() for section in sections]
        at = next((k for k, text in enumerate(words) if re.search(r"\bExercises\b", text)), 0)
        if not at:
            raise self.fail('it has no section "Exercises" with a summary before it')
        summary, exercises = sections[at - 1], sections[at]

        lead = [self.html(p, inside=False) for p in self.lead(top)]
        yield Slide("title", "title", "Title", "", "\n".join(lead), top["id"])
        for k, section in enumerate(sections):
            if section is summary:
                yield from self.summary(section)
            elif section is not exercises:
                yield from self.shown(section, k == 0)
        yield self.exercises(exercises)

    def lead(self, top: Tag) -> Iterator[Tag]:
        """What the page says under its title, but for reading time and buttons."""
        for tag in top.find_all(["p", "section"], recursive=False):
            if tag.name == "section":
                return
            words = tag.get_text().strip()
            if words and not words.startswith("Reading time"):
                yield tag

    def heading(self, tag: Tag) -> str:
        return self.html(tag.find_parent("section", id=True).find(re.compile("^h[2-5]$")))

    def shown(self, section: Tag, first: bool) -> Iterator[Slide]:
        """The statements and figures of a section, and the question that the first one ends on."""
        asked = [
            p
            for p in section.find_all("p", recursive=False)
            if first and p.get_text().strip().endswith("?")
        ]
        for tag in section.find_all(["div", "figure", "p"]):
            if asked and tag is asked[-1]:
                body = self.html(tag, inside=False)
                place = section["id"]
                yield Slide("question", "question", "The question", "The question", body, place)
            elif tag.find_parent(lambda parent: parent.name == "details") or tag.find_parent(
                class_=re.compile(r"^(dropdown|solution|tag_hide-\w+)$")
            ):
                continue
            elif tag.name == "figure":
                yield self.figure(tag)
            elif "proof" in tag.get("class", ()) and tag.select_one(".caption-number"):
                yield from self.statement(tag)

    def statement(self, tag: Tag) -> Iterator[Slide]:
        """A definition, theorem, lemma, proposition or corollary, without its proof."""
        title, content = tag.select_one(".admonition-title"), tag.find("section")
        if title is None or content is None or not tag.get("id"):
            raise self.fail(f"a statement has no label, title or text: {str(tag)[:200]}")
        kind = next(name for name in tag["class"] if name not in ("proof", "admonition"))
        for k, parts in enumerate(halves(content.find_all(True, recursive=False)), start=1):
            name, key = self.html(title), tag["id"]
            if k > 1:
                number = title.select_one(".caption-number").get_text().strip()
                name, key = f"{number} (continued)", f"{key}-{k}"
            text = "\n".join(self.html(part, inside=False) for part in parts)
            body = f'<div class="statement {kind}">\n<h3>{name}</h3>\n{text}\n</div>'
            yield Slide(key, "statement", name, self.heading(tag), body, tag["id"])

    def figure(self, tag: Tag) -> Slide:
        """A figure, its caption and its text in words, and which part of it is the control."""
        image, caption = tag.find("img"), tag.find("figcaption")
        number = tag.select_one(".caption-number")
        if not (tag.get("id") and image and number and (image.get("alt") or "").strip()):
            raise self.fail(
                f"a figure lacks a label, picture, number or text for those who do not see it: "
                f"{tag.get('id') or str(tag)[:200]}"
            )
        control = self.controls.get(tag["id"], "")
        if control:
            control = f'<p class="control"><span>Control</span> {control}</p>'
        picture = f'<img alt="" src="{self.address(image["src"])}">'
        picture = BeautifulSoup(picture, "html.parser").img
        picture["alt"] = image["alt"]
        body = (
            f'<figure style="--aspect: {self.aspect(image["src"]):.3f}">\n{picture}\n'
            f"<figcaption>{self.html(caption)}{control}</figcaption>\n</figure>"
        )
        name = number.get_text().strip()
        return Slide(tag["id"], "figure", name, self.heading(tag), body, tag["id"])

    def aspect(self, source: str) -> float:
        """Width over height of a picture."""
        file = self.site / normpath(f"{Path(self.page).parent}/{source}")
        if file.suffix == ".svg" and file.is_file():
            with file.open(encoding="utf-8") as text:
                found = SIZE.search(text.read(4000))
            if found:
                return float(found.group(1)) / float(found.group(2))
        raise self.fail(f"the size of {source} cannot be read: figures are SVG with their size")

    def summary(self, section: Tag) -> Iterator[Slide]:
        """The last section before the exercises, a thought on each slide."""
        parts: list[list[Tag]] = []
        for tag in section.find_all(["p", "ul", "ol"], recursive=False):
            room = ROOM - sum(len(part.get_text()) for part in parts[-1]) if parts else 0
            if parts and len(tag.get_text()) <= room:
                parts[-1].append(tag)
            else:
                parts.append([tag])
        heading = self.html(section.find("h2"))
        for k, tags in enumerate(parts, start=1):
            name = f"What it means, {k} of {len(parts)}"
            body = "\n".join(self.html(tag, inside=False) for tag in tags)
            yield Slide(f"summary-{k}", "summary", name, heading, body, section["id"])

    def exercises(self, section: Tag) -> Slide:
        """How every exercise begins."""
        rows = []
        for tag in section.select("div.exercise[id]"):
            name = self.html(tag.select_one(".caption-number"))
            kind, start = self.beginning(tag.find("section").find("p"))
            rows.append(
                f'<li><a href="{self.address("#" + tag["id"])}">{name}</a> '
                f'<span class="how">{kind}</span> {start}</li>'
            )
        if not rows:
            raise self.fail("its section of exercises holds none with a label")
        body = "\n".join(['<ul class="exercises">', *rows, "</ul>"])
        heading = self.html(section.find("h2"))
        return Slide("exercises", "exercises", "Exercises", heading, body, section["id"])

    def beginning(self, paragraph: Tag) -> tuple[str, str]:
        """By hand, by code or open; and the first sentence, with the next if it is short."""
        text, kind = copy.copy(paragraph), ""
        strong = text.find("strong")
        if strong is not None:
            kind = strong.get_text().strip(" .")
            strong.decompose()
        kept, seen, more = "", 0, False
        for part in list(text.children):
            words = part.get_text()
            ends = [] if isinstance(part, Tag) else re.finditer(r"[.?!](?=\s)", words)
            end = next((m.end() for m in ends if seen + m.end() >= TASTE), None)
            if end:
                kept, more = kept + escape(words[:end]), True
                break
            kept += self.html(part, inside=False) if isinstance(part, Tag) else escape(words)
            seen += len(words)
        return kind, kept.strip() + (" …" if more else "")
