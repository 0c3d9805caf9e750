"""B4: a mixed queue with the largest pictures, under a cap: how much memory it takes, and that it never runs out."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks.figures import Figures, Target
from benchmarks.gpu.family import RANDOM_WEIGHTS, mix
from benchmarks.gpu.jobs import run
from benchmarks.gpu.skip import need_card
from benchmarks.gpu.switch import capped
from benchmarks.report import emit, say
from shared.domain.errors import CapabilityError, OutOfMemory
from shared.domain.precision import Precision
from shared.planner import GIB

LARGEST_SIDE = 2048
STEPS = 2


def main() -> None:
    """Measure and print the result."""
    need_card()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=31.0, help="cap of the allocator and of the planner")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--precision", type=Precision, default=Precision.EXACT, help="exact has no room under 15.2 GiB")
    options = parser.parse_args()
    cap = round(options.gib * GIB)
    subject = capped(options.gib)
    generator = subject.generator()
    out_of_memory, refused = 0, 0
    for index, model in enumerate(mix(subject, options.jobs)):
        size: dict[str, Any] = {"width": LARGEST_SIDE, "height": LARGEST_SIDE} if index % 10 == 9 else {}
        say(f"{index + 1} of {options.jobs}: {model} {size or ''}")
        try:
            run(generator, subject, model, num_inference_steps=STEPS, precision=options.precision, **size)
        except OutOfMemory:
            out_of_memory += 1
        except CapabilityError:
            refused += 1
    fit = torch.cuda.max_memory_reserved() / cap
    figures: Figures = {
        "cap_gib": options.gib,
        "precision": options.precision,
        "jobs": options.jobs,
        "refused": refused,
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
    }
    targets = [Target("out of memory", out_of_memory, 0, ""), Target("peak over cap", fit, 0.97, "")]
    emit("gpu.fit", figures, targets, RANDOM_WEIGHTS)


if __name__ == "__main__":
    main()
