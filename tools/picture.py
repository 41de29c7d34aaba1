"""Draws the picture of the front page: two interpolators of the same data.

    python tools/picture.py     write book/images/two_interpolators.svg, and the same curves as
                                tools/site_ext/static/card.png, for links to the book

Seven points, sixteen features (Chebyshev polynomials, each 0.8 times as large as the one before):
nine dimensions of exact fits. One is where gradient descent ends from zero; the dashed line over it
is the minimum-norm solution, found without descending; the grey one is as exact, and longer.
"""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import matplotlib
import torch
from implicit_bias import (
    Regression,
    gradient_descent,
    minimum_norm,
    plotting,
    polynomial_features,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
SVG = ROOT / "book" / "images" / "two_interpolators.svg"
CARD = ROOT / "tools" / "site_ext" / "static" / "card.png"
CARD_SIZE = (1200, 630)  # pixels, as Open Graph asks
DEGREE, DECAY = 15, 0.8
VERMILION_WORDS = "#AD4C00"  # the limit's colour, dark enough for small letters on white
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
NAME = "The Implicit\nBias of Gradient\nDescent"
PROMISE = "An executable textbook:\ntheorems, proved and run"
TITLE = "Two interpolators of the same seven points"
DESCRIPTION = (
    "Seven black points. A calm blue curve passes through all of them: gradient descent from "
    "zero. A dashed vermilion curve, the minimum-norm solution, lies exactly on it. A grey curve "
    "passes through the same points and swings far above and below between them."
)
STYLE = {
    "svg.fonttype": "none",  # text stays text, in the reader's own system font
    "svg.hashsalt": "two interpolators",  # the same identifiers every time
    "path.simplify": False,
    "font.family": ["DejaVu Sans"],  # measured with the font that comes with Matplotlib
    "font.size": 11,
}


def features(x: torch.Tensor, ratio: float = DECAY) -> torch.Tensor:
    """The model: Chebyshev polynomials of degree 0 to 15, each ``ratio`` times the one before."""
    scale = ratio ** torch.arange(DEGREE + 1, dtype=torch.float64)
    return polynomial_features(x, DEGREE, basis="chebyshev") * scale


def interpolators() -> dict[str, torch.Tensor]:
    """The data x and y, and three sets of weights that fit them: descent, limit, other."""
    x = torch.tensor([-0.92, -0.64, -0.38, -0.04, 0.30, 0.58, 0.90], dtype=torch.float64)
    y = torch.tensor([0.35, 0.80, 0.60, -0.10, -0.50, -0.25, 0.45], dtype=torch.float64)
    problem = Regression(features(x), y)
    elsewhere = torch.zeros(DEGREE + 1, dtype=torch.float64)
    elsewhere[9], elsewhere[11] = 6.0, -6.0
    return {
        "x": x,
        "y": y,
        "descent": gradient_descent(problem, tol=1e-14).x,
        "limit": minimum_norm(problem).x,
        "other": minimum_norm(problem, start=elsewhere).x,
    }


def plot(axes: Axes, size: float = 1) -> dict[str, float]:
    """Draw the curves and the points; the length of each curve's weights, by name."""
    fits = interpolators()
    x, y = fits["x"], fits["y"]
    grid = torch.cat([torch.linspace(-1, 1, 401, dtype=torch.float64), x]).unique()
    curve = {name: features(grid) @ fits[name] for name in ("descent", "limit", "other")}
    wide = {"linewidth": 5 * size}
    axes.plot(grid, curve["other"], gid="other", **plotting.CONTROL)
    axes.plot(grid, curve["descent"], gid="descent", **plotting.DYNAMICS | wide)
    axes.plot(grid, curve["limit"], gid="limit", **plotting.LIMIT)
    axes.plot(x, y, gid="data", zorder=5, **plotting.DATA | {"markersize": 7 * size})
    return {name: float(fits[name].norm()) for name in curve}


def draw() -> Figure:
    """The figure. Its lines carry the gids descent, limit, other and data."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 4.0), facecolor="white", layout="constrained")
        axes = figure.add_subplot(facecolor="white")
        length = plot(axes)
        labels = (
            (2.32, plotting.CONTROL["color"], f"another exact fit, length {length['other']:.1f}"),
            (
                -2.27,
                plotting.DYNAMICS["color"],
                f"gradient descent from zero, length {length['descent']:.1f}",
            ),
            (-2.72, VERMILION_WORDS, "- -  the shortest exact fit, by linear algebra"),
        )
        for height, colour, words in labels:
            axes.text(-1, height, words, color=colour, va="center", weight="bold", size=10.5)
        axes.set(xlim=(-1.05, 1.05), ylim=(-3.0, 2.6), xlabel="input x", ylabel="prediction")
        axes.set(xticks=[-1, -0.5, 0, 0.5, 1], yticks=[-1, 0, 1])
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_card() -> Figure:
    """The same curves beside the title, for whoever shows a link to the book."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CARD_SIZE[0] / 100, CARD_SIZE[1] / 100), dpi=100)
        axes = figure.add_axes((0.49, 0.06, 0.48, 0.88))
        plot(axes, size=1.8)
        axes.set(xlim=(-1.02, 1.02), ylim=(-2.2, 2.3))
        axes.set_axis_off()
        figure.text(0.05, 0.62, NAME, size=38, weight="bold", va="center", linespacing=1.25)
        figure.text(0.05, 0.3, PROMISE, size=20, va="center", color="#333333", linespacing=1.4)
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as text: no date, no version, the reader's fonts, a title and a description."""
    out = StringIO()
    with matplotlib.rc_context(STYLE):
        blank = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", facecolor="white", metadata=blank)
    svg = out.getvalue().replace("'DejaVu Sans'", FONTS)
    svg = re.sub(r"<!DOCTYPE.*?>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s+<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head = f'role="img">\n <title>{TITLE}</title>\n <desc>{DESCRIPTION}</desc>'
    svg = re.sub(r"(<svg [^>]*)>", lambda match: f"{match[1]} {head}", svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    SVG.parent.mkdir(parents=True, exist_ok=True)
    SVG.write_text(as_svg(draw()), encoding="utf-8")
    draw_card().savefig(CARD, metadata={"Software": None})
    for path in (SVG, CARD):
        print(f"wrote {path.relative_to(ROOT)}")
