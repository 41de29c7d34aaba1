"""The style: one meaning per colour, and never colour alone."""

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from implicit_bias import plotting


@pytest.fixture(autouse=True)
def clean():
    with mpl.rc_context({"backend": "agg"}):
        plt.switch_backend("agg")
        plotting.use()
        yield
        plt.close("all")


def luminance(colour):
    """Relative luminance of a colour (WCAG 2.2)."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (
        0.2126,
        0.7152,
        0.0722,
    )


LINES = [plotting.DYNAMICS, plotting.LIMIT, plotting.CONTROL, *plotting.EXTRA]


def test_lines_differ_by_more_than_colour():
    assert len({str(style["linestyle"]) for style in LINES}) == len(LINES)
    assert len({style["color"] for style in [*LINES, plotting.DATA]}) == len(LINES) + 1
    assert plotting.DATA["marker"] != "none"


@pytest.mark.parametrize("style", [*LINES, plotting.DATA], ids=lambda s: s["color"])
def test_colours_stand_out_from_the_panel(style):
    panel = mpl.rcParams["figure.facecolor"]
    ratio = (luminance(panel) + 0.05) / (luminance(style["color"]) + 0.05)
    assert ratio >= 3  # WCAG 2.2, 1.4.11: graphical objects


def test_styles_are_what_plot_takes():
    _, ax = plotting.panels()
    for style in [*LINES, plotting.DATA]:
        ax.plot([0, 1], [0, 1], **style)
    ax.fill_between([0, 1], [0, 1], [1, 2], **plotting.BAND)
    ax.figure.canvas.draw()


def test_use_sets_the_style():
    assert mpl.rcParams["svg.hashsalt"]  # the same figure is the same file
    assert mpl.rcParams["figure.figsize"] == [5.6, 3.5]
    assert not mpl.rcParams["axes.spines.top"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_panels_are_stacked(count):
    figure, axes = plotting.panels(count, height=2.0)
    assert figure.get_size_inches().tolist() == [5.6, 2.0 * count]
    boxes = [ax.get_position() for ax in np.atleast_1d(axes)]
    assert len(boxes) == count
    assert all(a.y0 > b.y1 for a, b in pairwise(boxes))
    assert len({round(box.x0, 6) for box in boxes}) == 1


def test_panels_share_axes_when_asked():
    _, (a, b) = plotting.panels(2, sharex=True)
    a.set_xlim(0, 7)
    assert b.get_xlim() == (0, 7)


def test_labels_stand_beside_their_point():
    _, ax = plotting.panels()
    ax.plot([0, 1], [0, 1], **plotting.DYNAMICS)
    plotting.label_end(ax, "descent", plotting.BLUE, 1, 1, dx=5, dy=-2)
    (label,) = ax.texts
    assert label.get_text() == "descent"
    assert label.xy == (1, 1)
    assert label.xyann == (5, -2)
    assert label.get_color() == plotting.BLUE


@pytest.mark.parametrize("slope", [-0.5, 0.0, 2.0])
def test_reference_slopes_are_power_laws(slope):
    _, ax = plotting.panels()
    ax.set(xscale="log", yscale="log")
    plotting.reference_slope(ax, slope, (10, 1000), 4.0, "slope")
    (line,) = ax.lines
    x, y = line.get_data()
    assert x.tolist() == [10, 1000]
    np.testing.assert_allclose(y, [4, 4 * 100**slope])
    (label,) = ax.texts
    assert label.xy == pytest.approx((100, 4 * 10**slope))
    plotting.reference_slope(ax, slope, (10, 1000), 4.0)
    assert len(ax.texts) == 1


def test_figures_repeat_to_the_byte(tmp_path):
    for name in ("a.svg", "b.svg"):
        figure, ax = plotting.panels()
        ax.plot([0, 1], [0, 1], **plotting.LIMIT)
        figure.savefig(tmp_path / name, metadata={"Date": None})
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
