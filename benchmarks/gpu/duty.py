"""B2 and B6: how much of the time between jobs of one model is work, and what the pipeline adds to its networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figures, Target, summary
from benchmarks.gpu.family import pick_subject
from benchmarks.gpu.jobs import PROMPT, PhaseClock, now, options_for, run
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.domain.status import Phase


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    options = parser.parse_args()
    subject = pick_subject()
    generator = subject.generator()
    model = subject.models[0]
    for _ in range(3):
        run(generator, subject, model)
    say(f"{options.jobs} jobs of {model} ...")
    busy, walls = 0.0, []
    began = now()
    for seed in range(options.jobs):
        clock, start = PhaseClock(), now()
        generator.generate(PROMPT, context=clock, **options_for(subject, model, seed=seed))
        busy += sum(clock.seconds[phase] for phase in (Phase.ENCODING, Phase.DENOISING, Phase.DECODING))
        walls.append(now() - start)
    duty = busy / (now() - began)
    pipeline = generator.store.load(find_model(model)).pipeline
    networks: dict[str, float] = {}
    hooks = [time_calls(pipeline.transformer, networks), time_calls(pipeline.vae.decoder, networks)]
    inside = now()
    run(generator, subject, model)
    inside = now() - inside
    for hook in hooks:
        hook()
    tax = 1 - sum(networks.values()) / inside
    figures: Figures = {"model": model, "job_seconds": summary(walls), "duty": round(duty, 4), "tax": round(tax, 4)}
    targets = [Target("duty, schnell", duty, 0.97, "", at_least=True), Target("pipeline tax", tax, 0.01, "")]
    emit("gpu.duty", figures, targets, subject.weights)


def time_calls(module: Any, seconds: dict[str, float]) -> Callable[[], None]:
    """Add the time of every call of a network to ``seconds``; return what stops that."""
    began: list[float] = []
    before = module.register_forward_pre_hook(lambda *_: began.append(now()))

    def add(*_: object) -> None:
        name = type(module).__name__
        seconds[name] = seconds.get(name, 0.0) + now() - began.pop()

    after = module.register_forward_hook(add)

    def stop() -> None:
        before.remove()
        after.remove()

    return stop


if __name__ == "__main__":
    main()
