"""FLUX on this machine's device: text to image, Kontext edits and Fill through one path."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import torch
from PIL import Image

from shared.catalog import find_model
from shared.domain.capabilities import source_size_for
from shared.domain.errors import CapabilityError, MediaError
from shared.domain.model import ModelFamily, PipelineSpec
from shared.domain.params import BaseParams, EditParams, FillParams, GenerateParams, JobKind
from shared.domain.precision import Precision
from worker.demo.vocabulary import unknown_words
from worker.generators.filling import FillCanvas, at_grid, scaled
from worker.generators.interface import (
    Foresight,
    GenerationContext,
    GenerationOptions,
    ImageGeneratorInterface,
    SilentContext,
)
from worker.generators.options import resolve_options
from worker.generators.painter import Painter
from worker.pipelines.ladder import Ladder
from worker.pipelines.loader import LoadedPipeline, Pipeline
from worker.pipelines.placement import Placement, Unmanaged
from worker.pipelines.prompt_cache import PromptEmbeds, prompt_key
from worker.pipelines.store import PipelineStore


class FluxLocalGenerator(ImageGeneratorInterface):
    """Runs any model of the catalog with the pipelines of one store, one image after another."""

    def __init__(self, store: PipelineStore) -> None:
        self.store = store
        self._painter = Painter(store)
        self._calls = FluxCalls(store)

    @property
    def ladder(self) -> Ladder:
        """What jobs had to give up for want of memory."""
        return self._painter.ladder

    def expect(self, foresight: Foresight) -> None:
        """Remember whom to ask what to get ready for; see ``ImageGeneratorInterface.expect``."""
        self._painter.foresight = foresight

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:
        """Load a model and put it on the device, its code compiled; see ``ImageGeneratorInterface.warm``."""
        spec = find_model(model)
        self.store.get(spec, precision)
        if self.store.speed.compiles and spec.family is ModelFamily.FLUX:
            for size in _warm_sizes(spec):
                self.generate(spec.example_prompts[0], **_smallest_job(spec, precision, size))

    def resident(self) -> frozenset[str]:
        """Return the keys of what is loaded; see ``ImageGeneratorInterface.resident``."""
        return frozenset(map(str, self.store.resident_keys()))

    def generate(
        self, prompt: str, *, context: GenerationContext | None = None, **options: Unpack[GenerationOptions]
    ) -> list[Image.Image]:
        """Return the pictures; see ``ImageGeneratorInterface.generate``."""
        context = context or SilentContext()
        spec = find_model(options.get("model", "demo"))
        if "reference" in options:
            raise CapabilityError(
                "reference: this generator follows words alone; `consistent` follows a picture.",
                field="reference",
                limit=None,
            )
        params = resolve_options(spec, prompt, options)
        self.store.check(spec, params.precision)
        if isinstance(params, FillParams):
            return self._fill(spec, params, options, context)
        pictures = _prepare_pictures(spec, params, options)
        return self._painter.paint(self._calls, spec, params, pictures, context)

    def _fill(
        self, spec: PipelineSpec, params: FillParams, options: GenerationOptions, context: GenerationContext
    ) -> list[Image.Image]:
        image, mask = _required(options, "image", JobKind.FILL), _required(options, "mask", JobKind.FILL)
        canvas = FillCanvas.of(image, mask, params)
        if canvas.mask.getbbox() is None:
            context.warn("mask: its white part is too small to be left at the size of the result; nothing is repainted")
        picture, region = canvas.padded()
        pictures = {"image": picture, "mask_image": region}
        return self._painter.paint(self._calls, spec, at_grid(params), pictures, context, finish=canvas.finish)


class FluxCalls:
    """How FLUX pipelines are called."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store

    def prepare(self, loaded: LoadedPipeline, params: BaseParams, context: GenerationContext) -> LoadedPipeline:
        """Warn of words that the model does not read; see ``PipelineCalls``."""
        _warn_of_lost_words(loaded.spec, loaded.pipeline, params.prompt, context)
        return loaded

    def encode(self, loaded: LoadedPipeline, placement: Placement | Unmanaged, params: BaseParams) -> dict[str, Any]:
        """Return both embeddings of the prompt, made once for all jobs that have it; see ``PipelineCalls``."""
        device = self._store.device.torch_device
        length = loaded.spec.max_sequence_length

        @torch.no_grad()
        def encode() -> PromptEmbeds:
            with placement.encoding():
                prompt_embeds, pooled, _ = loaded.pipeline.encode_prompt(
                    prompt=params.prompt, prompt_2=None, device=device, max_sequence_length=length
                )
            return PromptEmbeds(prompt_embeds, pooled)

        key = prompt_key(loaded, params.prompt)
        embeds = self._store.prompts.get(key, device, encode)
        return {"prompt_embeds": embeds.prompt_embeds, "pooled_prompt_embeds": embeds.pooled_prompt_embeds}

    def arguments(self, loaded: LoadedPipeline, params: BaseParams, starts_from_picture: bool) -> dict[str, Any]:  # noqa: ARG002
        """Return sizes and lengths; see ``PipelineCalls``."""
        sizes: dict[str, Any] = {"width": params.width, "height": params.height}
        if loaded.spec.kind is JobKind.EDIT:  # else diffusers snaps to its own list of sizes
            sizes |= {"max_area": params.width * params.height, "_auto_resize": False}
        return sizes | {"max_sequence_length": loaded.spec.max_sequence_length}


def _warm_sizes(spec: PipelineSpec) -> tuple[tuple[int, int], ...]:
    """Return two sizes in pixels: after the second, torch's compiler has nothing left to learn about a third."""
    side = spec.native_side
    return (side, side), (side, side * 3 // 4)


def _smallest_job(spec: PipelineSpec, precision: Precision, size: tuple[int, int]) -> GenerationOptions:
    width, height = size
    options: GenerationOptions = {
        "model": spec.model,
        "precision": precision,
        "width": width,
        "height": height,
        "num_inference_steps": 1,
        "seed": 0,
    }
    if spec.kind is not JobKind.GENERATE:
        options["image"] = Image.new("RGB", size)
    if spec.kind is JobKind.FILL:
        options["mask"] = Image.new("L", size, 255)
    return options


def _prepare_pictures(
    spec: PipelineSpec, params: GenerateParams | EditParams, options: GenerationOptions
) -> dict[str, Any]:
    """Return the pipeline's arguments that come of pictures, scaled to what the job asks for."""
    size = (params.width, params.height)
    if isinstance(params, GenerateParams):
        image = options.get("image")
        return {"image": scaled(image, size), "strength": params.strength} if image else {}
    source = _required(options, "image", JobKind.EDIT)
    # The source keeps its own shape; only its area is bounded, since every pixel costs tokens.
    return {"image": scaled(source, source_size_for(spec, source.size, size))}


def _required(options: GenerationOptions, role: Literal["image", "mask"], kind: JobKind) -> Image.Image:
    if (found := options.get(role)) is None:
        raise MediaError(f"{role}: {kind.value} jobs need one.", field=role)
    return found


def _warn_of_lost_words(spec: PipelineSpec, pipeline: Pipeline, prompt: str, context: GenerationContext) -> None:
    if spec.is_demo and (unknown := unknown_words(prompt)):
        context.warn(f"demo model ignores: {', '.join(unknown)}")
    tokens = len(pipeline.tokenizer_2(prompt, truncation=False, verbose=False).input_ids)
    if tokens > spec.max_sequence_length:
        context.warn(f"the prompt is {tokens} tokens long; {spec.model} reads the first {spec.max_sequence_length}")
