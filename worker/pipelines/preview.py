"""What the picture in progress will look like, from the latents between two steps.

The device estimates the clean latents and their colours; copying and encoding go on beside the next step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from worker.generators.interface import PreviewSink
from worker.pipelines.decode import unpacked
from worker.pipelines.device import Device, HostCopy
from worker.pipelines.latent_rgb import LatentRgb
from worker.pipelines.loader import Pipeline


class Previewer:
    """Follows the denoising of one image of ``width`` x ``height`` pixels with a flow-matching Euler scheduler.

    A preview has one pixel per place of the latents: an eighth of the width and of the height.
    """

    def __init__(self, rgb: LatentRgb, sink: PreviewSink, device: Device, width: int, height: int) -> None:
        self._rgb = rgb
        self._sink = sink
        self._device = device
        self._size = width, height
        self._before: torch.Tensor | None = None

    def step_done(self, pipeline: Pipeline, latents: torch.Tensor) -> None:
        """Take the latents after a step; offer a preview if one is due. The first step only shows where it starts."""
        before, self._before = self._before, latents
        if before is None or not self._sink.is_due():
            return
        pixels = self._start(pipeline, before, latents)
        self._sink.offer(lambda: Image.fromarray(np.ascontiguousarray(pixels.wait().numpy())))

    @torch.no_grad()
    def _start(self, pipeline: Pipeline, before: torch.Tensor, latents: torch.Tensor) -> HostCopy:
        clean = unpacked(pipeline, clean_estimate(pipeline.scheduler, before, latents), *self._size)
        return HostCopy(self._rgb.pixels(clean), self._device)


def clean_estimate(scheduler: Any, before: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Return the clean latents that the last step pointed to: ``x0 = x_t - sigma * v``, in float32.

    ``latents`` is what the scheduler made of ``before``. Its Euler step is ``x_t + (sigma' - sigma) * v``
    (diffusers 0.42, ``FlowMatchEulerDiscreteScheduler.step``), from which ``v`` follows.
    """
    sigma_before, sigma = scheduler.sigmas[scheduler.step_index - 1], scheduler.sigmas[scheduler.step_index]
    velocity = (latents.float() - before.float()) / (sigma - sigma_before)
    clean: torch.Tensor = latents.float() - sigma * velocity
    return clean
