"""Pictures are fetched late, and their places are kept free."""

import pytest
from site_ext.pictures import lazy, size

HEAD = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"'


@pytest.fixture
def drawing(tmp_path):
    def write(attributes, name="a.svg"):
        path = tmp_path / name
        path.write_text(f"{HEAD} {attributes}><g><rect width='7' height='7'/></g></svg>")
        return path

    return write


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ('width="360pt" height="288pt"', (480, 384)),  # a point is 4/3 of a page's pixels
        ('width="360px" height="288.4"', (360, 288)),
        ('width="100%" height="288pt"', None),  # no size of its own
        ("", None),  # that of the rectangle within is not taken for it
    ],
)
def test_the_size_is_what_the_drawing_says_of_itself(drawing, attributes, wanted):
    assert size(drawing(attributes)) == wanted


def test_other_pictures_have_no_known_size(tmp_path):
    assert size(tmp_path / "photograph.png") is None


def test_a_picture_is_marked_with_its_size_and_the_rest_left_alone(drawing):
    path = drawing('width="300pt" height="150pt"')
    image = '<figure><img alt="A line." src="../_images/a.svg" style="width: 100%;" /></figure>'
    badge = '<img alt="Badge" src="../_static/badge.svg">'
    marked = lazy(image + badge, {"a.svg": path})
    assert marked == (
        '<figure><img alt="A line." src="../_images/a.svg" style="width: 100%;"'
        ' width="400" height="200" loading="lazy" /></figure>' + badge
    )
    assert lazy(marked, {"a.svg": path}) == marked


def test_what_an_author_said_stays(drawing):
    path = drawing('width="300pt" height="150pt"')
    image = '<img alt="" src="_images/a.svg" width="50" loading="eager" />'
    assert lazy(image, {"a.svg": path}) == image


def test_a_picture_of_unknown_size_is_fetched_late_too():
    marked = lazy('<img src="../_images/b%20c.png">', {})
    assert marked == '<img src="../_images/b%20c.png" loading="lazy" />'
