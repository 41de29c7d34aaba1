"""The text of a chapter as plain Markdown, for places that know no MyST: Colab, GitHub, JupyterLab.

`plain` turns directives into block quotes and folded parts, roles and relative links into links to
the published book. `leftovers` finds what no plain reader would understand. Neither knows Sphinx:
what a label is called and where it stands is asked of a `Guide`.

Two habits of those places shape the result. They cut formulas out of the text before they read the
Markdown, so that a display of several lines in a block quote would keep the quote's ``>`` in the
formula: there it is put on one line. And they may take ``$a<b$`` for a tag: it becomes
``$a\\lt b$``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol


class NotPlain(ValueError):
    """A chapter holds something that has no plain form."""


class Place(NamedTuple):
    """What the book calls something, and where it stands."""

    name: str
    address: str


class Guide(Protocol):
    """What must be known of the book to write one of its pages in plain Markdown."""

    def label(self, label: str) -> Place:
        """A theorem, exercise, figure or section, by its label."""

    def page(self, path: str) -> Place:
        """A page, by a path relative to this one; the path may end in ``#anchor``."""

    def citation(self, key: str) -> Place:
        """A work, by its key in the bibliography."""

    def heading(self) -> str:
        """The number of the next heading of this page, or nothing where it has none."""


STATEMENTS = (
    "axiom theorem lemma algorithm definition remark conjecture corollary criterion example "
    "property observation proposition assumption notation"
)
BOXES = {f"prf:{name}" for name in STATEMENTS.split()} | {"exercise"}
NOTES = {"note", "tip", "hint", "warning", "important", "admonition", "prf:proof", "solution"}
LINKS = {"prf:ref", "ref", "numref", "doc"}

OPENING = re.compile(r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[^}\s]+)\}[ \t]*(?P<argument>.*?)[ \t]*$")
FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})[^`]*$")
OPTION = re.compile(r"^:(?P<key>[\w-]+):[ \t]*(?P<value>.*?)[ \t]*$")
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
# Code, formulas, and what is rewritten, in the order in which they are looked for.
TOKEN = re.compile(
    r"""
      (?P<block>^(?P<ticks>`{3,}|~{3,}).*?^(?P=ticks)[ \t]*$)
    | \$\$(?P<display>.+?)\$\$
    | \{(?P<role>[\w:-]+)\}`(?P<target>[^`]+)`
    | (?P<code>(?P<tick>`+)(?!`).+?(?<!`)(?P=tick)(?!`))
    | (?<![\\$])\$(?P<formula>(?:\\.|[^$\\\n]|\n(?!\s*\n))+)\$
    | (?P<anchor><a\s+id="[^"]*"\s*></a>\n?|^\([\w-]+\)=\n)
    | <a\s+href="(?P<href>[^"]*)">(?P<words>.*?)</a>
    | \]\((?P<address>[^)\s]+)\)
    | ^(?P<marks>\#{1,6})[ ]+(?P<heading>.+)$
    """,
    re.X | re.M | re.S,
)
EXPLICIT = re.compile(r"(?P<words>.+?)\s*<(?P<target>[^<>]+)>", re.S)

# What must not be left, outside code and formulas: directives and their options first.
REMAINS = re.compile(
    r"""
      ^[ >]*:{3,}.*$ | ^[ >]*[`~]{3,}\{.*$ | ^[ >]*:[\w-]+:(?:[ ].*)?$ # directives
    | \{[a-zA-Z][\w:-]*\}`[^`\n]*`?                     # roles
    | \{\{.*?\}\} | ^%[ ].*$ | ^\+\+\+ | ^\([\w-]+\)=$ # substitutions, comments, breaks, targets
    | <a\b[^>]*>                                       # anchors and links in HTML
    | \]\((?!https?://|mailto:)[^)\s]*\)               # addresses relative to the book's sources
    | \[\^[\w-]+\]                                     # footnotes
    """,
    re.X | re.M,
)


def quoted(text: str) -> str:
    """`text` as a block quote, its displays on one line each."""
    text = DISPLAY.sub(lambda display: f"$$ {' '.join(display[1].split())} $$", text)
    return "\n".join(f"> {line}".rstrip() for line in text.strip().split("\n"))


def folded(title: str, text: str) -> str:
    """`text` behind a title that unfolds it. The empty lines let Markdown in."""
    return f"<details>\n<summary><b>{title}</b></summary>\n\n{text.strip()}\n\n</details>"


def pieces(text: str) -> Iterator[str | tuple[str, str, dict[str, str], str]]:
    """The text and, as (name, argument, options, body), the directives in it, in order."""
    lines = text.split("\n")
    prose: list[str] = []
    while lines:
        line = lines.pop(0)
        opening = OPENING.match(line)
        start = opening or FENCE.match(line)
        if not start:
            prose.append(line)
            continue
        fence = start["fence"]
        closing = re.compile(rf"{fence[0]}{{{len(fence)},}}[ \t]*")
        end = next((i for i, later in enumerate(lines) if closing.fullmatch(later)), None)
        if end is None:
            raise NotPlain(f"{line!r} is never closed: end it with a line {fence}")
        body, lines = lines[:end], lines[end + 1 :]
        if not opening:
            prose += [line, *body, fence]
            continue
        yield "\n".join(prose)
        prose = []
        options = {}
        while body and (option := OPTION.match(body[0])):
            options[option["key"]] = option["value"]
            body.pop(0)
        yield opening["name"], opening["argument"], options, "\n".join(body)
    yield "\n".join(prose)


def plain(text: str, guide: Guide) -> str:
    """MyST as plain Markdown.

    Raises
    ------
    NotPlain
        Where `text` holds a directive or a role that has no plain form.
    """
    parts = [
        inline(piece, guide) if isinstance(piece, str) else directive(*piece, guide)
        for piece in pieces(text)
    ]
    return "\n\n".join(filter(None, (part.strip("\n") for part in parts)))


def directive(name: str, argument: str, options: dict[str, str], body: str, guide: Guide) -> str:
    """A box of the book, as a block quote with a bold head, or folded where the book folds it."""
    text = plain(body, guide)
    if name in BOXES:
        if not (label := options.get("label")):
            raise NotPlain(f"a {name} without a label has no number to show: add :label:")
        place = guide.label(label)
        head = f"**[{place.name}]({place.address})**"
        if argument:
            head += f" ({inline(argument, guide)})"
        return quoted(f"{head}\n\n{text}")
    if name not in NOTES:
        raise NotPlain(
            f"the directive {{{name}}} has no plain form, and readers in Colab would see its "
            f"source. Say it with one that has ({', '.join(sorted(NOTES | BOXES))}), or teach "
            "tools/site_ext/plain_text.py to write it"
        )
    title = name.removeprefix("prf:").capitalize()
    if name == "solution":
        title = f"Solution to {guide.label(argument).name}"
    elif name == "admonition":
        title = inline(argument, guide)
    elif argument:
        title += f" ({inline(argument, guide)})"
    if "dropdown" in options.get("class", "").split():
        return folded(title, text)
    return quoted(f"**{title}**\n\n{text}")


def inline(text: str, guide: Guide) -> str:
    """Text without directives: roles, links, anchors, headings and formulas made plain."""

    def rewritten(token: re.Match[str]) -> str:
        if token["display"] or token["formula"]:
            dollars = "$$" if token["display"] else "$"
            formula = token["display"] or token["formula"]
            for sign, command in (("<", r"\lt "), (">", r"\gt ")):
                formula = formula.replace(sign, command)
            return f"{dollars}{formula}{dollars}"
        if token["role"]:
            return role(token["role"], token["target"], guide)
        if token["anchor"]:
            return ""
        if token["href"]:
            return f"[{inline(token['words'], guide)}]({address(token['href'], guide)})"
        if token["address"]:
            return f"]({address(token['address'], guide)})"
        if token["marks"]:
            number, words = guide.heading(), inline(token["heading"], guide)
            return f"{token['marks']} {number}{' ' if number else ''}{words}"
        return token[0]  # code

    return TOKEN.sub(rewritten, text)


def address(target: str, guide: Guide) -> str:
    """An address that holds anywhere."""
    return target if re.match(r"[a-z][a-z0-9+.-]*:", target) else guide.page(target).address


def role(name: str, content: str, guide: Guide) -> str:
    """A reference as a link."""
    if name.startswith("cite"):
        works = (guide.citation(key.strip()) for key in content.split(","))
        return ", ".join(f"[{work.name}]({work.address})" for work in works)
    if name not in LINKS:
        raise NotPlain(
            f"the role {{{name}}}`{content}` has no plain form, and readers in Colab would see its "
            f"source. Use a Markdown link, or one of {', '.join(sorted(LINKS))}, cite"
        )
    explicit = EXPLICIT.fullmatch(content)
    target = explicit["target"] if explicit else content
    place = guide.page(f"{target}.md") if name == "doc" else guide.label(target)
    words = explicit["words"] if explicit else place.name
    number = place.name.rpartition(" ")[2]
    for mark in ("%s", "{number}"):
        words = words.replace(mark, number)
    return f"[{words}]({place.address})"


def leftovers(text: str) -> list[str]:
    """What is left in `text` that plain Markdown does not know, outside code and formulas."""
    silent = TOKEN.sub(
        lambda token: "" if token["display"] or token["formula"] or token["code"] else token[0],
        text,
    )
    silent = re.sub(r"^(`{3,}|~{3,})(?!\{).*?^\1[ \t]*$", "", silent, flags=re.M | re.S)
    return [found.group().strip() for found in REMAINS.finditer(silent)]
