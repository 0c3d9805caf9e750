"""Every form in which Spaces are known to return pictures: the current ones from a real server, old ones as data."""

import base64
import io

import pytest
from PIL import Image

from shared.domain.errors import RemoteFailed
from tests.space.painting import alike, paint
from worker.generators.flux_client import FluxImageGenerator
from worker.generators.flux_client.results import read_result

IMAGE = ("Image", "Result")
RED = Image.new("RGB", (32, 24), "red")


@pytest.fixture
def ask(spaces):
    def call(api_name, prompt="a fox"):
        generator = FluxImageGenerator(f"{spaces.url}/shapes", api_name=api_name)
        try:
            return generator.generate_image(prompt, seed=3)
        finally:
            generator.close()

    return call


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Files:
    """Stands for the Space's disk: path to bytes."""

    def __init__(self, **files):
        self.asked = []
        self._files = files

    def __call__(self, path):
        self.asked.append(path)
        return self._files[path.partition(".")[0]]


@pytest.mark.parametrize(
    "api_name",
    ["png", "jpeg", "webp", "transparent", "gallery", "before_after", "data_url", "base64", "base64_in_json"],
)
def test_the_picture_is_found_in(ask, api_name):
    image = ask(api_name)
    assert image.mode == "RGB"
    assert alike(image, paint("a fox", 3, 64, 64))


@pytest.mark.parametrize(
    ("api_name", "message"),
    [
        ("nothing", "holds no picture; its parts are: NoneType"),
        ("words", "holds no picture; its parts are: str"),
        ("foreign", "points to 192.0.2.1; only its own host is read"),
        ("lost", "does not hand out its picture: 40"),
        ("garbage", "cannot be read"),
        ("flagged", "not safe for work"),
    ],
)
def test_no_picture_is_a_final_error_that_says_what_came(ask, api_name, message):
    with pytest.raises(RemoteFailed, match=message) as failure:
        ask(api_name)
    assert not failure.value.retryable


@pytest.mark.parametrize(
    "value",
    [
        "a.webp",
        {"path": "a.png", "url": None},
        {"path": None, "url": "a.png"},
        {"__type__": "update", "value": {"path": "a.png"}},
        [{"image": {"path": "a.png"}, "caption": "one"}],
        [["a.png", "a caption"]],
        ("a.png", 7),
        ("a.png", 7, {"__type__": "update", "visible": True}),
        {"data": "data:image/png;base64," + base64.b64encode(encoded(RED)).decode()},
    ],
)
def test_forms_of_older_servers(value):
    outputs = [IMAGE, ("Number", "Seed"), ("Button", "Reuse")][: len(value) if isinstance(value, tuple) else 1]
    result = read_result(value, outputs, Files(a=encoded(RED)))
    assert (result.image.size, result.image.getpixel((0, 0)), result.count) == ((32, 24), (255, 0, 0), 1)
    assert result.seed == (7 if isinstance(value, tuple) else None)


def test_a_turned_picture_is_set_upright_and_its_metadata_are_dropped():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    exif[0x010E] = "somebody's words"
    result = read_result("a.jpg", [IMAGE], Files(a=encoded(RED, "JPEG", exif=exif)))
    assert result.image.size == (24, 32)
    assert result.image.info == {}


@pytest.mark.parametrize("data", [b"", b"GIF89a", encoded(RED)[:50], encoded(RED, "BMP")])
def test_bytes_that_are_no_picture(data):
    with pytest.raises(RemoteFailed, match="cannot be read"):
        read_result("a.png", [IMAGE], Files(a=data))


def test_a_picture_of_absurd_size_is_not_decoded():
    bomb = Image.new("1", (8200, 8200))
    with pytest.raises(RemoteFailed, match="8200x8200 is larger than"):
        read_result("a.png", [IMAGE], Files(a=encoded(bomb)))
