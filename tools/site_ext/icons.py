"""Of the theme's 2,000 icons, keep those that the site shows: in its script, styles and fonts.

The theme carries Font Awesome twice: as a script that draws icons, and as fonts with one rule for
each, which a browser fetches as soon as a button names an icon and the script has not run yet.
Whole, the fonts weigh more than a page of the book.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from fontTools import subset
from sphinx.application import Sphinx

# An icon of the script: bars:[448,512,["navicon"],"f0c9","M0 96..."], with its other names.
ICON = re.compile(
    r'(?<=[{,])(?:"([a-z0-9-]+)"|([a-zA-Z0-9_$]+)):'
    r'\[\d+,\d+,\[([^]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^]]*\])\](,?)'
)
# A rule of the styles: .fa-bars:before,.fa-navicon:before{content:"\f0c9"}
RULE = re.compile(r'(?:\.fa-[a-z0-9-]+:{1,2}before,?)+\{content:"[^"]*"\}')
ESCAPED = re.compile(r"\\([ef][0-9a-f]{3})(?![0-9a-f])", re.I)
PRIVATE = re.compile("[\ue000-\uf8ff]")
WOFF2 = re.compile(r'url\([^)]*/fa-[a-z0-9-]+\.woff2\)\s*format\("woff2"\),\s*')


def shown(site: Path, script: Path) -> set[str]:
    """The names of the icons that pages and scripts of the site mention."""
    return {
        name
        for path in (*site.rglob("*.html"), *Path(site, "_static").rglob("*.js"))
        if path != script and "mathjax" not in path.parts
        for name in re.findall(r"\bfa-([a-z0-9-]+)", path.read_text(encoding="utf-8"))
    }


def thin_script(text: str, names: set[str]) -> str:
    """The script, without icons that go by none of `names`."""

    def keep(match: re.Match[str]) -> str:
        quoted, bare, aliases, _comma = match.groups()
        known = {quoted or bare, *re.findall(r'"([^"]+)"', aliases)}
        return match.group(0) if known & names else ""

    return ICON.sub(keep, text)


def thin_style(text: str, names: set[str]) -> str:
    """The styles, without rules of icons that go by none of `names`, and with one kind of font."""

    def keep(match: re.Match[str]) -> str:
        known = set(re.findall(r"\.fa-([a-z0-9-]+)", match.group(0)))
        return match.group(0) if known & names else ""

    return WOFF2.sub("", RULE.sub(keep, text))


def signs(text: str) -> set[int]:
    """The code points of icons that styles still draw."""
    return {int(code, 16) for code in ESCAPED.findall(text)} | {
        ord(sign) for sign in PRIVATE.findall(text)
    }


def thin_font(path: Path, codes: set[int]) -> None:
    """Keep in a font the signs of `codes`."""
    options = subset.Options(glyph_names=False, notdef_outline=True, recalc_timestamp=False)
    font = subset.load_font(str(path), options)
    chooser = subset.Subsetter(options)
    chooser.populate(unicodes=codes)
    chooser.subset(font)
    subset.save_font(font, str(path), options)
    font.close()


def thin(app: Sphinx, exception: Exception | None) -> None:
    """Thin the icons of a site that has been written."""
    static = Path(app.outdir, "_static")
    script = static / "scripts" / "fontawesome.js"
    style = static / "styles" / "pydata-sphinx-theme.css"
    if exception or app.builder.format != "html" or not script.is_file():
        return
    names = shown(Path(app.outdir), script)
    for path, thinner in ((script, thin_script), (style, thin_style)):
        path.write_text(thinner(path.read_text(encoding="utf-8"), names), encoding="utf-8")
    codes = signs(style.read_text(encoding="utf-8"))
    for font in sorted(static.glob("vendor/fontawesome/webfonts/*")):
        if font.suffix == ".ttf":
            thin_font(font, codes)
        else:
            font.unlink()


def setup(app: Sphinx) -> dict[str, object]:
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table
    app.connect("build-finished", thin, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
