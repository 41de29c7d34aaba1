"""Which icons stay in the script, the styles and the fonts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from fontTools.ttLib import TTFont
from site_ext import icons

SCRIPT = 'a={bars:[448,512,["navicon"],"f0c9","M0 96"],"cart-plus":[576,512,[],"f217","M0 2"]};'
STYLE = (
    '.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}.fa-cart-plus:before{content:"\\f217"}'
    '.next:after{content:"\\f054"}.fa-lg{font-size:2em}'
    'x{src:url(../w/fa-solid-900.woff2) format("woff2"),url(../w/fa-solid-900.ttf) format("t")}'
)


def test_of_the_script_stay_icons_under_any_of_their_names():
    assert (
        icons.thin_script(SCRIPT, {"navicon"}) == 'a={bars:[448,512,["navicon"],"f0c9","M0 96"],};'
    )


def test_of_the_styles_stay_rules_of_icons_and_all_that_is_no_icon():
    thinned = icons.thin_style(STYLE, {"bars"})
    assert thinned == (
        '.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}'
        '.next:after{content:"\\f054"}.fa-lg{font-size:2em}'
        'x{src:url(../w/fa-solid-900.ttf) format("t")}'
    )
    assert icons.signs(thinned + "a{content:'\uf06a'}") == {0xF0C9, 0xF054, 0xF06A}


@pytest.fixture
def site(tmp_path):
    """A site with the theme's own script, styles and fonts, and one page that shows one icon."""
    import pydata_sphinx_theme

    theme = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
    for name in ("scripts/fontawesome.js", "styles/pydata-sphinx-theme.css"):
        (tmp_path / "_static" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "_static" / name).write_bytes((theme / name).read_bytes())
    fonts = tmp_path / "_static/vendor/fontawesome/webfonts"
    fonts.mkdir(parents=True)
    for path in (theme / "vendor/fontawesome/webfonts").iterdir():
        (fonts / path.name).write_bytes(path.read_bytes())
    (tmp_path / "index.html").write_text('<i class="fa-solid fa-navicon"></i>')
    return tmp_path


def test_the_themes_own_icons_are_thinned(site):
    icons.thin(SimpleNamespace(outdir=site, builder=SimpleNamespace(format="html")), None)
    static = site / "_static"
    script = (static / "scripts/fontawesome.js").read_text()
    style = (static / "styles/pydata-sphinx-theme.css").read_text()
    assert "navicon" in script
    assert "cart-plus" not in script + style
    assert len(script) < 150_000
    fonts = list(static.glob("vendor/fontawesome/webfonts/*"))
    assert {font.suffix for font in fonts} == {".ttf"}
    assert sum(font.stat().st_size for font in fonts) < 30_000
    with TTFont(static / "vendor/fontawesome/webfonts/fa-solid-900.ttf") as solid:
        assert 0xF0C9 in solid.getBestCmap()  # the one that is shown
        assert 0xF217 not in solid.getBestCmap()
