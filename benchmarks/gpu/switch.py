"""B3: what a switch of models costs under a cap, against the link's bandwidth and against diffusers' model offload.

``raw`` is the copy alone: from the request to the last weight on the card. ``visible`` is what a job after a switch
takes longer than the same job without one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import RANDOM_WEIGHTS, RandomLoader, Subject, pick_subject
from benchmarks.gpu.jobs import now, run
from benchmarks.gpu.skip import need_card
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.planner import GIB, Shape
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

MODELS = ("schnell", "dev")
STEPS = 4


def main() -> None:
    """Measure and print the result."""
    need_card()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--gib", type=float, default=31.0, help="cap of the allocator and of the planner")
    options = parser.parse_args()
    subject = capped(options.gib)
    generator = subject.generator()
    figures, targets = measure(subject, generator, MODELS, options.repeats)
    del generator
    torch.cuda.empty_cache()
    say("diffusers' model offload ...")
    stock = FluxLocalGenerator(
        PipelineStore(Weights(), subject.device, cpu_offload="on", loader=RandomLoader(subject.device))
    )
    offloaded = [run(stock, subject, MODELS[n % 2], num_inference_steps=STEPS) for n in range(4)][2:]
    seconds = figures["job_seconds"]
    seconds["offload"] = summary(offloaded)
    cheaper = (median(offloaded) - seconds["resident"]["p50"]) / max(figures["visible_seconds"], 1e-3)
    targets.append(Target("times cheaper than model offload", cheaper, 10, "", at_least=True))
    emit("gpu.switch", {"cap_gib": options.gib, **figures}, targets, RANDOM_WEIGHTS)


def capped(gib: float) -> Subject:
    """Return the subject on a card of which the planner and torch's allocator may use so much."""
    subject = pick_subject(round(gib * GIB))
    torch.cuda.set_per_process_memory_fraction(gib * GIB / torch.cuda.get_device_properties(0).total_memory)
    return subject


def measure(
    subject: Subject, generator: FluxLocalGenerator, models: Sequence[str], repeats: int
) -> tuple[Figures, list[Target]]:
    """Return what a switch between two models costs: the copy alone, and what a job sees of it."""
    link = pinned_bandwidth() if subject.device.is_cuda else None
    for model in models:
        run(generator, subject, model, num_inference_steps=STEPS)
    say("raw copies ...")
    raw, moved = zip(*(raw_copy(subject, generator, models[n % 2]) for n in range(repeats)), strict=True)
    say("jobs with and without a switch ...")
    switched = [run(generator, subject, models[n % 2], num_inference_steps=STEPS) for n in range(repeats)]
    run(generator, subject, models[1], num_inference_steps=STEPS)
    resident = [run(generator, subject, models[1], num_inference_steps=STEPS) for _ in range(repeats)]
    figures: Figures = {
        "pinned_gb_per_second": None if link is None else round(link / 1e9, 2),
        "bytes": int(median(moved)),
        "raw_seconds": summary(raw),
        "visible_seconds": round(median(switched) - median(resident), 4),
        "job_seconds": {"resident": summary(resident), "switched": summary(switched)},
        "peak_bytes": torch.cuda.max_memory_allocated() if subject.device.is_cuda else None,
    }
    if link is None:
        return figures, []
    efficiency = median(moved) / median(raw) / link
    return figures, [Target("share of the pinned bandwidth", efficiency, 0.9, "", at_least=True)]


def raw_copy(subject: Subject, generator: FluxLocalGenerator, model: str) -> tuple[float, float]:
    """Evict everything, bring one model in, and return seconds and bytes."""
    residency: Any = generator.store.residency
    residency.evict(residency.resident())
    placement = generator.store.place(generator.store.load(find_model(model)), Shape(subject.side**2, subject.side**2))
    residency.evict(residency.resident())
    before, began = residency.brought_bytes, now()
    with placement.denoising():
        seconds = now() - began
    return seconds, float(residency.brought_bytes - before)


def pinned_bandwidth() -> float:
    """Return bytes per second from pinned memory to the card, best of ten copies of 1 GiB."""
    host = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
    card = torch.empty(GIB, dtype=torch.uint8, device="cuda")
    seconds = []
    for _ in range(10):
        began = now()
        card.copy_(host, non_blocking=True)
        seconds.append(now() - began)
    return GIB / min(seconds)


if __name__ == "__main__":
    main()
