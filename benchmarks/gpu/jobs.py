"""Jobs of the product's generator, and where their time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, cast

import torch
from PIL import Image

from benchmarks.gpu.family import Subject
from shared.catalog import find_model
from shared.domain.job import NextJob
from shared.domain.params import JobKind
from shared.domain.status import Phase
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import GenerationOptions, SilentContext
from worker.generators.options import resolve_options

PROMPT = "a red circle on a blue background"


class PhaseClock(SilentContext):
    """Adds up the seconds of each phase of one job; a card is waited for at every boundary."""

    def __init__(self) -> None:
        self.seconds: defaultdict[Phase, float] = defaultdict(float)
        self._phase: Phase | None = None
        self._since = now()

    def on_phase(self, phase: Phase) -> None:
        moment = now()
        if self._phase is not None:
            self.seconds[self._phase] += moment - self._since
        self._phase, self._since = phase, moment

    def on_image(self, index: int, image: Image.Image) -> None:  # noqa: ARG002  # as the protocol has it
        self.on_phase(Phase.SAVING)


def now() -> float:
    """Return seconds, once everything that a card was told to do is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def options_for(subject: Subject, model: str, **changes: Any) -> dict[str, Any]:
    """Return the keyword arguments of a job with the model's own number of steps."""
    size = (subject.side, subject.side)
    kind = find_model(model).kind
    options: dict[str, Any] = {"model": model, "width": subject.side, "height": subject.side, "seed": 1, **changes}
    if kind is not JobKind.GENERATE:
        options["image"] = Image.new("RGB", size, "red")
    if kind is JobKind.FILL:
        options["mask"] = Image.new("L", size, 255)
    return options


def run(generator: FluxLocalGenerator, subject: Subject, model: str, prompt: str = PROMPT, **changes: Any) -> float:
    """Run one job and return its seconds."""
    began = now()
    generator.generate(prompt, **options_for(subject, model, **changes))
    return now() - began


def next_job(subject: Subject, model: str | None, prompt: str, **changes: Any) -> NextJob | None:
    """Return what a worker would hear of such a job while the one before it runs; of no model, nothing."""
    if model is None:
        return None
    params = resolve_options(find_model(model), prompt, cast(GenerationOptions, options_for(subject, model, **changes)))
    return NextJob(residency=model, params=params)
