"""The front page's picture shows what it says, and the committed file is what the script draws."""

import re

import matplotlib.image
import picture
import pytest
import torch
from implicit_bias import Regression, gradient_descent, minimum_norm, relative_error
from site_ext import published


@pytest.fixture(scope="module")
def drawn():
    """What is on the figure: its lines by gid, as pairs of vectors."""
    axes = picture.draw().axes[0]
    return {line.get_gid(): torch.as_tensor(line.get_xydata()).T for line in axes.lines}


@pytest.fixture(scope="module")
def problem(drawn):
    x, y = drawn["data"]
    return Regression(picture.features(x), y)


def weights(line, problem):
    """Coefficients of the polynomial that a plotted curve is."""
    x, height = line
    return torch.linalg.lstsq(picture.features(x), height[:, None]).solution[:, 0]


def test_there_are_more_features_than_points(problem):
    assert problem.d > problem.n


@pytest.mark.parametrize("name", ["descent", "limit", "other"])
def test_every_curve_passes_through_every_point(drawn, name):
    x, y = drawn["data"]
    at, height = drawn[name]
    for point, target in zip(x, y, strict=True):
        here = (at - point).abs().argmin()
        assert at[here] == point
        assert abs(height[here] - target) < 1e-8


def test_blue_and_dashed_are_descent_and_minimum_norm(drawn, problem):
    limit = minimum_norm(problem).x
    assert relative_error(gradient_descent(problem).x, limit) < 1e-10
    assert relative_error(weights(drawn["descent"], problem), limit) < 1e-8
    assert relative_error(weights(drawn["limit"], problem), limit) < 1e-8
    assert (drawn["descent"] - drawn["limit"]).abs().max() < 1e-8


def test_grey_is_another_function_and_longer(drawn, problem):
    limit = minimum_norm(problem).x
    assert weights(drawn["other"], problem).norm() > 5 * limit.norm()
    assert (drawn["other"][1] - drawn["limit"][1]).abs().max() > 1


def test_descent_started_elsewhere_ends_at_the_grey_curve(drawn, problem):
    elsewhere = torch.zeros(problem.d)
    elsewhere[9], elsewhere[11] = 6, -6
    path = gradient_descent(problem, start=elsewhere)
    assert relative_error(path.x, weights(drawn["other"], problem)) < 1e-8


def test_with_features_that_grow_the_shortest_fit_is_wild_too(drawn):
    x, y = drawn["data"]
    grid = drawn["other"][0]
    shortest = minimum_norm(Regression(picture.features(x, ratio=1.25), y)).x
    swing = (picture.features(grid, ratio=1.25) @ shortest).abs().max()
    assert swing > 0.95 * drawn["other"][1].abs().max()


def test_committed_picture_is_what_the_script_draws():
    number = re.compile(r"-?\d+\.\d+")
    committed, now = picture.SVG.read_text(encoding="utf-8"), picture.as_svg(picture.draw())
    assert number.sub("#", committed) == number.sub("#", now), "run: python tools/picture.py"
    pairs = zip(number.findall(committed), number.findall(now), strict=True)
    assert max(abs(float(a) - float(b)) for a, b in pairs) < 1e-3


def test_the_card_shows_the_same_curves_at_the_size_that_cards_have(drawn):
    card = picture.draw_card()
    for line in card.axes[0].lines:
        here = torch.as_tensor(line.get_xydata()).T
        assert torch.equal(here, drawn[line.get_gid()])
    assert len(card.axes[0].lines) == len(drawn)
    stored = matplotlib.image.imread(picture.CARD)
    assert stored.shape[1::-1] == picture.CARD_SIZE == published.CARD_SIZE
    assert picture.CARD.stat().st_size < 300_000, "some networks refuse a large card"


def test_picture_asks_for_nothing_and_says_what_it_is():
    svg = picture.SVG.read_text(encoding="utf-8")
    assert not re.findall(r'(?:href|src)="(?!#)|url\((?!#)|@import', svg)
    assert f"<title>{picture.TITLE}</title>" in svg
    assert f"<desc>{picture.DESCRIPTION}</desc>" in svg
