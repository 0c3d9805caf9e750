import numpy as np
import pytest
from PIL import Image

from shared.image_grid import image_grid


def test_pictures_stand_row_by_row():
    red, green, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue"))
    grid = np.asarray(image_grid([red, green, blue], rows=2, cols=2))
    assert tuple(grid[8 + 15, 8 + 20]) == (255, 0, 0)
    assert tuple(grid[8 + 15, 16 + 40 + 20]) == (0, 255, 0)
    assert tuple(grid[16 + 30 + 15, 8 + 20]) == (0, 0, 255)


def test_captions_add_a_line_under_each_picture():
    picture = Image.new("RGB", (100, 100), "red")
    plain, captioned = image_grid([picture], 1, 1), image_grid([picture], 1, 1, captions=["a long caption" * 9])
    assert captioned.height > plain.height
    assert captioned.width == plain.width


@pytest.mark.parametrize(("count", "captions"), [(0, []), (3, []), (2, ["one"])])
def test_what_does_not_fit_is_refused(count, captions):
    pictures = [Image.new("RGB", (8, 8))] * count
    with pytest.raises(ValueError, match="images"):
        image_grid(pictures, 1, 2, captions=captions)
