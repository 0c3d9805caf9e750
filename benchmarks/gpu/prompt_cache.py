"""B10: what a prompt that is known saves, and whether its latents are the same."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import pick_subject
from benchmarks.gpu.jobs import PROMPT, PhaseClock, options_for
from benchmarks.report import emit, say
from shared.domain.status import Phase


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=20)
    options = parser.parse_args()
    subject = pick_subject()
    generator = subject.generator()
    model = subject.models[0]
    generator.warm(model)
    encode: dict[str, list[float]] = {"miss": [], "hit": []}
    different = 0
    say(f"{options.prompts} prompts, each twice ...")
    for index in range(options.prompts):
        pictures = []
        for seconds in encode.values():
            clock = PhaseClock()
            job = options_for(subject, model, num_inference_steps=1)
            pictures.append(np.asarray(generator.generate(f"{PROMPT} {index}", context=clock, **job)[0]))
            seconds.append(1000 * clock.seconds[Phase.ENCODING])
        different += not np.array_equal(pictures[0], pictures[1])
    figures: Figures = {
        "model": model,
        "encode_ms": {outcome: summary(times) for outcome, times in encode.items()},
        "saved_ms": round(median(encode["miss"]) - median(encode["hit"]), 3),
        "bytes_per_prompt": generator.store.prompts.nbytes // options.prompts,
        "pictures_that_differ": different,
    }
    ratio = median(encode["hit"]) / median(encode["miss"])
    targets = [Target("hit / miss", ratio, 0.5, ""), Target("pictures that differ", different, 0, "")]
    emit("gpu.prompt_cache", figures, targets, subject.weights)


if __name__ == "__main__":
    main()
