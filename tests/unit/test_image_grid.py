import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.image_grid import grid_shape, image_grid

RED, LIME, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PAPER = (250, 250, 250)


def flat(colour, size=(40, 30)):
    return Image.new("RGB", size, colour)


def test_pictures_stand_row_by_row():
    grid = np.asarray(image_grid([flat(RED), flat(LIME), flat(BLUE)], rows=2, cols=2))
    assert tuple(grid[8 + 15, 8 + 20]) == RED
    assert tuple(grid[8 + 15, 16 + 40 + 20]) == LIME
    assert tuple(grid[16 + 30 + 15, 8 + 20]) == BLUE
    assert tuple(grid[16 + 30 + 15, 16 + 40 + 20]) == PAPER


def test_a_smaller_picture_stands_in_the_middle_of_its_cell():
    grid = np.asarray(image_grid([flat(RED), flat(LIME, (10, 10))], 1, 2))
    assert tuple(grid[8 + 15, 16 + 40 + 20]) == LIME
    assert tuple(grid[8 + 2, 16 + 40 + 2]) == PAPER


def test_captions_add_a_line_under_each_picture():
    picture = flat(RED, (100, 100))
    plain, captioned = image_grid([picture], 1, 1), image_grid([picture], 1, 1, captions=["seed 7"])
    assert captioned.height > plain.height
    assert captioned.width == plain.width
    assert (np.asarray(captioned)[plain.height :] < 100).any()


@pytest.mark.parametrize("caption", ["a long caption " * 900, "two\nlines", "", "雪 🦊 naïve", "W" * 9])
def test_any_text_is_a_caption(caption):
    captioned = image_grid([flat(RED)], 1, 1, captions=[caption])
    assert captioned.size == image_grid([flat(RED)], 1, 1, captions=["x"]).size


def test_a_contact_sheet_scales_large_pictures_down_and_leaves_small_ones():
    grid = image_grid([flat(RED, (400, 200)), flat(LIME, (20, 20))], 1, 2, cell=(100, 100))
    assert grid.size == (3 * 8 + 200, 2 * 8 + 100)
    pixels = np.asarray(grid)
    assert (pixels == RED).all(axis=2).sum() == 100 * 50
    assert (pixels == LIME).all(axis=2).sum() == 20 * 20


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_pictures_of_any_mode_are_shown(mode):
    grid = np.asarray(image_grid([Image.new("RGB", (20, 20), "white").convert(mode)], 1, 1))
    assert tuple(grid[18, 18]) == (255, 255, 255)


def test_transparent_parts_show_the_background():
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (np.asarray(image_grid([clear], 1, 1)) == PAPER).all()


@pytest.mark.parametrize(
    ("count", "shape", "captions"), [(0, (1, 2), []), (3, (1, 2), []), (2, (1, 2), ["one"]), (1, (0, 2), [])]
)
def test_what_does_not_fit_is_refused(count, shape, captions):
    with pytest.raises(ValueError, match=r"images|cells"):
        image_grid([flat(RED)] * count, *shape, captions=captions)


def test_a_grid_that_no_machine_should_make_is_refused():
    with pytest.raises(ValueError, match="smaller cell"):
        image_grid([flat(RED)] * 4, 2, 2, cell=(20_000, 20_000))


@given(st.integers(1, 500))
def test_every_count_has_a_shape_with_no_empty_row(count):
    rows, cols = grid_shape(count)
    assert (rows - 1) * cols < count <= rows * cols
    assert rows <= cols
