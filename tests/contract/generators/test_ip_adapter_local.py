"""Consistent generation through the real loaders; the small models paint the colour of their reference picture."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError
from shared.domain.precision import Precision
from shared.domain.samplers import SAMPLERS
from shared.planner import GIB, Budget, DoesNotFit, Shape, Wanted, plan
from tests.contract.generators.conformance import GeneratorConformance, RecordingContext, Subject, same
from tests.contract.generators.failures import not_a_number, out_of_memory
from worker.cancellation import JobInterrupted
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.ip_adapter_local import IPAdapterLocalAdapter
from worker.generators.local import LocalGenerator
from worker.pipelines.device import pick_device
from worker.pipelines.ip_adapter import IPAdapters
from worker.pipelines.planning import GPU_SPECS
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

pytestmark = pytest.mark.timeout(600)  # the small models learn while other processes may hold the machine
PROMPT = "a red circle on a blue background"
QUICK = {"width": 256, "height": 256, "num_inference_steps": 2, "seed": 7}
COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}


def plain_picture(colour: str, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def distance(image: Image.Image, colour: str) -> float:
    """Return how far the mean colour of a picture is from a colour, 0..441."""
    return float(np.linalg.norm(np.asarray(image, float).mean((0, 1)) - COLOURS[colour]))


@pytest.fixture(scope="module")
def generator(hub_store: PipelineStore) -> IPAdapterLocalAdapter:
    return IPAdapterLocalAdapter(hub_store)


@pytest.fixture(params=["flux", "sd15", "sdxl"])
def model(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


class TestFlux(GeneratorConformance):
    @pytest.fixture
    def subject(self, generator: IPAdapterLocalAdapter, hub_store: PipelineStore, flux: str) -> Subject:
        transformer = hub_store.get(CATALOG[flux]).transformer
        return Subject(
            generator=generator,
            options={**QUICK, "model": flux, "reference": plain_picture("lime")},
            unsupported=[{"negative_prompt": "blurry"}, {"sampler": "Euler a"}, {"num_inference_steps": 51}],
            failures=[out_of_memory(transformer), not_a_number(transformer)],
        )


class TestStableDiffusion(GeneratorConformance):
    @pytest.fixture
    def subject(self, generator: IPAdapterLocalAdapter, hub_store: PipelineStore, sd15: str) -> Subject:
        unet = hub_store.get(CATALOG[sd15]).unet
        return Subject(
            generator=generator,
            options={**QUICK, "model": sd15, "reference": plain_picture("lime")},
            unsupported=[{"sampler": "euler"}, {"num_inference_steps": 101}, {"width": 2048}],
            failures=[out_of_memory(unet), not_a_number(unet)],
        )


class TestReference:
    STEPS = {**QUICK, "num_inference_steps": 5, "guidance_scale": 2.0}

    def test_it_moves_the_result_towards_itself(self, generator, model):
        # Given words alone, and the same words with references of three colours
        options = {**self.STEPS, "model": model}
        alone = generator.generate(PROMPT, **options)[0]
        followed = {
            colour: generator.generate(PROMPT, reference=plain_picture(colour), ip_adapter_scale=1.0, **options)[0]
            for colour in COLOURS
        }
        # Then each result is nearer to the colour of its own reference than to the others'
        for colour, image in followed.items():
            assert min(COLOURS, key=lambda other: distance(image, other)) == colour
        # And much nearer than words alone happen to come
        apart = np.mean([distance(alone, colour) for colour in COLOURS])
        assert np.mean([distance(image, colour) for colour, image in followed.items()]) < apart / 2

    def test_at_scale_0_the_result_is_that_of_words_alone(self, generator, model):
        options = {**QUICK, "model": model}
        alone = generator.generate(PROMPT, **options)[0]
        for colour in ("red", "blue"):
            unseen = generator.generate(PROMPT, reference=plain_picture(colour), ip_adapter_scale=0.0, **options)[0]
            assert same(alone, unseen)

    def test_it_joins_a_picture_to_start_from(self, generator, model):
        options = {**self.STEPS, "model": model, "image": plain_picture("white", (256, 256)), "strength": 0.8}
        red, blue = (
            generator.generate(PROMPT, reference=plain_picture(colour), ip_adapter_scale=1.0, **options)[0]
            for colour in ("red", "blue")
        )
        assert red.size == (256, 256)
        assert distance(red, "red") < distance(blue, "red")

    def test_it_is_followed_by_a_model_in_8_bits_too(self, generator, flux):
        # Given one job at each precision
        options = {**self.STEPS, "model": flux, "ip_adapter_scale": 1.0, "reference": plain_picture("lime")}
        exact = generator.generate(PROMPT, **options)[0]
        eight = generator.generate(PROMPT, precision=Precision.BALANCED, **options)[0]
        # Then the same adapter serves both, and exact is as it was
        assert not same(exact, eight)
        assert min(COLOURS, key=lambda colour: distance(eight, colour)) == "lime"
        assert same(exact, generator.generate(PROMPT, **options)[0])

    @pytest.mark.parametrize("name", ["sd15", "sdxl"])
    def test_stable_diffusion_has_no_8_bit_form_and_says_so(self, generator, request, name):
        model = request.getfixturevalue(name)
        with pytest.raises(CapabilityError, match="only exact works") as refused:
            generator.generate(PROMPT, model=model, precision=Precision.BALANCED, **QUICK)
        assert refused.value.details["field"] == "precision"

    def test_one_that_is_not_square_is_warned_of(self, generator, sd15):
        context = RecordingContext()
        generator.generate(PROMPT, reference=plain_picture("red", (128, 64)), context=context, model=sd15, **QUICK)
        assert context.warnings == [
            "reference: the adapter sees its middle square; send a square picture to show it all"
        ]


class TestStableDiffusionParameters:
    @pytest.fixture
    def paint(self, generator: IPAdapterLocalAdapter, sd15: str):
        def paint(**options: Any) -> Image.Image:
            return generator.generate(PROMPT, **{**QUICK, "model": sd15, **options})[0]

        return paint

    def test_what_to_keep_out_and_how_much_the_words_count_matter(self, paint):
        base = paint(guidance_scale=4.0)
        assert not same(base, paint(guidance_scale=8.0))
        assert not same(base, paint(guidance_scale=4.0, negative_prompt="blue"))

    def test_a_negative_prompt_has_no_effect_without_guidance(self, paint):
        assert same(paint(guidance_scale=1.0, negative_prompt="blue"), paint(guidance_scale=1.0))

    def test_words_beyond_what_the_model_reads_are_warned_of(self, paint, generator, sd15):
        context = RecordingContext()
        generator.generate("red " * 90, context=context, model=sd15, **QUICK)
        assert "tokens long; sd15 reads the first" in context.warnings[0]

    def test_every_sampler_paints_from_words_and_from_a_picture(self, paint):
        start, unguided = plain_picture("white", (256, 256)), {"guidance_scale": 1.0, "num_inference_steps": 2}
        painted = set()
        for sampler in SAMPLERS:
            painted.add(paint(sampler=sampler, **unguided).tobytes())
            paint(sampler=sampler, image=start, strength=0.5, **unguided)
        assert len(painted) > len(SAMPLERS) / 2
        assert paint(sampler="Euler a", **unguided).tobytes() in painted

    def test_the_less_strength_the_more_of_the_picture_is_left(self, paint):
        start = plain_picture("red", (256, 256))
        faint, strong = (paint(image=start, strength=strength, num_inference_steps=10) for strength in (0.1, 1.0))
        assert distance(faint, "red") < distance(strong, "red")


class TestNothingLeaks:
    """A plain job on a model is bit-equal before and after consistent ones on it, however they ended."""

    @pytest.fixture
    def plain(self, hub_store: PipelineStore, flux: str):
        local = FluxLocalGenerator(hub_store)
        return lambda: local.generate(PROMPT, model=flux, **QUICK)[0]

    def test_after_a_job_that_ended_well(self, plain, generator, flux):
        before = plain()
        consistent = generator.generate(PROMPT, model=flux, reference=plain_picture("red"), **QUICK)[0]
        assert not same(before, consistent)
        assert same(before, plain())

    def test_after_a_cancel(self, plain, generator, flux):
        before = plain()
        with pytest.raises(JobInterrupted):
            generator.generate(
                PROMPT, model=flux, reference=plain_picture("red"), context=RecordingContext(stop_at_step=1), **QUICK
            )
        assert same(before, plain())

    def test_after_an_error(self, plain, generator, hub_store, flux):
        before = plain()
        failure = out_of_memory(hub_store.get(CATALOG[flux]).transformer)
        with failure.provoke(), pytest.raises(failure.raises):
            generator.generate(PROMPT, model=flux, reference=plain_picture("red"), **QUICK)
        assert same(before, plain())

    def test_the_resident_model_holds_nothing_of_the_adapter(self, generator, hub_store, flux, sd15):
        for model, part in ((flux, "transformer"), (sd15, "unet")):
            generator.generate(PROMPT, model=model, reference=plain_picture("red"), **QUICK)
            denoiser = getattr(hub_store.get(CATALOG[model]), part)
            assert not any("ip" in name.split(".") or "_ip." in name for name, _ in denoiser.named_parameters())
            assert denoiser.encoder_hid_proj is None

    def test_models_that_look_through_one_image_encoder_share_it(self, hub_store, sd15, sdxl):
        store = PipelineStore(hub_store.weights, hub_store.device)
        adapters, specs = IPAdapters(store), [CATALOG[model] for model in (sd15, sdxl)]
        encoders = {
            id(adapters.get(spec.capabilities.ip_adapter, store.load(spec)).parts["image_encoder"]) for spec in specs
        }
        assert len(encoders) == 1


class TestOneGeneratorForThisMachine:
    def test_a_reference_goes_to_the_adapter_and_words_alone_do_not(self, hub_store, generator, flux, sd15):
        local = LocalGenerator(hub_store)
        follows = {"model": flux, "reference": plain_picture("red"), **QUICK}
        assert same(local.generate(PROMPT, **follows)[0], generator.generate(PROMPT, **follows)[0])
        alone = FluxLocalGenerator(hub_store).generate(PROMPT, model=flux, **QUICK)[0]
        assert same(local.generate(PROMPT, model=flux, **QUICK)[0], alone)
        assert local.generate(PROMPT, model=sd15, **QUICK)[0].size == (256, 256)

    def test_a_model_that_changes_pictures_is_refused(self, generator):
        with pytest.raises(CapabilityError) as refused:
            generator.generate("make it green", model="demo-kontext", image=plain_picture("red"))
        assert refused.value.details["field"] == "model"

    def test_words_alone_cannot_follow_a_reference(self, hub_store, flux):
        with pytest.raises(CapabilityError, match="consistent"):
            FluxLocalGenerator(hub_store).generate(PROMPT, model=flux, reference=plain_picture("red"), **QUICK)


def test_an_adapter_is_part_of_what_is_resident_and_of_what_is_planned_for(hub, large_card, flux):
    # Given a fresh store, and a job by words alone
    store = PipelineStore(Weights(cache_dir=hub), large_card)
    generator = LocalGenerator(store)
    options = {**QUICK, "model": flux}
    generator.generate(PROMPT, **options)
    assert generator.resident() == {"dev"}
    # When one with a reference comes, and then one by words again
    generator.generate(PROMPT, reference=plain_picture("red"), **options)
    # Then the model serves both keys, and nothing of it came twice
    assert generator.resident() == {"dev", "dev+flux-ip-adapter"}
    generator.generate(PROMPT, **options)
    assert generator.resident() == {"dev", "dev+flux-ip-adapter"}
    assert set(store.residency.brought.values()) == {1}


def test_on_a_card_with_room_for_the_model_only_a_reference_is_refused_and_words_are_not(hub, flux):
    # Given a card with room for the model's weights by the catalog, and for half of its adapter's
    spec = CATALOG[flux]
    card = dataclasses.replace(pick_device("cpu"), total_bytes=smallest_card(spec.model), description="a card")
    generator = LocalGenerator(PipelineStore(Weights(cache_dir=hub), card, cpu_offload="off"))
    options = {**QUICK, "model": flux}
    # When jobs with and without a reference come
    with pytest.raises(DoesNotFit, match="dev at precision exact needs"):
        generator.generate(PROMPT, reference=plain_picture("red"), **options)
    # Then the plain one is painted
    assert generator.generate(PROMPT, **options)[0].size == (256, 256)


def smallest_card(model: str) -> int:
    """Return the bytes, to half a GiB, of the smallest card on which a picture of 256 x 256 pixels can be planned."""
    for halves in range(2, 100):
        budget = Budget(gpu_bytes=halves * GIB // 2, host_bytes=128 * GIB)
        with contextlib.suppress(DoesNotFit):
            plan(GPU_SPECS, budget, Wanted(models=(model,), precision=Precision.EXACT, shape=Shape(256 * 256, 0)))
            return halves * GIB // 2
    raise AssertionError(f"no card is large enough for {model}")
