from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress

import pytest
from PIL import ExifTags, Image, ImageCms

from api.services.uploads import Picture, read_picture
from shared.domain.errors import MediaError
from shared.domain.params import InputRole
from tests.factories import decoded, encoded, mask_bytes, noise_bytes, picture, png_bytes

MAX_PIXELS = 40_000_000
TOP_LEFT, BOTTOM, RIGHT = (4, 4), (48, 62), (90, 20)
"""Points of ``factories.picture()`` in its lime quarter, its blue edge and its red rest."""


def read(data: bytes, role: InputRole = InputRole.IMAGE) -> Picture:
    return read_picture(data, role, "file", MAX_PIXELS)


def pixels(data: bytes, *points: tuple[int, int], role: InputRole = InputRole.IMAGE) -> list:
    image = decoded(read(data, role).png)
    return [image.getpixel(point) for point in points]


def near(one: tuple[int, ...], other: tuple[int, ...], by: int) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(png_bytes(), 0, id="PNG"),
        pytest.param(encoded(picture(), "JPEG", quality=95, subsampling=0), 4, id="JPEG"),
        pytest.param(encoded(picture(), "JPEG", quality=95, progressive=True), 4, id="progressive JPEG"),
        pytest.param(encoded(picture(), "WEBP", lossless=True), 0, id="lossless WebP"),
        pytest.param(encoded(picture(), "WEBP", quality=95), 12, id="lossy WebP"),
        pytest.param(encoded(picture().quantize(8)), 0, id="palette PNG"),
        pytest.param(encoded(picture(mode="RGBA")), 0, id="opaque RGBA"),
        pytest.param(encoded(picture(mode="CMYK"), "JPEG", quality=95), 8, id="CMYK JPEG"),
        pytest.param(encoded(picture().convert("YCbCr"), "JPEG", quality=95, subsampling=0), 4, id="YCbCr JPEG"),
    ],
)
def test_every_accepted_kind_of_colour_picture_is_stored_as_the_same_rgb(data: bytes, tolerance: int):
    # when
    taken = read(data)

    # then
    stored = decoded(taken.png)
    assert (stored.format, stored.mode, stored.size) == ("PNG", "RGB", (96, 64))
    assert (taken.width, taken.height, taken.warnings) == (96, 64, ())
    wanted = {TOP_LEFT: (0, 255, 0), BOTTOM: (0, 0, 255), RIGHT: (255, 0, 0)}
    for point, colour in wanted.items():
        assert near(stored.getpixel(point), colour, tolerance)


def grey_ramp_16() -> bytes:
    """A grey PNG of 16 bits whose columns are 0, 257, 2 x 257 ... 255 x 257."""
    rows = b"".join(b"\0" + b"".join(struct.pack(">H", 257 * x) for x in range(256)) for _ in range(16))
    return png(256, 16, 16, 0, rows)


def rgb_16() -> bytes:
    rows = b"".join(b"\0" + struct.pack(">HHH", 0xFFFF, 0x8080, 0) * 16 for _ in range(16))
    return png(16, 16, 16, 2, rows)


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_grey_of_16_bits_keeps_its_brightness():
    # when
    stored = decoded(read(grey_ramp_16()).png)

    # then
    assert [stored.getpixel((x, 0)) for x in range(256)] == [(x, x, x) for x in range(256)]


def test_colour_of_16_bits_keeps_its_brightness():
    assert pixels(rgb_16(), (8, 8)) == [(255, 128, 0)]


def test_black_and_white_of_1_bit_is_taken():
    assert pixels(encoded(Image.new("1", (32, 32), 1)), (8, 8)) == [(255, 255, 255)]


def test_grey_with_alpha_is_laid_on_white_with_a_warning():
    # given: black, half seen
    data = encoded(Image.new("LA", (32, 32), (0, 128)))

    # when
    taken = read(data)

    # then
    assert near(decoded(taken.png).getpixel((8, 8)), (127, 127, 127), 1)
    assert taken.warnings == ("file: transparent parts were laid on white",)


def test_a_palette_with_a_transparent_colour_is_laid_on_white_with_a_warning():
    # given
    image = picture().quantize(8)
    lime = image.getpixel(TOP_LEFT)

    # when
    taken = read(encoded(image, transparency=lime))

    # then
    stored = decoded(taken.png)
    assert (stored.getpixel(TOP_LEFT), stored.getpixel(RIGHT)) == ((255, 255, 255), (255, 0, 0))
    assert len(taken.warnings) == 1


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_an_alpha_channel_that_hides_nothing_is_no_reason_for_a_warning(file_format: str):
    assert read(encoded(picture(mode="RGBA"), file_format, lossless=True)).warnings == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_its_camera_turned_is_stored_upright(file_format: str, orientation: int):
    # given: the pixels as the sensor saw them, and the tag that says how to turn them
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    sensor = picture() if undo is None else picture().transpose(undo)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation

    # when
    taken = read(encoded(sensor, file_format, exif=exif, quality=95))

    # then
    stored = decoded(taken.png)
    assert stored.size == (96, 64)
    assert near(stored.getpixel(TOP_LEFT), (0, 255, 0), 12)
    assert near(stored.getpixel(BOTTOM), (0, 0, 255), 12)
    assert stored.getexif().get(ExifTags.Base.Orientation) is None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*", b"Exif\0\0" + b"\xff" * 64, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 40]
)
def test_exif_that_cannot_be_read_does_not_spoil_the_picture(exif: bytes):
    assert near(pixels(encoded(picture(), "JPEG", exif=exif, quality=95), TOP_LEFT)[0], (0, 255, 0), 4)


def test_nothing_but_pixels_is_stored():
    # given
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.GPSInfo] = {1: "N"}
    data = encoded(
        picture(), "JPEG", exif=exif, comment=b"a secret", icc_profile=ImageCms.ImageCmsProfile(srgb()).tobytes()
    )

    # when
    stored = decoded(read(data + b"<script>polyglot</script>").png)

    # then
    assert stored.info == {}
    assert dict(stored.getexif()) == {}
    assert b"script" not in read(data + b"<script>polyglot</script>").png


def srgb() -> ImageCms.core.CmsProfile:
    return ImageCms.createProfile("sRGB")


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries have changed places, so that a conversion shows at once."""
    profile = bytearray(ImageCms.ImageCmsProfile(srgb()).tobytes())
    red, green = profile.find(b"rXYZ", 128), profile.find(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(picture(), icc_profile=swapped_profile()), id="RGB"),
        pytest.param(encoded(picture(mode="RGBA"), icc_profile=swapped_profile()), id="RGBA"),
        pytest.param(encoded(picture().quantize(8), icc_profile=swapped_profile()), id="palette"),
        pytest.param(encoded(picture(), "JPEG", quality=95, icc_profile=swapped_profile()), id="JPEG"),
        pytest.param(encoded(picture(), "WEBP", lossless=True, icc_profile=swapped_profile()), id="WebP"),
    ],
)
def test_colours_are_brought_to_srgb_by_the_picture_s_own_profile(data: bytes):
    # when
    top_left, right = pixels(data, TOP_LEFT, RIGHT)

    # then
    assert near(top_left, (255, 0, 0), 6)
    assert near(right, (0, 255, 0), 6)


@pytest.mark.parametrize("profile", [b"no profile", ImageCms.ImageCmsProfile(srgb()).tobytes()[:300], b"\0" * 500])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_profile_that_is_broken_or_of_another_mode_is_passed_over(mode: str, profile: bytes):
    # when
    taken = read(encoded(picture(mode=mode), icc_profile=profile))

    # then
    assert decoded(taken.png).getpixel(TOP_LEFT) == picture(mode=mode).convert("RGB").getpixel(TOP_LEFT)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(mask_bytes(), id="L"),
        pytest.param(encoded(decoded(mask_bytes()).convert("1")), id="1 bit"),
        pytest.param(encoded(decoded(mask_bytes()).convert("RGB")), id="RGB"),
        pytest.param(encoded(decoded(mask_bytes()).convert("P")), id="palette"),
        pytest.param(encoded(decoded(mask_bytes()).convert("RGBA")), id="RGBA"),
        pytest.param(encoded(decoded(mask_bytes()).convert("I;16").point(lambda value: value * 257)), id="16 bit"),
        pytest.param(encoded(decoded(mask_bytes()), "JPEG", quality=100), id="JPEG"),
    ],
)
def test_a_mask_is_stored_as_grey_and_white_stays_white(data: bytes):
    # when
    taken = read(data, InputRole.MASK)

    # then
    stored = decoded(taken.png)
    assert (stored.mode, stored.size) == ("L", (96, 64))
    assert (stored.getpixel((10, 10)), stored.getpixel((90, 10))) == (255, 0)


def test_what_cannot_be_seen_of_a_mask_is_not_repainted():
    # given: white all over, but seen only on the left
    glass = Image.new("RGBA", (96, 64), (255, 255, 255, 0))
    glass.paste((255, 255, 255, 255), (0, 0, 48, 64))

    # then
    assert pixels(encoded(glass), (10, 10), (90, 10), role=InputRole.MASK) == [255, 0]


def test_a_phone_s_jpeg_with_a_second_view_behind_it_is_taken_by_its_first():
    # given
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)], quality=95)

    # then
    assert near(pixels(data, TOP_LEFT)[0], (0, 255, 0), 12)


def test_the_limit_of_pixels_is_the_owner_s():
    # given
    exactly, above = png_bytes(100, 100), png_bytes(101, 100)

    # then
    assert read_picture(exactly, InputRole.IMAGE, "file", 10_000).width == 100
    with pytest.raises(MediaError) as refused:
        read_picture(above, InputRole.IMAGE, "file", 10_000)
    assert refused.value.details["limit"] == 10_000


def test_a_bomb_is_refused_before_its_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch):
    # given: nothing may be decoded any more
    bombs = [encoded(Image.new("1", (8000, 6000))), encoded(Image.new("1", (20_000, 1)))]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)

    # then
    for bomb in bombs:
        with pytest.raises(MediaError) as refused:
            read(bomb)
        assert "limit" in refused.value.details


FILES = {
    "PNG": noise_bytes(48, 48),
    "2 bit palette": encoded(picture().quantize(4), bits=2),
    "JPEG": noise_bytes(48, 48, "JPEG", exif=Image.Exif(), icc_profile=swapped_profile()),
    "progressive JPEG": noise_bytes(48, 48, "JPEG", progressive=True),
    "WebP": noise_bytes(48, 48, "WEBP", quality=80),
    "lossless WebP": noise_bytes(48, 48, "WEBP", lossless=True),
    "APNG": encoded(picture(), "PNG", save_all=True, append_images=[picture().rotate(180)]),
    "palette": encoded(picture().quantize(8), transparency=1),
    "MPO": encoded(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)]),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["PNG", "JPEG", "progressive JPEG", "WebP", "lossless WebP"])
def test_a_file_that_is_cut_off_anywhere_is_refused(name: str):
    # given
    whole = FILES[name]
    read(whole)

    # then: the last bytes of a file hold no pixels, and some decoders do without them
    for length in range(1, len(whole) - 64, 64):
        with pytest.raises(MediaError):
            read(whole[:length])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("role", list(InputRole))
@pytest.mark.parametrize("name", list(FILES))
def test_a_file_with_wrong_bits_is_either_a_picture_or_refused(name: str, role: InputRole):
    # given
    dice = random.Random(name)
    for _ in range(150):
        broken = bytearray(FILES[name])
        for _ in range(dice.choice((1, 1, 4, 32))):
            # headers are at the front, and hold most of what can go wrong
            end = dice.choice((64, 400, len(broken)))
            broken[dice.randrange(min(end, len(broken)))] ^= 1 << dice.randrange(8)

        # then
        with suppress(MediaError):
            taken = read_picture(bytes(broken), role, "file", max_pixels=100_000)
            assert decoded(taken.png).size == (taken.width, taken.height)
