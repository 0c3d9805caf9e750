"""What every generator promises, held against the local one with the demo family and real pipeline classes."""

import shutil

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.errors import (
    CapabilityError,
    DeviceLost,
    MediaError,
    ModelUnavailable,
    NumericError,
    OutOfMemory,
    UnsupportedByDevice,
)
from shared.domain.status import Phase
from worker.cancellation import JobInterrupted, StopReason
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import DEMO_CHECKPOINT, Weights

FAST = {"model": "demo", "width": 64, "height": 64, "num_inference_steps": 2, "seed": 7}
RED = Image.new("RGB", (64, 64), "red")


class RecordingContext(SilentContext):
    """Remembers what it is told, and stops at the step it is asked to."""

    def __init__(self, stop_at=None):
        self.events, self.details = [], {}
        self._stop_at = stop_at

    def on_phase(self, phase):
        self.events.append(phase)

    def on_step(self, step, total_steps):
        self.events.append((step, total_steps))
        if step == self._stop_at:
            raise JobInterrupted(StopReason.USER_REQUEST)

    def on_image(self, index, image):
        self.events.append(("image", index))

    def on_details(self, details):
        self.details.update(details)

    def warn(self, message):
        self.events.append(("warning", message))


@pytest.fixture(scope="module")
def store():
    return PipelineStore(Weights(), pick_device("cpu"))


@pytest.fixture
def generator(store):
    return FluxLocalGenerator(store)


def noise(width, height):
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def same(first, second):
    return np.array_equal(np.asarray(first), np.asarray(second))


class TestResult:
    def test_it_is_a_list_of_rgb_pictures_of_the_size_asked_for(self, generator):
        images = generator.generate("a red circle", **FAST, num_images=2)
        assert [(image.mode, image.size) for image in images] == [("RGB", (64, 64))] * 2

    def test_the_same_seed_gives_the_same_picture_whatever_ran_before(self, generator):
        first = generator.generate("a red circle", **FAST)
        generator.generate("something else", **{**FAST, "seed": 8})
        assert same(first[0], generator.generate("a red circle", **FAST)[0])

    def test_the_prompt_the_seed_and_the_steps_reach_the_model(self, generator):
        base = generator.generate("a red circle", **FAST)[0]
        others = [
            generator.generate("a blue square", **FAST)[0],
            generator.generate("a red circle", **{**FAST, "seed": 8})[0],
            generator.generate("a red circle", **{**FAST, "num_inference_steps": 3})[0],
        ]
        assert not any(same(base, other) for other in others)

    def test_the_context_hears_of_every_phase_step_and_picture_in_order(self, generator):
        context = RecordingContext()
        generator.generate("a red circle", context=context, **FAST, num_images=2)
        image = [Phase.DENOISING, (1, 2), (2, 2), Phase.DECODING]
        assert context.events == [
            Phase.LOADING, Phase.ENCODING, *image, ("image", 0), *image, ("image", 1)
        ]  # fmt: skip

    def test_the_context_hears_how_the_pictures_are_made(self, generator):
        context = RecordingContext()
        generator.generate("a red circle", context=context, **FAST)
        assert context.details == {
            "scheduler": "FlowMatchEulerDiscreteScheduler", "sampler": "Euler", "model_revision": None,
        }  # fmt: skip

    def test_encoders_and_vae_are_shared_between_the_pipelines(self, store):
        pipelines = [store.get(CATALOG[model]) for model in ("demo", "demo-kontext", "demo-fill")]
        for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae"):
            assert len({id(getattr(pipeline, name)) for pipeline in pipelines}) == 1, name
        assert len({id(pipeline.transformer) for pipeline in pipelines}) == 3
        assert [type(pipeline).__name__ for pipeline in pipelines] == [
            "FluxPipeline", "FluxKontextPipeline", "FluxFillPipeline",
        ]  # fmt: skip


class TestPictures:
    EDIT = {**FAST, "model": "demo-kontext"}
    FILL = {**FAST, "model": "demo-fill"}

    def test_the_source_picture_reaches_the_model(self, generator):
        blue = Image.new("RGB", (64, 64), "blue")
        edits = [generator.generate("make it green", image=image, **self.EDIT)[0] for image in (RED, blue)]
        assert not same(*edits)

    def test_an_edit_has_the_size_asked_for_whatever_the_source(self, generator):
        wide = Image.new("RGB", (200, 50), "red")
        assert generator.generate("make it green", image=wide, **self.EDIT)[0].size == (64, 64)

    def test_a_fill_keeps_what_the_mask_keeps(self, generator):
        mask = Image.new("L", (64, 64), 0)
        mask.paste(255, (16, 16, 48, 48))
        filled = np.asarray(generator.generate("a blue square", image=RED, mask=mask, **self.FILL)[0])
        keep = np.asarray(mask) == 0
        assert (filled[keep] == np.asarray(RED)[keep]).all()
        assert (filled[~keep] != np.asarray(RED)[~keep]).any()

    @pytest.mark.parametrize("size", [(100, 75), (97, 64), (64, 65)])
    def test_a_fill_of_any_size_keeps_it_and_all_that_the_mask_keeps(self, generator, size):
        # Given a picture off the model's grid, and a mask that reaches its right and lower edge
        picture, mask = noise(*size), Image.new("L", size, 0)
        mask.paste(255, (size[0] // 2, size[1] // 2, *size))
        # When it is filled without a size
        fast = {name: value for name, value in self.FILL.items() if name not in ("width", "height")}
        filled = generator.generate("a blue square", image=picture, mask=mask, **fast)[0]
        # Then the result has its size, and its own bytes outside of the mask
        assert filled.size == size
        before, after, keep = np.asarray(picture), np.asarray(filled), np.asarray(mask) == 0
        assert (after[keep] == before[keep]).all()
        assert (after[~keep] != before[~keep]).any()

    def test_a_fill_on_the_grid_is_not_changed_by_the_padding_of_others(self, generator):
        # Given the same region in a picture on the grid, and in one whose edge repeats over the padding
        mask, cut = Image.new("L", (96, 64), 0), (0, 0, 90, 60)
        mask.paste(255, (16, 16, 48, 48))
        flat = Image.new("RGB", (96, 64), "red")
        fast = {name: value for name, value in self.FILL.items() if name not in ("width", "height")}
        whole = generator.generate("a blue square", image=flat, mask=mask, **fast)[0]
        part = generator.generate("a blue square", image=flat.crop(cut), mask=mask.crop(cut), **fast)[0]
        # Then the model saw the same, and painted the same
        assert same(part, whole.crop(cut))

    def test_a_mask_that_scaling_leaves_nothing_of_is_warned_of(self, generator):
        # Given one white pixel in a picture eight times as large as the result
        picture, mask = Image.new("RGB", (512, 512), "red"), Image.new("L", (512, 512), 0)
        mask.putpixel((256, 256), 255)
        context = RecordingContext()
        # When it is filled, then the job says that nothing is repainted
        generator.generate("a blue square", image=picture, mask=mask, context=context, **self.FILL)
        assert [event for event in context.events if event[0] == "warning" and "too small" in event[1]]

    @pytest.mark.parametrize(("options", "field"), [(EDIT, "image"), ({**FILL, "image": RED}, "mask")])
    def test_a_missing_picture_is_refused(self, generator, options, field):
        with pytest.raises(MediaError) as refused:
            generator.generate("make it green", **options)
        assert refused.value.details["field"] == field


class TestPictureToStartFrom:
    BASE = {**FAST, "num_inference_steps": 4}

    def test_the_less_strength_the_more_of_the_picture_is_left(self, generator):
        # Given a picture, when it is repainted with little and with much strength
        faint, strong = (
            generator.generate("a blue square", image=RED, strength=strength, **self.BASE)[0]
            for strength in (0.25, 1.0)
        )
        # Then the first is nearer to it
        distances = [np.abs(np.asarray(image, int) - np.asarray(RED, int)).mean() for image in (faint, strong)]
        assert distances[0] < distances[1] / 2

    def test_only_the_steps_that_run_are_counted(self, generator):
        context = RecordingContext()
        generator.generate("a blue square", image=RED, strength=0.5, context=context, **self.BASE)
        assert [event for event in context.events if isinstance(event, tuple)] == [(1, 2), (2, 2), ("image", 0)]

    def test_it_leaves_the_plain_pipeline_as_it_was(self, generator):
        before = generator.generate("a red circle", **FAST)[0]
        generator.generate("a blue square", image=RED, **self.BASE)
        assert same(before, generator.generate("a red circle", **FAST)[0])

    def test_a_picture_of_another_size_is_scaled(self, generator):
        wide = Image.new("RGB", (200, 50), "red")
        assert generator.generate("x", image=wide, **self.BASE)[0].size == (64, 64)


class TestRefusals:
    def test_what_the_model_cannot_do_is_refused_before_any_step(self, generator):
        context = RecordingContext()
        with pytest.raises(CapabilityError):
            generator.generate("x", context=context, **{**FAST, "num_inference_steps": 51})
        assert context.events == []

    def test_missing_weights_name_the_remedy(self, generator):
        with pytest.raises(ModelUnavailable, match="flux-image pull schnell"):
            generator.generate("x", model="schnell")

    def test_a_host_without_memory_says_so_and_does_not_blame_the_weights(self, monkeypatch):
        # Given a host whose memory ends while a model is read
        def refuse(*_args, **_options):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr(diffusers.FluxPipeline, "from_pretrained", refuse)
        # Then the job may be tried again
        with pytest.raises(OutOfMemory, match="can't allocate memory"):
            FluxLocalGenerator(PipelineStore(Weights(), pick_device("cpu"))).generate("a red circle", model="demo")

    def test_damaged_weights_are_named(self, store, tmp_path):
        # Given a family whose transformer file is cut off
        shutil.copytree(DEMO_CHECKPOINT, tmp_path / "checkpoint")
        damaged = Weights(tmp_path / "checkpoint")
        weights = next((tmp_path / "checkpoint" / "demo" / "transformer").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:1000])
        # When it is loaded, then the error names model and folder
        with pytest.raises(ModelUnavailable, match="could not be loaded from"):
            FluxLocalGenerator(PipelineStore(damaged, store.device)).warm("demo")


class TestEveryExitLeavesThePipelineClean:
    @pytest.fixture
    def reference(self, generator):
        return generator.generate("a red circle", **FAST)[0]

    def test_after_a_cancel(self, generator, reference):
        context = RecordingContext(stop_at=1)
        with pytest.raises(JobInterrupted):
            generator.generate("a blue square", context=context, **FAST)
        assert context.events[-1] == (1, 2)
        assert same(reference, generator.generate("a red circle", **FAST)[0])

    @pytest.mark.parametrize(
        ("raised", "expected"),
        [
            (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
            (torch.AcceleratorError("CUDA error: out of memory"), OutOfMemory),
            (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
            (RuntimeError("GET was unable to find an engine to execute this computation"), OutOfMemory),
            (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLt`"), UnsupportedByDevice),
            (RuntimeError("No available kernel.  Aborting execution."), UnsupportedByDevice),
            (torch.AcceleratorError("CUDA error: invalid argument"), torch.AcceleratorError),
            (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel"), DeviceLost),
            (RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
            (RuntimeError("shapes do not fit"), RuntimeError),
        ],
    )
    def test_after_an_error_inside_the_transformer(self, generator, store, reference, raised, expected):
        def fail(*_):
            raise raised

        hook = store.get(CATALOG["demo"]).transformer.register_forward_pre_hook(fail)
        try:
            with pytest.raises(expected):
                generator.generate("a blue square", **FAST)
        finally:
            hook.remove()
        assert same(reference, generator.generate("a red circle", **FAST)[0])

    def test_after_nan(self, generator, store, reference):
        def poison(_module, _inputs, output):
            return (output[0] * float("nan"),)

        hook = store.get(CATALOG["demo"]).transformer.register_forward_hook(poison)
        try:
            with pytest.raises(NumericError, match="not finite"):
                generator.generate("a blue square", **FAST)
        finally:
            hook.remove()
        assert same(reference, generator.generate("a red circle", **FAST)[0])

    def test_an_out_of_memory_error_holds_no_tensors(self, generator, store):
        # Given an error raised deep inside the model, whose traceback holds its tensors
        def fail(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        hook = store.get(CATALOG["demo"]).transformer.register_forward_pre_hook(fail)
        try:
            with pytest.raises(OutOfMemory) as caught:
                generator.generate("x", **FAST)
        finally:
            hook.remove()
        # Then the error that leaves carries no way back into the model
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
