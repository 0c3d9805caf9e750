"""B5: a mixed queue on a card that holds one model, against the same jobs with all of them resident.

``keep`` is the sum of resident job times over the time of the capped run: 1 means that switching costs nothing.
Every job has a prompt of its own, so that each pays for its encoding in both runs.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.figures import Figures, Target
from benchmarks.gpu.family import Subject, mix, pick_subject
from benchmarks.gpu.jobs import next_job, now, run
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.planner import GIB
from worker.generators.flux_local import FluxLocalGenerator

CAP_BYTES_ON_A_CARD = 31 * GIB


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=4, help="of every job; few steps make switches weigh more")
    options = parser.parse_args()
    roomy = pick_subject()
    order = list(mix(roomy, options.jobs))
    capped = pick_subject(CAP_BYTES_ON_A_CARD if roomy.device.is_cuda else room_for_one(roomy))
    say(f"{options.jobs} jobs, all models resident ...")
    resident_seconds, _ = run_queue(roomy, roomy.generator(), order, num_inference_steps=options.steps)
    say(f"{options.jobs} jobs, capped ...")
    capped_seconds, brought = run_queue(capped, capped.generator(), order, num_inference_steps=options.steps)
    keep = sum(resident_seconds) / sum(capped_seconds)
    figures: Figures = {
        "jobs": options.jobs,
        "steps": options.steps,
        "mix": {model: order.count(model) for model in roomy.models},
        "switches": sum(first != second for first, second in itertools.pairwise(order)),
        "resident_seconds": round(sum(resident_seconds), 3),
        "capped_seconds": round(sum(capped_seconds), 3),
        "brought": brought,
        "keep": round(keep, 4),
    }
    emit("gpu.mixed_queue", figures, [Target("keep", keep, 0.95, "", at_least=True)], roomy.weights)


def run_queue(
    subject: Subject, generator: FluxLocalGenerator, order: Sequence[str], label: str = "picture", **changes: Any
) -> tuple[list[float], dict[str, int]]:
    """Return the seconds of each job, and how often each denoiser was brought in; prompts begin with ``label``."""
    models = [model for model in subject.models if model in order]
    for model in models:
        run(generator, subject, model, **changes)  # loading from disk is no part of a switch
    before = dict(generator.store.residency.brought)
    began, ends = now(), []
    for index, model in enumerate(order):
        following = order[index + 1] if index + 1 < len(order) else None
        generator.expect(partial(next_job, subject, following, f"{label} {index + 1}", **changes))
        run(generator, subject, model, prompt=f"{label} {index}", **changes)
        ends.append(now())
    seconds = [end - start for start, end in zip([began, *ends], ends, strict=False)]
    after = generator.store.residency.brought
    return seconds, {model: after[model] - before.get(model, 0) for model in models}


def room_for_one(subject: Subject) -> int:
    """Return the usable bytes at which one model of the demo family fits, and no second."""
    sizes = [find_model(model).component_bytes for model in subject.models]
    one = max(size["transformer"] for size in sizes) + sum(b for name, b in sizes[0].items() if name != "transformer")
    return one + WORKING_BYTES_OF_DEMO


WORKING_BYTES_OF_DEMO = 14_000_000
"""Of 64 x 64 pixels and 24 tokens, see ``shared.planner.sizes``; less than what a second model needs."""


if __name__ == "__main__":
    main()
