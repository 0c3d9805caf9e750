import numpy as np
import pytest

from worker.demo.renderer import coverage, pixels, render
from worker.demo.vocabulary import COLOURS, POSITIONS, SHAPES
from worker.demo.world import RADII, Scene, Thing

AREAS = {
    "circle": np.pi,
    "square": (2 * 0.89) ** 2,
    "triangle": 1.1 * 2.0,
    "diamond": 2 * 1.1**2,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [64, 256])
def test_shapes_cover_their_exact_area(shape: str, side: int) -> None:
    covered = coverage(Thing("red", shape, "large", "center"), side, side).sum()
    assert covered == pytest.approx(AREAS[shape] * (RADII["large"] * side) ** 2, rel=0.02)


def test_edges_are_anti_aliased_and_the_rest_is_exact() -> None:
    levels = pixels(Scene("white", Thing("red", "circle", "large", "center")))
    assert tuple(levels[128, 128]) == COLOURS["red"]
    assert tuple(levels[0, 0]) == COLOURS["white"]
    share = coverage(Thing("red", "circle", "large", "center"))
    partly = ((share > 0) & (share < 1)).sum()
    assert 200 < partly < 800


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("position", POSITIONS)
def test_even_the_largest_object_leaves_a_frame(shape: str, position: str) -> None:
    thing = Thing("red", shape, "large", position, (1 / 64, 1 / 64), 1.04)
    share = coverage(thing)
    assert share[0].max() == share[-1].max() == share[:, 0].max() == share[:, -1].max() == 0.0


def test_other_sizes_and_ratios_render() -> None:
    picture = render(Scene("blue", Thing("red", "square", "small", "bottom right")), 320, 160)
    assert picture.size == (320, 160)
    assert picture.getpixel((240, 120)) == COLOURS["red"]
    assert picture.getpixel((80, 40)) == COLOURS["blue"]
