"""B3: what a switch of models costs under a cap, against the link's bandwidth and against diffusers' model offload.

``raw`` is the copy alone: from the request to the last weight on the card. ``visible`` is what a job after a switch
takes longer than the same job without one.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import RANDOM_WEIGHTS, RandomLoader, pick_subject
from benchmarks.gpu.jobs import now, run
from benchmarks.gpu.skip import need_card
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.planner import GIB
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
    subject = pick_subject(round(options.gib * GIB))
    torch.cuda.set_per_process_memory_fraction(options.gib * GIB / torch.cuda.get_device_properties(0).total_memory)
    link = pinned_bandwidth()
    generator = subject.generator()
    for model in MODELS:
        run(generator, subject, model, num_inference_steps=STEPS)
    say("raw copies ...")
    raw, moved = zip(*(raw_copy(generator, MODELS[n % 2]) for n in range(options.repeats)), strict=True)
    say("jobs with and without a switch ...")
    switched = [run(generator, subject, MODELS[n % 2], num_inference_steps=STEPS) for n in range(options.repeats)]
    resident = [run(generator, subject, MODELS[1], num_inference_steps=STEPS) for _ in range(options.repeats)]
    peak = torch.cuda.max_memory_allocated()
    del generator
    torch.cuda.empty_cache()
    say("diffusers' model offload ...")
    loader = RandomLoader(subject.device)
    stock = FluxLocalGenerator(PipelineStore(Weights(), subject.device, cpu_offload="on", loader=loader))
    offloaded = [run(stock, subject, MODELS[n % 2], num_inference_steps=STEPS) for n in range(4)][2:]
    visible = median(switched) - median(resident)
    efficiency = median(moved) / median(raw) / link
    figures: Figures = {
        "cap_gib": options.gib,
        "pinned_gb_per_second": round(link / 1e9, 2),
        "bytes": int(median(moved)),
        "raw_seconds": summary(raw),
        "visible_seconds": round(visible, 4),
        "job_seconds": {"resident": summary(resident), "switched": summary(switched), "offload": summary(offloaded)},
        "peak_bytes": peak,
    }
    cheaper = (median(offloaded) - median(resident)) / max(visible, 1e-3)
    targets = [
        Target("share of the pinned bandwidth", efficiency, 0.9, "", at_least=True),
        Target("times cheaper than model offload", cheaper, 10, "", at_least=True),
    ]
    emit("gpu.switch", figures, targets, RANDOM_WEIGHTS)


def raw_copy(generator: FluxLocalGenerator, model: str) -> tuple[float, float]:
    """Evict everything, bring one model in, and return seconds and bytes."""
    residency: Any = generator.store.residency
    residency.evict(residency.resident())
    placement = generator.store.place(generator.store.load(find_model(model)))
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
