"""The one style of every figure: one meaning per colour, readable on a phone and in the dark.

Dynamics are blue, limits vermilion and dashed, data black dots, controls grey and dotted: colour
is never alone. Colours are Okabe and Ito's (2008), safe for colour-blind readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BAND",
    "CONTROL",
    "DATA",
    "DYNAMICS",
    "EXTRA",
    "LIMIT",
    "label_end",
    "panels",
    "reference_slope",
    "use",
]

BLUE, VERMILION, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#AA3377", "#56B4E9"

#: Keyword arguments for a line that shows what descent does.
DYNAMICS: dict[str, Any] = {"color": BLUE, "linestyle": "-", "linewidth": 2.0}
#: Keyword arguments for a line that shows where theory says it ends.
LIMIT: dict[str, Any] = {"color": VERMILION, "linestyle": "--", "linewidth": 2.0}
#: Keyword arguments for data points.
DATA: dict[str, Any] = {"color": "black", "linestyle": "none", "marker": "o", "markersize": 5}
#: Keyword arguments for the line of a control.
CONTROL: dict[str, Any] = {"color": "#767676", "linestyle": ":", "linewidth": 2.0}
#: Keyword arguments for further lines that are neither: a list, each with its own dashes.
EXTRA: list[dict[str, Any]] = [
    {"color": GREEN, "linestyle": "-.", "linewidth": 2.0},
    {"color": PURPLE, "linestyle": (0, (3, 1, 1, 1, 1, 1)), "linewidth": 2.0},
]
#: Keyword arguments for a band of uncertainty.
BAND: dict[str, Any] = {"alpha": 0.2, "linewidth": 0}

_STYLE: Any = {
    "figure.figsize": (5.6, 3.5),
    "figure.constrained_layout.use": True,
    # A light panel of its own: the lines keep their contrast on a dark page.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "implicit-bias",
}


def use() -> None:
    """Sets the book's style for all figures of this session, and vector output in a notebook.

    Examples
    --------
    >>> use()
    """
    import matplotlib as mpl

    mpl.rcParams.update(_STYLE)
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    if get_ipython() is not None:
        set_matplotlib_formats("svg", metadata={"Date": None})


def panels(columns: int = 1, height: float = 3.3, **options: Any) -> tuple[Figure, Any]:
    """Returns a figure with panels *below* one another (a phone has one column), and its axes.

    Parameters
    ----------
    columns : int
        How many panels, stacked from top to bottom; with one, a single Axes is returned.
    height : float
        Height of each panel in inches; the width is 5.6.
    **options
        Passed on to ``matplotlib.pyplot.subplots``.

    Examples
    --------
    >>> figure, axes = panels(2)
    >>> len(axes)
    2
    """
    import matplotlib.pyplot as plt

    return plt.subplots(columns, 1, figsize=(5.6, height * columns), **options)


def label_end(
    ax: Axes, text: str, color: str, x: float, y: float, dx: float = 4, dy: float = 0
) -> None:
    """Writes a label beside a point of a line, instead of in a legend.

    Parameters
    ----------
    ax : Axes
    text, color : str
    x, y : float
        The point, in data units.
    dx, dy : float
        Offset in typographic points.

    Examples
    --------
    >>> figure, ax = panels()
    >>> label_end(ax, "descent", "black", 0.0, 0.0)
    """
    ax.annotate(text, (x, y), xytext=(dx, dy), textcoords="offset points", color=color, va="center")


def reference_slope(
    ax: Axes, slope: float, x: tuple[float, float], y: float, label: str = ""
) -> None:
    """Draws the line of a power law, y times (x / x[0]) ** slope, on log-log axes.

    Parameters
    ----------
    ax : Axes
    slope : float
    x : tuple of float
        Where it begins and ends.
    y : float
        Its height at x[0].
    label : str
        Written at its middle.

    Examples
    --------
    >>> figure, ax = panels()
    >>> reference_slope(ax, -0.5, (1.0, 100.0), 1.0, "slope -1/2")
    """
    import numpy as np

    ends = np.array(x, dtype=float)
    ax.plot(ends, y * (ends / ends[0]) ** slope, color="black", linewidth=1, alpha=0.7)
    if label:
        middle = float(np.sqrt(ends[0] * ends[1]))
        ax.annotate(
            label,
            (middle, y * (middle / ends[0]) ** slope),
            xytext=(4, 6),
            textcoords="offset points",
            fontsize=10,
        )
