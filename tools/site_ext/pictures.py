"""Pictures that a page fetches only when a reader comes near them, in places kept free for them.

A chapter's pictures together weigh as much as half a page. Without its size, a picture that comes
late would push the text down under the reader's eyes, and links to a figure would miss it.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from sphinx.application import Sphinx

IMAGE = re.compile(r'<img\b(?P<given>[^>]*?\ssrc="[^"]*\b_images/(?P<name>[^"/]+)"[^>]*?)\s*/?>')
LENGTH = re.compile(r"([0-9.]+)(pt|px|)")


@functools.cache
def size(drawing: Path) -> tuple[int, int] | None:
    """Width and height of an SVG file in pixels of a page; None where it states none of its own."""
    if drawing.suffix != ".svg":
        return None
    root = next(element for _event, element in ElementTree.iterparse(drawing, events=["start"]))
    lengths = [LENGTH.fullmatch(root.get(side, "")) for side in ("width", "height")]
    if not all(lengths):
        return None
    width, height = (
        round(float(length[1]) * (4 / 3 if length[2] == "pt" else 1))
        for length in lengths
        if length
    )
    return width, height


def lazy(body: str, drawings: dict[str, Path]) -> str:
    """The text of a page, its pictures marked to be fetched late, with their sizes if known.

    `drawings` says where the pictures of the page's folder ``_images`` come from.
    """

    def mark(match: re.Match[str]) -> str:
        given = match["given"]
        source = drawings.get(unquote(match["name"]))
        known = size(source) if source else None
        if known and not re.search(r"\s(?:width|height)=", given):
            given += f' width="{known[0]}" height="{known[1]}"'
        if not re.search(r"\sloading=", given):
            given += ' loading="lazy"'
        return f"<img{given} />"

    return IMAGE.sub(mark, body)


def mark_pictures(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    drawings = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}
    context["body"] = lazy(context.get("body", ""), drawings)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", mark_pictures, priority=910)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
