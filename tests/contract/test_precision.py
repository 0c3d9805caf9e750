"""8- and 4-bit weights through the whole engine, with the demo family: pictures, bytes, and who is left alone."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.acceleration import (
    CHANNELS_LAST_DECODE,
    FP8,
    FUSED_QKV,
    MODULATION_TABLE,
    WEIGHTS_4_BIT,
    WEIGHTS_8_BIT,
)
from shared.domain.errors import CapabilityError
from shared.domain.precision import Precision, ResidencyKey
from shared.planner import GpuSpec
from shared.settings import WorkerSettings
from tests.contract.small_card import OPTIONS, SHAPE, SIDE, WORKING, card, store_on
from tests.recording_device import RecordingCuda
from worker.demo.checker import matches, read
from worker.demo.renderer import render
from worker.demo.world import Scene, Thing
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.device import pick_device
from worker.pipelines.device_memory import Block, weights_of
from worker.pipelines.ladder import JobShape, Relief, Rung
from worker.pipelines.planning import precision_report
from worker.pipelines.quantization import QuantizedLinear
from worker.pipelines.selection import worker_report
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

QUANTIZED = (Precision.BALANCED, Precision.COMPACT)
LAYOUT = (FUSED_QKV, CHANNELS_LAST_DECODE)
RED_CIRCLE = Scene("blue", Thing("red", "circle", "large", "center"))
PROMPT = "a large red circle in the center on a blue background"
MARGIN = 0.04
"""Of the planner's bytes for the demo family: its rows are 128 weights long, FLUX.1's 3072, and each has a scale."""


class Context(SilentContext):
    def __init__(self):
        self.accelerations, self.warnings = [], []

    def on_acceleration(self, acceleration):
        self.accelerations.append(acceleration)

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture(scope="module")
def generator():
    return FluxLocalGenerator(PipelineStore(Weights(), pick_device("cpu")))


def paint(generator, precision, model="demo", prompt=PROMPT, **options):
    context = Context()
    image = generator.generate(prompt, context=context, model=model, precision=precision, seed=7, **options)[0]
    return np.asarray(image), context


def settings(tmp_path, **changes):
    return WorkerSettings(_env_file=None, data_dir=tmp_path, device="cpu", **changes)


class TestPictures:
    @pytest.mark.parametrize("precision", Precision)
    def test_a_picture_shows_what_was_asked_for(self, generator, precision):
        picture, _ = paint(generator, precision)
        assert all(matches(read(picture), RED_CIRCLE).values())

    @pytest.mark.parametrize("precision", Precision)
    def test_an_edit_changes_what_was_asked_for(self, generator, precision):
        picture, _ = paint(generator, precision, "demo-kontext", "make it green", image=render(RED_CIRCLE))
        found = read(picture)
        assert (found.colour, found.background, found.size, found.position) == ("green", "blue", "large", "center")

    @pytest.mark.parametrize("precision", QUANTIZED)
    def test_a_fill_leaves_what_is_not_masked(self, generator, precision):
        source, mask = render(RED_CIRCLE), Image.new("L", (256, 256), 0)
        mask.paste(255, (0, 0, 128, 256))
        picture, _ = paint(generator, precision, "demo-fill", image=source, mask=mask)
        assert np.array_equal(picture[:, 128:], np.asarray(source)[:, 128:])
        assert all(matches(read(picture), RED_CIRCLE).values())

    def test_each_precision_paints_another_picture_and_names_what_it_used(self, generator):
        made = {precision: paint(generator, precision) for precision in Precision}
        assert len({picture.tobytes() for picture, _ in made.values()}) == 3
        assert [made[precision][1].accelerations for precision in Precision] == [
            [],
            [WEIGHTS_8_BIT, *LAYOUT],
            [WEIGHTS_4_BIT, *LAYOUT],
        ]
        assert not any(used.lossless for used in (WEIGHTS_8_BIT, WEIGHTS_4_BIT, FP8))

    def test_exact_is_untouched_by_the_others(self, generator):
        before, _ = paint(generator, Precision.EXACT)
        for precision in QUANTIZED:
            first, _ = paint(generator, precision)
            assert np.array_equal(paint(generator, Precision.EXACT)[0], before)
            assert np.array_equal(paint(generator, precision)[0], first)

    def test_a_card_that_has_fp8_uses_it_and_says_so(self):
        # Given a device like a card that multiplies fp8 numbers; torch computes the same on a CPU
        device = dataclasses.replace(card(10**9), has_fp8=True)
        picture, context = paint(FluxLocalGenerator(store_on(device)), Precision.BALANCED)
        assert context.accelerations == [FP8, WEIGHTS_8_BIT, *LAYOUT]
        assert all(matches(read(picture), RED_CIRCLE).values())


class TestLayers:
    @pytest.mark.parametrize("precision", QUANTIZED)
    def test_the_layers_in_lists_are_quantized_and_no_others(self, generator, precision):
        pipeline = generator.store.load(CATALOG["demo"], precision).pipeline
        for component in (pipeline.transformer, pipeline.text_encoder_2):
            linear = {name for name, part in component.named_modules() if isinstance(part, torch.nn.Linear)}
            packed = {name for name, part in component.named_modules() if isinstance(part, QuantizedLinear)}
            assert all(any(piece.isdigit() for piece in name.split(".")) for name in packed)
            assert not any(any(piece.isdigit() for piece in name.split(".")) for name in linear)
            assert packed

    def test_what_is_not_quantized_is_shared_between_precisions(self, generator):
        pipelines = [generator.store.load(CATALOG["demo"], precision).pipeline for precision in Precision]
        assert len({id(pipeline.vae) for pipeline in pipelines}) == 1
        assert len({id(pipeline.text_encoder) for pipeline in pipelines}) == 1
        assert len({id(pipeline.text_encoder_2) for pipeline in pipelines}) == 3

    def test_models_of_one_precision_share_its_encoders_and_their_embeddings(self, generator):
        loaded = [generator.store.load(CATALOG[model], Precision.COMPACT) for model in OPTIONS]
        assert len({id(each.pipeline.text_encoder_2) for each in loaded}) == 1
        assert len({each.encoders for each in loaded}) == 1
        assert loaded[0].encoders != generator.store.load(CATALOG["demo"]).encoders

    def test_a_form_is_made_once(self, generator):
        first = generator.store.load(CATALOG["demo"], Precision.BALANCED)
        assert generator.store.load(CATALOG["demo"], Precision.BALANCED) is first


class TestResidency:
    @pytest.mark.parametrize("precision", QUANTIZED)
    def test_evicted_and_brought_again_the_weights_are_equal_to_the_last_bit(self, precision):
        store = store_on(card(10**9))
        loaded = store.load(CATALOG["demo"], precision)
        transformer = loaded.pipeline.transformer
        before = [weight.clone() for weight in weights_of(transformer)]
        placement = store.place(loaded, shape=SHAPE)
        # Given weights that are away
        store.residency.evict(store.residency.resident())
        assert all(weight.numel() == 0 for weight in weights_of(transformer))
        # When they come again
        with placement.denoising():
            assert all(map(torch.equal, before, weights_of(transformer)))

    def test_models_of_several_precisions_take_turns_on_a_card_with_room_for_one(self):
        # Given a card with room for the largest form
        spec = GpuSpec.of(CATALOG["demo"])
        largest = spec.own_bytes(Precision.EXACT, table=False) + spec.encoder_bytes(Precision.EXACT) + spec.vae_bytes
        roomy, tight = (FluxLocalGenerator(store_on(card(size, WORKING))) for size in (10**9, largest + 100_000))
        small = {"width": SIDE, "height": SIDE, "num_inference_steps": 2}
        for precision in (*Precision, *Precision):
            # When jobs alternate, then each paints what it paints with room for all
            expected, _ = paint(roomy, precision, **small)
            assert np.array_equal(paint(tight, precision, **small)[0], expected)
            assert str(ResidencyKey("demo", precision)) in tight.resident()
        assert roomy.resident() == {"demo", "demo:balanced", "demo:compact"}
        assert set(roomy.store.residency.brought.values()) == {1}
        assert tight.store.residency.brought["demo"] == 2

    def test_a_card_makes_room_for_the_layers_that_are_quantized_on_it(self):
        # Given a card with an exact model, the rest of which something else fills, but for a little too much
        generator = FluxLocalGenerator(store_on(card(10**7)))
        paint(generator, Precision.EXACT, width=SIDE, height=SIDE)
        residency = generator.store.residency
        parts = len(residency.resident())
        free = 10**7 + WORKING - residency.resident_bytes
        left = GpuSpec.of(CATALOG["demo"]).quantizing_bytes() - 100
        residency.add("else", [Block((torch.empty(free - left, dtype=torch.uint8),))])
        with residency.using(["else"], 0):
            # When another form is made, then one part leaves for it; a form that is there needs no room
            for _ in range(2):
                generator.store.load(CATALOG["demo"], Precision.COMPACT)
                assert len(residency.resident()) - 1 == parts - 1

    @pytest.mark.parametrize("precision", QUANTIZED)
    @pytest.mark.parametrize("model", OPTIONS)
    def test_the_planner_knows_the_bytes(self, model, precision):
        store = store_on(card(10**9))
        loaded = store.load(CATALOG[model], precision)
        placement = store.place(loaded, shape=SHAPE)
        with placement.encoding(), placement.denoising():
            real = store.residency.resident_bytes
        planned = placement.plan.sizes
        assert planned.denoisers + planned.encoders + planned.vaes == pytest.approx(real, rel=MARGIN)

    @pytest.mark.parametrize("precision", QUANTIZED)
    def test_it_knows_them_without_a_card_too(self, precision):
        store = PipelineStore(Weights(), pick_device("cpu"))
        placement = store.place(store.load(CATALOG["demo"], precision))
        with placement.encoding(), placement.denoising():
            real = store.residency.resident_bytes
        planned = placement.plan.sizes
        assert planned.denoisers + planned.encoders + planned.vaes == pytest.approx(real, rel=MARGIN)

    @pytest.mark.parametrize("precision", QUANTIZED)
    @pytest.mark.parametrize("model", OPTIONS)
    def test_the_modulation_table_changes_no_bit_of_a_quantized_model(self, model, precision):
        # Given a picture, and from now on the smallest plan
        generator = FluxLocalGenerator(store_on(card(10**9)))
        plain = generator.generate(PROMPT, model=model, precision=precision, **OPTIONS[model])[0]
        source = 0 if model == "demo" else SIDE * SIDE
        shape = dataclasses.replace(SHAPE, reference_pixels=source)
        job = JobShape(ResidencyKey(model, precision), shape)
        generator.ladder.remember(job, Rung((Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN)))
        # When it is painted with a table
        context = Context()
        table = generator.generate(PROMPT, context=context, model=model, precision=precision, **OPTIONS[model])[0]
        # Then it is the same, and the modulation layers are not there
        assert MODULATION_TABLE in context.accelerations
        assert np.array_equal(np.asarray(plain), np.asarray(table))
        assert f"{model}:{precision}/modulation" not in generator.store.residency.resident()


class TestReports:
    def test_a_cpu_has_every_precision_of_the_demo_family(self, tmp_path):
        report = precision_report(CATALOG["demo"], pick_device("cpu"), settings(tmp_path))
        assert (report.default, report.refused) == (Precision.EXACT, {})

    @pytest.mark.parametrize("precision", QUANTIZED)
    def test_a_setting_is_the_default(self, tmp_path, precision):
        report = worker_report(settings(tmp_path, precision=precision), pick_device("cpu"), Weights())
        assert report.precision_of("demo") is precision
        assert report.plan.precision is precision
        assert "bit weights" in report.plan.reason

    def test_a_setting_that_a_model_cannot_is_overruled_and_said_so(self, tmp_path):
        report = precision_report(CATALOG["sdxl"], pick_device("cpu"), settings(tmp_path, precision="compact"))
        assert report.default is Precision.EXACT
        assert report.reason.startswith("FLUX_PRECISION=compact is not possible: precision is compact; sdxl has no")

    def test_a_model_without_quantized_forms_is_refused_before_anything_is_loaded(self, generator):
        with pytest.raises(CapabilityError, match="only exact works") as refused:
            generator.store.check(dataclasses.replace(CATALOG["sdxl"], repo_id=None, model="sdxl"), Precision.COMPACT)
        assert refused.value.details["field"] == "precision"

    @pytest.mark.parametrize(("gib", "expected"), [(12, "balanced"), (16, "balanced"), (24, "exact")])
    def test_auto_picks_the_best_that_fits_and_leaves_the_offload_alone(self, tmp_path, gib, expected):
        # Given a card that is too small for the exact weights, but not for fewer bits
        device = dataclasses.replace(card(1), total_bytes=gib * 2**30, cuda=RecordingCuda(gib * 2**30))
        report = precision_report(CATALOG["schnell"], device, settings(tmp_path))
        assert (report.default, report.reason) == (expected, "the best that fits this device")

    def test_a_warm_model_has_the_precision_of_the_jobs_to_come(self):
        generator = FluxLocalGenerator(PipelineStore(Weights(), pick_device("cpu")))
        generator.warm("demo", Precision.COMPACT)
        assert generator.resident() == {"demo:compact"}

    def test_the_worker_publishes_its_plan(self, tmp_path):
        report = worker_report(settings(tmp_path), pick_device("cpu"), Weights())
        assert report.plan.warm == ("demo", "demo-kontext", "demo-fill")
        assert report.plan.peak_bytes < report.plan.usable_bytes
        assert "every model stays warm" in report.plan.reason
