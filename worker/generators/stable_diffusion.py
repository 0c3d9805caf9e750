"""Stable Diffusion 1.5 and XL: real classifier-free guidance, and a choice of samplers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch

from shared.domain.conditioning import is_guided
from shared.domain.params import GenerateParams
from worker.generators.interface import GenerationContext
from worker.pipelines.assemble import assemble
from worker.pipelines.device import Device
from worker.pipelines.loader import LoadedPipeline
from worker.pipelines.placement import Placement, Unmanaged
from worker.pipelines.samplers import make_scheduler

_EMBEDS: Final = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
"""What ``encode_prompt`` returns, by the names the pipelines take it; SD 1.5 has the first two."""


class StableDiffusionCalls:
    """How their pipelines are called."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def prepare(self, loaded: LoadedPipeline, params: GenerateParams, context: GenerationContext) -> LoadedPipeline:
        """Return the pipeline with the job's sampler; see ``PipelineCalls``."""
        _warn_of_lost_words(loaded, params, context)
        return _with_sampler(loaded, params)

    @torch.no_grad()
    def encode(
        self, loaded: LoadedPipeline, placement: Placement | Unmanaged, params: GenerateParams
    ) -> dict[str, Any]:
        """Return the embeddings of the prompts; see ``PipelineCalls``."""
        with placement.encoding():
            embeds = loaded.pipeline.encode_prompt(
                prompt=params.prompt,
                negative_prompt=params.negative_prompt,
                device=self._device.torch_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=is_guided(params),
            )
        return dict(zip(_EMBEDS, embeds, strict=False))

    def arguments(self, loaded: LoadedPipeline, params: GenerateParams, starts_from_picture: bool) -> dict[str, Any]:  # noqa: ARG002
        """Return the size, unless it is that of the picture; see ``PipelineCalls``."""
        return {} if starts_from_picture else {"width": params.width, "height": params.height}


def _with_sampler(loaded: LoadedPipeline, params: GenerateParams) -> LoadedPipeline:
    """Return the pipeline with a scheduler of its own: schedulers hold state, and the resident one stays as it is."""
    if params.sampler is None:
        raise ValueError("a Stable Diffusion job has a sampler: `resolve` sets it")
    pipeline = loaded.pipeline
    scheduler = make_scheduler(params.sampler, pipeline.scheduler.config)
    return replace(loaded, pipeline=assemble(type(pipeline).__name__, pipeline, scheduler=scheduler))


def _warn_of_lost_words(loaded: LoadedPipeline, params: GenerateParams, context: GenerationContext) -> None:
    texts = {"prompt": params.prompt, "negative_prompt": params.negative_prompt or ""}
    longest = loaded.spec.max_sequence_length
    for name, text in texts.items():
        tokens = len(loaded.pipeline.tokenizer(text, truncation=False, verbose=False).input_ids)
        if tokens > longest:
            context.warn(f"the {name} is {tokens} tokens long; {loaded.spec.model} reads the first {longest}")
