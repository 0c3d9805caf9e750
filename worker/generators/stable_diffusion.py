"""Stable Diffusion 1.5 and XL: real classifier-free guidance, and a choice of samplers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from PIL import Image

from shared.domain.params import GenerateParams
from shared.domain.status import Phase
from worker.generators.interface import GenerationContext
from worker.pipelines.assemble import assemble
from worker.pipelines.decode import decode_latents
from worker.pipelines.device import Device, StepPacer
from worker.pipelines.loader import LoadedPipeline, Pipeline
from worker.pipelines.samplers import make_scheduler

_EMBEDS: Final = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
"""What ``encode_prompt`` returns, by the names the pipelines take it; SD 1.5 has the first two."""


class StableDiffusionPainter:
    """Paints with a loaded pipeline of one of the families."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def paint(
        self, loaded: LoadedPipeline, params: GenerateParams, pictures: dict[str, Any], context: GenerationContext
    ) -> list[Image.Image]:
        """Return the pictures; ``pictures`` are the pipeline's arguments that come of pictures.

        Raises: what ``generate`` of a generator raises, and torch's own out-of-memory error.
        """
        loaded = _with_sampler(loaded, params)
        context.on_phase(Phase.ENCODING)
        _warn_of_what_has_no_effect(loaded, params, context)
        inputs = pictures | self._encode(loaded, params)
        if "image" not in pictures:  # the others take their size from it
            inputs |= {"width": params.width, "height": params.height}
        images = []
        for index in range(params.num_images):
            context.on_phase(Phase.DENOISING)
            latents = self._denoise(loaded.pipeline, params, index, inputs, context)
            context.on_phase(Phase.DECODING)
            image = decode_latents(loaded.pipeline, latents, params.width, params.height)
            context.on_image(index, image)
            images.append(image)
        return images

    @torch.no_grad()
    def _encode(self, loaded: LoadedPipeline, params: GenerateParams) -> dict[str, Any]:
        embeds = loaded.pipeline.encode_prompt(
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            device=self._device.torch_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=is_guided(params),
        )
        return dict(zip(_EMBEDS, embeds, strict=False))

    def _denoise(
        self,
        pipeline: Pipeline,
        params: GenerateParams,
        index: int,
        inputs: dict[str, Any],
        context: GenerationContext,
    ) -> torch.Tensor:
        pacer = StepPacer(self._device)

        def on_step_end(running: Pipeline, step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
            pacer.step_done()
            context.on_step(step + 1, running.num_timesteps)
            return kwargs

        result = pipeline(
            num_inference_steps=params.num_inference_steps,
            guidance_scale=params.guidance_scale,
            # On the CPU, so that a seed means the same picture on every card.
            generator=torch.Generator("cpu").manual_seed(params.seed + index),
            callback_on_step_end=on_step_end,
            output_type="latent",
            return_dict=False,
            **inputs,
        )
        latents: torch.Tensor = result[0]
        return latents


def is_guided(params: GenerateParams) -> bool:
    """Return whether the model is asked twice per step, with and without the prompt."""
    return params.guidance_scale > 1


def _with_sampler(loaded: LoadedPipeline, params: GenerateParams) -> LoadedPipeline:
    """Return the pipeline with a scheduler of its own: schedulers hold state, and the resident one stays as it is."""
    if params.sampler is None:
        raise ValueError("a Stable Diffusion job has a sampler: `resolve` sets it")
    pipeline = loaded.pipeline
    scheduler = make_scheduler(params.sampler, pipeline.scheduler.config)
    return replace(loaded, pipeline=assemble(type(pipeline).__name__, pipeline, scheduler=scheduler))


def _warn_of_what_has_no_effect(loaded: LoadedPipeline, params: GenerateParams, context: GenerationContext) -> None:
    if params.negative_prompt and not is_guided(params):
        context.warn("negative_prompt has no effect at a guidance_scale of 1 or less")
    texts = {"prompt": params.prompt, "negative_prompt": params.negative_prompt or ""}
    longest = loaded.spec.max_sequence_length
    for name, text in texts.items():
        tokens = len(loaded.pipeline.tokenizer(text, truncation=False, verbose=False).input_ids)
        if tokens > longest:
            context.warn(f"the {name} is {tokens} tokens long; {loaded.spec.model} reads the first {longest}")
