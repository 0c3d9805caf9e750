"""FLUX on this machine's device: text to image, Kontext edits and Fill through one path."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from PIL import Image

from shared.catalog import find_model
from shared.domain.capabilities import fit_size
from shared.domain.errors import CapabilityError, MediaError, OutOfMemory
from shared.domain.model import PipelineSpec
from shared.domain.params import BaseParams, JobKind, JobParams
from shared.domain.residency import residency_key
from shared.domain.status import Phase
from worker.demo.vocabulary import unknown_words
from worker.generators.interface import (
    GenerationContext,
    GenerationOptions,
    ImageGeneratorInterface,
    SilentContext,
)
from worker.generators.options import resolve_options
from worker.pipelines.assemble import starting_from_picture
from worker.pipelines.decode import decode_latents
from worker.pipelines.device import StepPacer, free_cached_memory
from worker.pipelines.loader import LoadedPipeline, Pipeline
from worker.pipelines.prompt_cache import PromptEmbeds, PromptKey
from worker.pipelines.store import PipelineStore

_MASK_THRESHOLD: Final = 128


class FluxLocalGenerator(ImageGeneratorInterface):
    """Runs any model of the catalog with the pipelines of one store, one image after another."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store

    def warm(self, model: str) -> None:
        """Load a model; see ``ImageGeneratorInterface.warm``."""
        self._store.get(find_model(model))

    def resident(self) -> frozenset[str]:
        """Return the keys of what is loaded; see ``ImageGeneratorInterface.resident``."""
        return frozenset(map(residency_key, self._store.resident_models()))

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
        self._store.check_precision(spec, params.precision)
        pictures = _prepare_pictures(spec, params, options)
        context.on_phase(Phase.LOADING)
        loaded = self._store.load(spec)
        starts_from_picture = spec.kind is JobKind.GENERATE and "image" in pictures
        runs = starting_from_picture(loaded) if starts_from_picture else loaded
        try:
            return self.paint(runs, params, pictures, context)
        except torch.OutOfMemoryError as error:
            message = f"{self._store.device.description} ran out of memory: {error}".splitlines()[0]
        finally:
            loaded.pipeline.maybe_free_model_hooks()
        # Outside the except block, so that the traceback no longer holds the tensors.
        free_cached_memory(self._store.device)
        raise OutOfMemory(message, width=params.width, height=params.height)

    def paint(
        self,
        loaded: LoadedPipeline,
        params: BaseParams,
        pictures: dict[str, Any],
        context: GenerationContext,
    ) -> list[Image.Image]:
        """Paint with a loaded pipeline; ``pictures`` are its arguments that come of pictures.

        Raises: what ``generate`` raises, and torch's own out-of-memory error.
        """
        spec, pipeline = loaded.spec, loaded.pipeline
        context.on_phase(Phase.ENCODING)
        _warn_of_lost_words(spec, pipeline, params.prompt, context)
        embeds = self._encode(loaded, params)
        images = []
        for index in range(params.num_images):
            context.on_phase(Phase.DENOISING)
            latents = self._denoise(spec, pipeline, params, index, pictures | embeds, context)
            context.on_phase(Phase.DECODING)
            image = decode_latents(pipeline, latents, params.width, params.height)
            if spec.kind is JobKind.FILL:
                image = Image.composite(image, pictures["image"], pictures["mask_image"])
            context.on_image(index, image)
            images.append(image)
        return images

    def _encode(self, loaded: LoadedPipeline, params: BaseParams) -> dict[str, Any]:
        device = self._store.device.torch_device
        length = loaded.spec.max_sequence_length

        @torch.no_grad()
        def encode() -> PromptEmbeds:
            prompt_embeds, pooled, _ = loaded.pipeline.encode_prompt(
                prompt=params.prompt, prompt_2=None, device=device, max_sequence_length=length
            )
            return PromptEmbeds(prompt_embeds, pooled)

        key = PromptKey(f"{loaded.encoders}:{params.precision}", length, params.prompt)
        embeds = self._store.prompts.get(key, device, encode)
        return {"prompt_embeds": embeds.prompt_embeds, "pooled_prompt_embeds": embeds.pooled_prompt_embeds}

    def _denoise(
        self,
        spec: PipelineSpec,
        pipeline: Pipeline,
        params: BaseParams,
        index: int,
        inputs: dict[str, Any],
        context: GenerationContext,
    ) -> torch.Tensor:
        pacer = StepPacer(self._store.device)

        def on_step_end(running: Pipeline, step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
            pacer.step_done()
            context.on_step(step + 1, running.num_timesteps)
            return kwargs

        if spec.kind is JobKind.EDIT:  # else diffusers snaps to its own list of sizes
            inputs = inputs | {"max_area": params.width * params.height, "_auto_resize": False}
        result = pipeline(
            width=params.width,
            height=params.height,
            num_inference_steps=params.num_inference_steps,
            guidance_scale=params.guidance_scale,
            # On the CPU, so that a seed means the same picture on every card.
            generator=torch.Generator("cpu").manual_seed(params.seed + index),
            callback_on_step_end=on_step_end,
            max_sequence_length=spec.max_sequence_length,
            output_type="latent",
            return_dict=False,
            **inputs,
        )
        latents: torch.Tensor = result[0]
        return latents


def _prepare_pictures(spec: PipelineSpec, params: JobParams, options: GenerationOptions) -> dict[str, Any]:
    """Return the pipeline's arguments that come of pictures, scaled to what the job asks for."""
    image = options.get("image")
    size = (params.width, params.height)
    if params.kind is JobKind.GENERATE:
        return {"image": _scaled(image, size), "strength": params.strength} if image else {}
    if image is None:
        raise MediaError(f"A {spec.kind.value} job needs an image.", field="image")
    if spec.kind is JobKind.EDIT:
        # The source keeps its own shape; only its area is bounded, since every pixel costs tokens.
        return {"image": _scaled(image, fit_size(image.size, spec.limits, size[0] * size[1]))}
    mask = options.get("mask")
    if mask is None:
        raise MediaError("A fill job needs a mask.", field="mask")
    binary = _scaled(mask.convert("L"), size).point(lambda value: 255 if value >= _MASK_THRESHOLD else 0)
    return {"image": _scaled(image, size), "mask_image": binary}


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _warn_of_lost_words(spec: PipelineSpec, pipeline: Pipeline, prompt: str, context: GenerationContext) -> None:
    if spec.is_demo and (unknown := unknown_words(prompt)):
        context.warn(f"demo model ignores: {', '.join(unknown)}")
    tokens = len(pipeline.tokenizer_2(prompt, truncation=False, verbose=False).input_ids)
    if tokens > spec.max_sequence_length:
        context.warn(f"the prompt is {tokens} tokens long; {spec.model} reads the first {spec.max_sequence_length}")
