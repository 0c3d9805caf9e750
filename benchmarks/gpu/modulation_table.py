"""B14: what the modulation table frees, what it costs, and whether the latents are equal to the last bit."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import Subject, pick_subject
from benchmarks.gpu.jobs import PROMPT, options_for, run
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.domain.params import JobKind
from shared.domain.precision import ResidencyKey
from shared.planner import Shape
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.ladder import JobShape, Relief, Rung


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="of every job")
    options = parser.parse_args()
    subject = pick_subject()
    generator = subject.generator()
    figures: Figures = {}
    different = 0
    for model in subject.models:
        say(model)
        plain, pictures = measure(generator, subject, model, options.repeats, options.steps)
        resident = generator.store.residency.resident_bytes
        source = 0 if find_model(model).kind is JobKind.GENERATE else subject.side**2
        shape = JobShape(ResidencyKey(model), Shape(subject.side**2, source))
        generator.ladder.remember(shape, Rung((Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN)))
        table, with_table = measure(generator, subject, model, options.repeats, options.steps)
        different += not np.array_equal(pictures, with_table)
        figures[model] = {
            "modulation_bytes": find_model(model).modulation_bytes,
            "resident_bytes": {"plain": resident, "table": generator.store.residency.resident_bytes},
            "job_seconds": {"plain": summary(plain), "table": summary(table)},
            "table_over_plain": round(median(table) / median(plain), 4),
        }
    emit("gpu.modulation_table", figures, [Target("models that differ", different, 0, "")], subject.weights)


def measure(
    generator: FluxLocalGenerator, subject: Subject, model: str, repeats: int, steps: int
) -> tuple[list[float], Any]:
    """Return the seconds of jobs of one model, and their picture."""
    run(generator, subject, model, num_inference_steps=steps)
    seconds = [run(generator, subject, model, num_inference_steps=steps) for _ in range(repeats)]
    options = options_for(subject, model, num_inference_steps=steps)
    return seconds, np.asarray(generator.generate(PROMPT, **options)[0])


if __name__ == "__main__":
    main()
