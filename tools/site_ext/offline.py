"""Pages that ask nothing of the network, fit a phone, and can be read by a screen reader.

Stock pages fetch MathJax and Thebe from other hosts. Here MathJax is copied from an installed
package, Thebe is taken out, and a page that would still load something from elsewhere is a
warning, hence an error. Small overrides mend what the theme gets wrong.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

HERE = Path(__file__).parent
FILES = ("script_files", "css_files")
COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
# What a browser fetches by itself; a plain link is not.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|image|use)\b[^>]*?"
    r"\s(?:src|href|xlink:href)=[\"']((?:https?:)?//[^\"']+)"
    r"|<link\b[^>]*?rel=[\"']stylesheet[\"'][^>]*?href=[\"']((?:https?:)?//[^\"']+)"
    r"|@import\s+(?:url\()?[\"']?((?:https?:)?//[^\"')]+)",
    re.I,
)
FOLDED_PROOF = re.compile(r'(<div class="proof(?=[^"]*\bdropdown\b)[^"]*"[^>]*>\s*)<p>(Proof)\.\s*')
REPEATED_ID = re.compile(r' id="(?:proof|exercise|solution)-content"|(?<=admonition") id="proof"')
# A formula in a line, with what stands close to it: browsers would break the line between them.
CLOSE = re.compile(r'([(\[“‘]*)(<span class="math[^"]*">[^<]*</span>)([^\s<&]{0,12})')
logger = logging.getLogger(__name__)


def vendor_mathjax(app: Sphinx) -> None:
    """Copy MathJax to the built site from the package that carries it."""
    if app.builder.format != "html":
        return
    entry = next(
        file for file in files("sphinx-mathjax-offline") or () if file.name == "tex-svg.js"
    )
    source = Path(str(entry.locate())).parent
    target = Path(app.outdir, "_static", "mathjax")
    # The script, and what it loads when a formula or a reader asks for it.
    for name in ("tex-svg.js", "input/tex", "a11y", "sre"):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def disconnect(app: Sphinx, package: str) -> None:
    """Undo what a package, loaded before this one, has hooked into the build."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            listener
            for listener in listeners
            if (listener.handler.__module__ or "").split(".")[0] != package
        ]


def keep_close(match: re.Match[str]) -> str:
    """A formula and its comma, in one piece."""
    before, formula, after = match.groups()
    return f'<span class="close">{match[0]}</span>' if before or after else formula


def mend_body(body: str) -> str:
    """The text of a page, without faults that keep screen readers or scripts from it."""
    # A list whose children are no list items; a role that no longer exists.
    body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    body = body.replace(' role="doc-biblioentry"', "")
    # The same id in every theorem, exercise, solution and unnamed proof.
    body = REPEATED_ID.sub("", body)
    # A name that hides the words shown.
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    body = CLOSE.sub(keep_close, body)
    # A folded proof needs a title to unfold it by.
    return FOLDED_PROOF.sub(r'\1<p class="admonition-title">\2</p>\n<p>', body)


def name_toggles(context: dict[str, Any]) -> None:
    """Give the buttons that unfold a chapter of several pages in the side bar a name to be read."""
    unnamed = context.get("generate_toctree_html")
    if unnamed is None:
        return

    def named(*args: Any, **options: Any) -> str:
        label = '<summary aria-label="Show or hide the pages of this chapter">'
        return str(unnamed(*args, **options)).replace("<summary>", label)

    context["generate_toctree_html"] = named


def finish_page(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Mend a page's text, load what it needs and no more, look for strangers."""
    body = mend_body(context.get("body", ""))
    badge = context["pathto"]("_static/colab-badge.svg", True)
    context["body"] = body = body.replace(COLAB_BADGE, badge)
    name_toggles(context)

    unwanted = ["thebe"]
    if 'class="math' not in body:
        unwanted.append("mathjax")
    if not re.search(r'class="(?:[^"]* )?sd-', body):
        unwanted += ["sphinx-design", "design-tabs"]
    for kind in FILES:
        context[kind] = [
            file
            for file in context[kind]
            # Its address, or the script itself where it stands in the page.
            if not any(name in f"{file} {vars(file)}".lower() for name in unwanted)
        ]
    fetched = [str(file.filename or "") for kind in FILES for file in context[kind]]
    strangers = [name for name in fetched if re.match(r"(https?:)?//", name)]
    strangers += [next(filter(None, match.groups())) for match in FETCHED.finditer(body)]
    for stranger in dict.fromkeys(strangers):
        logger.warning(
            "the page would fetch %s. The book must work without a network: "
            "put a copy under book/images, or make it a plain link.",
            stranger,
            location=page,
            type="offline",
        )


def add_paths(app: Sphinx, config: Config) -> None:
    config.html_static_path.append(str(HERE / "static"))
    config.templates_path.insert(0, str(HERE / "templates"))


def setup(app: Sphinx) -> dict[str, Any]:
    disconnect(app, "sphinx_thebe")
    disconnect(app, "sphinx_comments")
    app.set_html_assets_policy("always")  # MathJax for all pages; finish_page takes it out again
    app.connect("config-inited", add_paths)
    app.connect("builder-inited", vendor_mathjax)
    app.connect("html-page-context", finish_page, priority=900)
    app.add_css_file("book.css", priority=900)
    app.add_js_file("book.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
