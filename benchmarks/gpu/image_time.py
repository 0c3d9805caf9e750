"""Image time against stock diffusers in the same run: FLUX.1 [dev] at 28 steps, or the demo model that edits.

Four ways: diffusers' own pipeline as it comes, this server's generator as it comes (exact weights, compiled where a
compiler is there), with 8-bit weights (fp8 on cards that have it), and with exact weights and a first-block cache that
skips a **fixed** share of the steps. The last is about time alone: with the real rule the share depends on the picture,
and what it does to the picture is not measured here.
"""

from __future__ import annotations

import argparse
import gc
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks.first_block_cache import FBCHeadBlockHook

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import Subject, compiling, pick_subject
from benchmarks.gpu.jobs import PROMPT, now, options_for, run
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.domain.acceleration import StepCache
from shared.domain.precision import Precision
from shared.domain.report import ChoiceReport, SpeedReport
from worker.pipelines.attention import choose_attention
from worker.pipelines.loader import denoiser_of
from worker.pipelines.speed import Speed

MODELS = {"cuda": "dev", "cpu": "demo-kontext"}
WARM_UP = 2


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skipped", type=float, default=0.5, help="share of the steps that the cache leaves out")
    options = parser.parse_args()
    subject = pick_subject()
    measured = measure(subject, options.repeats, skipped=options.skipped, ways=("exact", "balanced", "cached"))
    emit("gpu.image_time", *measured, subject.weights)


def measure(
    subject: Subject,
    repeats: int,
    ways: Sequence[str] = ("exact",),
    *,
    compiles: bool = True,
    skipped: float = 0.5,
    warm_up: int = WARM_UP,
) -> tuple[Figures, list[Target]]:
    """Return the seconds of stock's images and of ours in each of the ``ways``.

    Every picture has a prompt of its own, so that its encoding is in all of them.
    """
    model = MODELS[subject.device.torch_device.type]
    say("stock diffusers ...")
    stock = stock_times(subject, model, repeats, warm_up)
    gc.collect()
    if subject.device.is_cuda:
        torch.cuda.empty_cache()
    compiled = compiling(subject.device) if compiles else ChoiceReport(value="off", reason="not in this run")
    speed = Speed(SpeedReport(compile=compiled, attention=choose_attention("auto", subject.device)))
    generator = subject.generator(speed=speed)
    prompts = (f"{PROMPT}, number {number}" for number in itertools.count())

    def ours(**changes: Any) -> list[float]:
        count = warm_up + repeats
        return [run(generator, subject, model, next(prompts), **changes) for _ in range(count)][warm_up:]

    seconds = {"stock": stock}
    figures: Figures = {"model": model, "steps": find_model(model).num_inference_steps, "side": subject.side}
    for way in ways:
        say(f"this server, {way} ...")
        if way == "cached":
            with skipping(skipped) as computed:
                seconds[way] = ours(step_cache=StepCache.FIRST_BLOCK)
            figures["share_of_steps_skipped"] = round(1 - sum(computed) / len(computed), 4)
        else:
            seconds[way] = ours(precision=Precision(way))
    figures |= {
        "speed": speed.report.model_dump(),
        "compile_trouble": speed.warning(denoiser_of(generator.store.load(find_model(model)).pipeline)),
        "balanced_is_fp8": subject.device.has_fp8,
        "image_seconds": {way: summary(times) for way, times in seconds.items()},
        **{f"stock_over_{way}": round(median(stock) / median(seconds[way]), 4) for way in ways},
    }
    return figures, _targets(subject, {way: median(stock) / median(seconds[way]) for way in ways})


def _targets(subject: Subject, ratios: dict[str, float]) -> list[Target]:
    targets = []
    if subject.device.is_cuda and "exact" in ratios:
        targets.append(Target("stock / exact", ratios["exact"], 1.35, "", at_least=True))
    if subject.device.has_fp8 and "balanced" in ratios:
        targets.append(Target("stock / fp8", ratios["balanced"], 2.2, "", at_least=True))
    return targets


@torch.no_grad()
def stock_times(subject: Subject, model: str, repeats: int, warm_up: int = WARM_UP) -> list[float]:
    """Return the seconds per image of diffusers' pipeline with all of its parts on the device."""
    spec = find_model(model)
    pipeline = subject.pipeline(model)
    given = options_for(subject, model)
    seed = given.pop("seed")
    del given["model"]
    call: dict[str, Any] = {
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        "max_sequence_length": spec.max_sequence_length,
        **given,
    }
    if "image" in call:
        call |= {"max_area": subject.side**2, "_auto_resize": False}
    seconds = []
    for number in range(warm_up + repeats):
        began = now()
        pipeline(prompt=f"{PROMPT}, number {number}", generator=torch.Generator("cpu").manual_seed(seed), **call)
        seconds.append(now() - began)
    return seconds[warm_up:]


@contextmanager
def skipping(share: float) -> Iterator[list[bool]]:
    """Let the cache skip this share of each image's steps, evenly, whatever the blocks put out.

    Yields a list that grows by one entry per step: whether it was computed.
    """
    decisions: list[bool] = []
    steps = 0

    def decide(hook: Any, _residual: torch.Tensor) -> bool:
        nonlocal steps
        is_first = hook.state_manager.get_state().head_block_residual is None
        steps = 0 if is_first else steps + 1
        computes = is_first or int((steps + 1) * share) == int(steps * share)
        decisions.append(computes)
        return computes

    real = FBCHeadBlockHook._should_compute_remaining_blocks
    FBCHeadBlockHook._should_compute_remaining_blocks = decide
    try:
        yield decisions
    finally:
        FBCHeadBlockHook._should_compute_remaining_blocks = real


if __name__ == "__main__":
    main()
