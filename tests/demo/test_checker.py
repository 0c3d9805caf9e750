import random
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from PIL import ImageFilter

from worker.demo.checker import intersection_over_union, matches, mean_difference, name_colour, read
from worker.demo.renderer import render
from worker.demo.vocabulary import COLOURS, POSITIONS, SHAPES, SIZES
from worker.demo.world import Scene, Thing, random_scene


@pytest.mark.parametrize(("shape", "size"), list(product(SHAPES, SIZES)))
def test_reads_back_what_was_rendered(shape: str, size: str) -> None:
    colours = list(COLOURS)
    for index, position in enumerate(POSITIONS):
        scene = Scene(colours[index % 8], Thing(colours[(index + 3) % 8], shape, size, position))
        assert all(matches(read(np.asarray(render(scene))), scene).values()), scene


@pytest.mark.parametrize("background", COLOURS)
def test_reads_an_empty_picture_as_empty(background: str) -> None:
    scene = Scene(background)
    reading = read(np.asarray(render(scene)))
    assert reading.is_empty
    assert all(matches(reading, scene).values())


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_blur_do_not_mislead(seed: int) -> None:
    scene = random_scene(random.Random(seed), empty_share=0.1)
    blurred = np.asarray(render(scene).filter(ImageFilter.GaussianBlur(1.5))).astype(np.float32)
    noisy = blurred + np.random.default_rng(seed).normal(0, 8, blurred.shape)
    assert all(matches(read(noisy), scene).values()), scene


def test_tells_every_wrong_attribute() -> None:
    thing = Thing("red", "circle", "large", "center")
    reading = read(np.asarray(render(Scene("white", thing))))
    wrong = {
        "background": Scene("yellow", thing),
        "colour": Scene("white", replace(thing, colour="orange")),
        "shape": Scene("white", replace(thing, shape="diamond")),
        "size": Scene("white", replace(thing, size="small")),
        "position": Scene("white", replace(thing, position="top")),
    }
    for attribute, scene in wrong.items():
        assert [name for name, right in matches(reading, scene).items() if not right] == [attribute]
    missing = matches(reading, Scene("white"))
    assert missing["background"]
    assert not any(missing[name] for name in ("colour", "shape", "size", "position"))


def test_a_shapeless_smear_has_no_shape() -> None:
    picture = np.asarray(render(Scene("white"))).copy()
    picture[100:108, 40:210] = COLOURS["red"]
    reading = read(picture)
    assert reading.colour == "red"
    assert reading.shape is None


def test_a_colour_far_from_the_palette_has_no_name() -> None:
    assert name_colour(np.array([128.0, 128.0, 128.0], np.float32)) is None
    assert name_colour(np.array([210.0, 60.0, 30.0], np.float32)) == "red"


def test_overlap_and_difference() -> None:
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2], right[:, 1:3] = True, True
    assert intersection_over_union(left, right) == pytest.approx(1 / 3)
    assert intersection_over_union(left & right & False, left & False) == 1.0
    one, other = np.zeros((2, 4, 3), np.uint8), np.full((2, 4, 3), 6, np.uint8)
    assert mean_difference(one, other, left) == 6.0
