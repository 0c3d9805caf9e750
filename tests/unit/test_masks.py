"""A mask that says nothing is refused, and one that may be meant otherwise is taken with a note."""

from __future__ import annotations

import pytest
from PIL import Image

from api.services.uploads import Picture, read_picture
from shared.domain.errors import MediaError
from shared.domain.params import InputRole
from tests.factories import decoded, encoded, mask_bytes, picture

SIZE = (96, 64)
LEFT, RIGHT = (0, 0, 48, 64), (48, 0, 96, 64)


def read(data: bytes) -> Picture:
    return read_picture(data, InputRole.MASK, "mask", 40_000_000)


def halves(left: object, right: object, mode: str) -> bytes:
    image = Image.new(mode, SIZE)
    image.paste(left, LEFT)
    image.paste(right, RIGHT)
    return encoded(image)


HOLE, BLACK, WHITE = (0, 0, 0, 0), (0, 0, 0, 255), (255, 255, 255, 255)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(halves(0, 0, "L"), ["black all over", "paint the region to repaint white"], id="black"),
        pytest.param(halves(0, 127, "L"), ["brightest pixel is 127 of 255", "begins at 128"], id="dark grey"),
        pytest.param(halves(HOLE, BLACK, "RGBA"), ["transparent parts and no white", "-negate"], id="holes in black"),
        pytest.param(halves(HOLE, HOLE, "RGBA"), ["transparent parts and no white"], id="nothing but a hole"),
        pytest.param(halves((255, 255, 255, 0), BLACK, "RGBA"), ["transparent parts"], id="white that is not seen"),
        pytest.param(encoded(Image.new("1", SIZE, 0)), ["black all over"], id="black of 1 bit"),
    ],
)
def test_a_mask_without_white_is_refused_with_what_was_read_and_what_works(data: bytes, says: list[str]):
    with pytest.raises(MediaError) as refused:
        read(data)
    assert refused.value.details["field"] == "mask"
    for words in ["mask: nothing would be repainted", *says]:
        assert words in refused.value.message


def holes_in_a_photograph() -> bytes:
    photo = picture(mode="RGBA")
    photo.paste(WHITE, RIGHT)
    photo.paste(HOLE, LEFT)
    return encoded(photo)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(halves(HOLE, WHITE, "RGBA"), id="white on a transparent layer, or holes in white"),
        pytest.param(holes_in_a_photograph(), id="holes in a photograph"),
    ],
)
def test_white_beside_holes_is_repainted_and_the_caller_told_of_the_other_reading(data: bytes):
    # when
    taken = read(data)

    # then
    assert [decoded(taken.png).getpixel(point) for point in ((10, 10), (90, 10))] == [0, 255]
    assert "transparent parts are kept and its white parts repainted" in taken.warnings[0]


def test_white_all_over_is_taken_with_a_note():
    assert "the whole picture is repainted" in read(halves(255, 255, "L")).warnings[0]


def test_much_grey_is_taken_with_a_note_of_where_white_begins():
    assert read(halves(200, 0, "L")).warnings == (
        "mask: 50% of it is grey; values of 128 to 255 are repainted, darker ones kept",
    )


def test_soft_edges_are_no_reason_for_a_note():
    # given
    soft = Image.new("L", SIZE, 0)
    soft.paste(255, LEFT)
    soft.paste(128, (47, 0, 50, 64))

    # then
    assert read(encoded(soft)).warnings == ()
    assert read(mask_bytes()).warnings == ()
    assert read(encoded(decoded(mask_bytes()), "JPEG", quality=80)).warnings == ()
