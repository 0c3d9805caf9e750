"""What a preview costs the computing thread and the device, and what the job pays for being watched.

``device_ms`` is from the latents of a step to 8-bit pixels on their way to the host, waited for; encoding goes on in
another thread and is timed apart.
"""

from __future__ import annotations

import io
import time

import numpy as np
import torch
from PIL import Image

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import pick_subject
from benchmarks.gpu.jobs import PROMPT, now, options_for
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.planner import Shape
from worker.generators.interface import SilentContext
from worker.pipelines.device import HostCopy
from worker.pipelines.latent_rgb_fit import fit_latent_rgb
from worker.pipelines.preview import clean_estimate

REPEATS = 50


class Watched(SilentContext):
    """Wants a preview at every step and keeps none."""

    def __init__(self) -> None:
        self.previews = self

    def is_due(self) -> bool:
        return True

    def offer(self, render: object) -> None:
        """Drop it: only its making is measured."""


def main() -> None:
    """Measure and print the result."""
    subject = pick_subject()
    store = subject.store()
    loaded = store.load(find_model(subject.models[0]))
    pipeline, device = loaded.pipeline, subject.device
    shape = Shape(subject.side**2, 0)
    began = now()
    with store.place(loaded, shape=shape).decoding():
        rgb = fit_latent_rgb(pipeline.vae, device.torch_device).to(device.torch_device)
    fit_seconds = now() - began
    places = subject.side // 16
    before, latents = torch.randn(2, 1, places * places, 64, device=device.torch_device, dtype=device.dtype)
    pipeline.scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.25, 4), mu=1.0, device=device.torch_device)
    pipeline.scheduler._step_index = 2
    costs = []
    for _ in range(REPEATS):
        start = now()
        clean = pipeline._unpack_latents(
            clean_estimate(pipeline.scheduler, before, latents), subject.side, subject.side, 8
        )
        pixels = HostCopy(rgb.pixels(clean), device).wait()
        costs.append(1000 * (now() - start))
    encoding = time.perf_counter()
    Image.fromarray(pixels.numpy()).save(io.BytesIO(), "WEBP", quality=80, method=0)
    encode_ms = 1000 * (time.perf_counter() - encoding)
    say("jobs, watched and not ...")
    generator = subject.generator()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for watched in (False, True) * 6:
        start = now()
        context = Watched() if watched else SilentContext()
        generator.generate(PROMPT, context=context, **options_for(subject, subject.models[0]))
        seconds[watched].append(now() - start)
    figures: Figures = {
        "device_ms": summary(costs[3:]),
        "encode_ms": round(encode_ms, 3),
        "fit_seconds": round(fit_seconds, 3),
        "job_seconds": {"plain": summary(seconds[False][1:]), "watched": summary(seconds[True][1:])},
    }
    emit("gpu.preview", figures, [Target("preview on the device", median(costs[3:]), 2.0, "ms")], subject.weights)


if __name__ == "__main__":
    main()
