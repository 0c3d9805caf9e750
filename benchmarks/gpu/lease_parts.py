"""What is measured on a rented card, the most important first, and the same on a CPU with the demo family."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figures import Figures, Target
from benchmarks.gpu import fp8_step, image_time, step_roofline, switch
from benchmarks.gpu.family import Subject, pick_subject
from benchmarks.gpu.lease_paper import CAP_GIB, LIMITS, MIXED_JOBS, REPEATS, ROOFLINE_SIDE, STEPS, WARM_UP
from benchmarks.gpu.mixed_queue import room_for_one, run_queue
from benchmarks.gpu.step_roofline import CUDNN
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.attention import NATIVE
from worker.pipelines.device import pick_device

_ROOT: Final = Path(__file__).parents[2]

Measured = tuple[Figures, list[Target]]


class Skipped(Exception):
    """A part cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement and the longest time it may take."""

    name: str
    seconds: float
    measure: Callable[[Subject, float], Measured]
    """Given what is measured, and the seconds it has."""


def subject_for(*, dry_run: bool) -> Subject:
    """Return FLUX.1 on this machine's card, or for a dry run the demo family on its CPU.

    Raises:
      DeviceUnavailable: there is no card.
    """
    return pick_subject(device=pick_device("cpu" if dry_run else "cuda"))


def tests(_subject: Subject, seconds: float) -> Measured:
    """Run the tests that need a card, a real Celery worker among them, in a process of their own."""
    command = (sys.executable, "-m", "pytest", "tests/gpu", "-q", "-rs", "-p", "no:cacheprovider")
    try:
        ended = subprocess.run(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds - 2
        )
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"the tests did not end; the last words: {str(late.stdout)[-500:]}") from late
    counts = {
        outcome: int(count) for count, outcome in re.findall(r"(\d+) (passed|failed|skipped|errors?)", ended.stdout)
    }
    sys.stderr.write(ended.stdout[-4000:])
    if ended.returncode:
        raise RuntimeError(f"pytest ended with code {ended.returncode}: {counts}; stderr has its last words")
    if not counts.get("passed"):
        raise Skipped(f"all {counts.get('skipped', 0)} tests in tests/gpu skip here: torch sees no CUDA device")
    return dict(counts), []


def roofline(subject: Subject, _seconds: float) -> Measured:
    """One step of FLUX.1 [dev]: native attention, cuDNN's, compiled."""
    sides = (ROOFLINE_SIDE,) if subject.device.is_cuda else (subject.side,)
    return step_roofline.measure(subject, sides, (NATIVE, CUDNN), compiles=subject.device.is_cuda)


def images(subject: Subject, _seconds: float) -> Measured:
    """Whole images of stock diffusers and of this server in one process."""
    return image_time.measure(subject, REPEATS, compiles=subject.device.is_cuda, warm_up=WARM_UP)


def switches(subject: Subject, _seconds: float) -> Measured:
    """Two models on a card that holds one: a switch, then a mixed queue against the same jobs without switches."""
    models = (subject.models[0], subject.models[1])
    small = switch.capped(CAP_GIB) if subject.device.is_cuda else pick_subject(room_for_one(subject), subject.device)
    generator = FluxLocalGenerator(small.store())
    figures, targets = switch.measure(small, generator, models, REPEATS)
    order = [models[int(index in _SECOND)] for index in range(MIXED_JOBS)]
    seconds, brought = run_queue(small, generator, order, num_inference_steps=STEPS)
    alone = {model: run_queue(small, generator, [model] * 2, model, num_inference_steps=STEPS)[0] for model in models}
    keep = sum(min(alone[model]) for model in order) / sum(seconds)
    figures |= {"cap_gib": CAP_GIB if subject.device.is_cuda else None, "mixed_jobs": MIXED_JOBS, "brought": brought}
    figures["keep"] = round(keep, 4)
    return figures, [*targets, Target("keep", keep, 0.95, "", at_least=True)] if subject.device.is_cuda else []


_SECOND: Final = frozenset({2, 4, 7, 8})
"""Which of ten mixed jobs are of the second model: six switches."""


def fp8(subject: Subject, _seconds: float) -> Measured:
    """One compiled step in fp8."""
    if not subject.device.has_fp8:
        raise Skipped(f"{subject.device.description} has no fp8")
    return fp8_step.measure(subject, (ROOFLINE_SIDE,), modes=("eager", "compiled"))


_MEASURES: Final = {
    "tests": tests,
    "step_roofline": roofline,
    "image_time": images,
    "switch": switches,
    "fp8_step": fp8,
}
PARTS: Final = tuple(Part(name, LIMITS[name], measure) for name, measure in _MEASURES.items())
