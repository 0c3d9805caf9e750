"""All that the modulation of one image's steps depends on, beside weights: steps, guidance, pooled prompt.

The arithmetic is that of diffusers 0.42: the FLUX pipelines' ``__call__`` and ``FluxTransformer2DModel.forward``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

from shared.domain.params import BaseParams, GenerateParams
from worker.pipelines.loader import Pipeline


@dataclass(frozen=True, slots=True)
class Conditioning:
    """``timesteps`` (steps,) in 0..1; ``guidance`` (1,), if the model has any; ``pooled`` (1, width)."""

    timesteps: torch.Tensor
    guidance: torch.Tensor | None
    pooled: torch.Tensor
    dtype: torch.dtype
    """Of the transformer's input."""

    def of_each_step(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the arguments of the transformer's ``time_text_embed``."""
        guidance = () if self.guidance is None else (self.guidance.to(self.dtype) * 1000,)
        for timestep in torch.split(self.timesteps, 1):
            yield (timestep.to(self.dtype) * 1000, *guidance, self.pooled)

    def digest(self) -> str:
        """Return a text that is equal for equal values only; waits for the device."""
        found = hashlib.sha256(str(self.dtype).encode())
        for values in (self.timesteps, self.guidance, self.pooled):
            if values is not None:
                found.update(f"{values.dtype}{tuple(values.shape)}".encode())
                found.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()


def conditioning_of_call(scheduler: Any, call: Mapping[str, Any]) -> Conditioning:
    """Return what the transformer is about to be called with, at its first step, and will be at the others.

    Raises:
      RuntimeError: the pipeline's steps are not its scheduler's.
    """
    # A job that starts from a picture begins later in the schedule.
    timesteps = scheduler.timesteps[scheduler.begin_index or 0 :].to(call["timestep"].dtype) / 1000
    if not torch.equal(timesteps[:1], call["timestep"]):
        raise RuntimeError("the pipeline's timesteps are not the scheduler's: no table can be made for it")
    return Conditioning(timesteps, call["guidance"], call["pooled_projections"], call["hidden_states"].dtype)


def expected_conditioning(pipeline: Pipeline, params: BaseParams, pooled: torch.Tensor) -> Conditioning:
    """Return what a job will very likely call the transformer with; ``pooled`` is its prompt's, on the device.

    Nothing that a running job uses is touched: the scheduler is a copy.
    """
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    config, steps = scheduler.config, params.num_inference_steps
    width, height = params.grid_size
    token_side = 2 * pipeline.vae_scale_factor
    shift = calculate_shift(
        (height // token_side) * (width // token_side),
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    retrieve_timesteps(scheduler, steps, pooled.device, sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)
    timesteps = scheduler.timesteps[_first_step(params) :].to(pooled.dtype) / 1000
    guidance = None
    if pipeline.transformer.config.guidance_embeds:
        guidance = torch.full([1], params.guidance_scale, device=pooled.device, dtype=torch.float32)
    return Conditioning(timesteps, guidance, pooled, pooled.dtype)


def _first_step(params: BaseParams) -> int:
    """Return how many steps a job that starts from a picture leaves out (``FluxImg2ImgPipeline.get_timesteps``)."""
    steps = params.num_inference_steps
    strength = params.strength if isinstance(params, GenerateParams) else None
    return 0 if strength is None else int(max(steps - min(steps * strength, steps), 0))
