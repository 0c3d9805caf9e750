"""``FluxClientAdapter`` and ``FluxImageGenerator`` against a real Gradio server with the public Spaces' signatures."""

import io
import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError, MediaError
from tests.space.contexts import RecordingContext
from tests.space.painting import alike, edit, paint
from worker.generators.flux_client import FluxClientAdapter, FluxImageGenerator

SMALL = {"width": 256, "height": 320, "seed": 7}


@pytest.fixture
def shaped(spaces):
    """Makes generators for one endpoint each."""
    made = []

    def make(api_name):
        made.append(FluxImageGenerator(f"{spaces.url}/shapes", api_name=api_name))
        return made[-1]

    yield make
    for generator in made:
        generator.close()


@pytest.fixture
def adapter(spaces):
    def make(name, model=None, **options):
        space = FluxImageGenerator(f"{spaces.url}/{name}", **options)
        return FluxClientAdapter(space, CATALOG[model or name])

    return make


class TestPublicSignatures:
    def test_schnell(self, adapter, spaces):
        # When two pictures are asked for
        context = RecordingContext()
        images = adapter("schnell").generate("a red fox", context=context, num_images=2, **SMALL)
        # Then each is what its own seed gives, in order, and was handed over at once
        expected = [paint("a red fox", seed, 256, 320, num_inference_steps=4) for seed in (7, 8)]
        assert [image.mode for image in images] == ["RGB", "RGB"]
        assert all(map(alike, images, expected))
        assert [call[1:] for call in spaces.calls()] == [["a red fox", 7, False], ["a red fox", 8, False]]
        steps = [event for event in context.events if event[0] not in ("queue", "step")]
        one = ["loading", "denoising", "decoding"]
        assert steps == [*one, ("image", 0), *one, ("image", 1)]

    def test_dev_which_streams_previews(self, adapter):
        (image,) = adapter("dev").generate("a fox", guidance_scale=2.0, num_inference_steps=3, **SMALL)
        assert alike(image, paint("a fox", 7, 256, 320, guidance_scale=2.0, num_inference_steps=3))

    def test_kontext_which_takes_a_picture(self, adapter):
        source = Image.effect_noise((256, 320), 80).convert("RGB")
        (image,) = adapter("kontext").generate("make it snow", image=source, seed=3)
        assert alike(image, edit(source, "make it snow", 3))

    def test_fill_of_any_size_keeps_it_and_all_that_the_mask_keeps(self, adapter):
        # Given a picture off the model's grid, and a mask that is white below its middle
        source, mask = Image.effect_noise((300, 270), 80).convert("RGB"), Image.new("L", (300, 270), 0)
        mask.paste(255, (0, 130, 300, 270))
        # When a Space that knows only the grid fills it
        context = RecordingContext()
        (image,) = adapter("fill").generate("snow", image=source, mask=mask, seed=3, context=context)
        # Then the result has its size, its bytes outside of the mask, and the Space's picture inside
        assert image.size == (300, 270)
        assert image.crop((0, 0, 300, 130)).tobytes() == source.crop((0, 0, 300, 130)).tobytes()
        assert alike(image.crop((0, 130, 300, 270)), paint("snow", 3, 304, 272).resize((300, 140)))
        assert context.warnings == []

    def test_the_same_request_gives_the_same_picture(self, adapter):
        first, second = (adapter("schnell").generate("a fox", **SMALL)[0] for _ in range(2))
        assert first.tobytes() == second.tobytes()


class TestCapabilities:
    """Whatever is refused is refused before anything is sent."""

    @pytest.fixture(autouse=True)
    def _nothing_runs(self, spaces):
        yield
        assert spaces.calls() == []

    @pytest.mark.parametrize(
        ("model", "options", "field"),
        [
            ("schnell", {"guidance_scale": 2.0}, "guidance_scale"),
            ("schnell", {"negative_prompt": "blurry"}, "negative_prompt"),
            ("schnell", {"model": "dev"}, "model"),
            ("schnell", {"num_inference_steps": 51}, "num_inference_steps"),
            ("schnell", {"image": Image.new("RGB", (64, 64))}, "image"),
            ("dev", {"guidance_scale": 20.0}, "guidance_scale"),
            ("kontext", {"image": Image.new("RGB", (64, 64)), "width": 512, "height": 512}, "width"),
        ],
    )
    def test_what_the_space_cannot_do(self, adapter, model, options, field):
        with pytest.raises(CapabilityError) as refusal:
            adapter(model).generate("a fox", **options)
        assert refusal.value.details["field"] == field

    def test_the_limits_are_those_of_the_spaces_sliders(self, adapter):
        with pytest.raises(CapabilityError, match="guidance_scale is 20; the Space takes 1 to 15"):
            adapter("dev").generate("a fox", guidance_scale=20.0)

    def test_an_edit_without_a_picture(self, adapter):
        with pytest.raises(MediaError, match="needs an image"):
            adapter("kontext").generate("make it snow")

    def test_several_endpoints_need_a_choice(self, adapter):
        with pytest.raises(CapabilityError, match=r"Set FLUX_REMOTE_API_NAME to one of: .*/png"):
            adapter("shapes", "schnell").generate("a fox")

    def test_an_endpoint_that_is_not_there(self, adapter):
        with pytest.raises(CapabilityError, match=r"no endpoint /nope.*/png"):
            adapter("shapes", "schnell", api_name="nope").generate("a fox")

    def test_an_endpoint_that_needs_more_than_there_is(self, adapter):
        with pytest.raises(CapabilityError, match="needs lora"):
            adapter("shapes", "schnell", api_name="needy").generate("a fox")


class TestWarnings:
    def test_a_seed_above_the_spaces_range_is_folded_and_said(self, spaces, adapter):
        context = RecordingContext()
        adapter("schnell").generate("a fox", context=context, **{**SMALL, "seed": 2**31 + 5})
        assert [call[2] for call in spaces.calls()] == [5]
        assert context.warnings == ["the Space's seeds end at 2147483647: 2147483653 was sent as 5"]

    def test_what_the_space_does_differently_is_said(self, shaped):
        context = RecordingContext()
        implied = {"width": 64, "height": 64}
        shaped("wayward").generate_image("a fox", context=context, implied=implied, seed=1, **implied)
        assert context.warnings == [
            "the Space made 96x64 pixels instead of 64x64",
            "the Space used seed 4711 instead of 1",
        ]

    @pytest.mark.parametrize(
        ("api_name", "warning"),
        [
            ("black", "all black"),
            ("gallery", "2 pictures for one seed; the first is kept"),
            ("seedless", "takes no seed"),
        ],
    )
    def test_a_doubtful_picture_is_not_passed_on_in_silence(self, shaped, api_name, warning):
        context = RecordingContext()
        shaped(api_name).generate_image("a fox", context=context, seed=1)
        assert [warning in message for message in context.warnings] == [True]


class TestPrivacy:
    def test_a_picture_is_uploaded_without_what_its_file_said(self, adapter, spaces):
        # Given a picture that carries more than pixels
        source = Image.effect_noise((64, 64), 50).convert("RGB")
        source.info["icc_profile"] = b"a profile that is known nowhere else"
        # When it is edited remotely
        adapter("kontext").generate("make it snow", image=source, seed=3)
        # Then only the pixels arrived
        uploads = [Path(folder) / name for folder, _, names in os.walk(spaces.folder) for name in names]
        files = [upload.read_bytes() for upload in uploads if upload.name == "input_image.png"]
        arrived = [Image.open(io.BytesIO(data)) for data in files]
        assert any(image.tobytes() == source.tobytes() for image in arrived)
        assert not any("icc_profile" in image.info for image in arrived)

    def test_nothing_is_left_on_this_machine(self, adapter, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        source = Image.new("RGB", (64, 64), "red")
        adapter("kontext").generate("make it snow", image=source, seed=3)
        assert list(tmp_path.iterdir()) == []

    def test_a_token_of_this_machine_is_not_sent_unasked(self, adapter, spaces, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
        adapter("schnell").generate("a fox", **SMALL)
        assert spaces.log()["visits"] == []

    def test_the_client_reports_to_nobody(self, spaces):
        generator = FluxImageGenerator(f"{spaces.url}/schnell")
        assert generator.connect()._client.analytics_enabled is False
        generator.close()
