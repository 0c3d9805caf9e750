"""B11: from the start of a process to its first image, phase by phase: uncompiled, compiling, and with code kept.

Each run is a process of its own, as a restarted worker is. Weights are random on a card, so loading them from a disk is
not in it there; with the demo family it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Final

from benchmarks.figures import Figures
from benchmarks.report import emit, last_object, say

_MODULE: Final = "benchmarks.gpu.cold_start"


def main() -> None:
    """Measure and print the result, or, with ``--phases``, be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uncompiled-only", action="store_true", help="leave the runs with a compiler out")
    parser.add_argument("--phases", choices=("uncompiled", "compiled"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phases is not None:
        print(json.dumps(phases(compiles=options.phases == "compiled")))
        return
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="flux-inductor-") as folder:
        runs = {"uncompiled": "uncompiled", "compiling": "compiled", "code_kept": "compiled"}
        for name, mode in runs.items():
            if mode == "compiled" and options.uncompiled_only:
                continue
            say(f"{name} ...")
            figures[name] = in_new_process(mode, folder)
    weights = figures["uncompiled"]["weights"]
    emit("gpu.cold_start", figures, [], weights)


def in_new_process(mode: str, cache_folder: str) -> Figures:
    """Return the phases of a new process, and its whole life until then in seconds."""
    began = time.perf_counter()
    ended = subprocess.run(
        (sys.executable, "-m", _MODULE, "--phases", mode),
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache_folder},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {**last_object(ended.stdout), "process_seconds": round(time.perf_counter() - began, 3)}


def phases(*, compiles: bool) -> Figures:
    """Return the seconds of each phase until the second image of this process."""
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        seconds[name] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()

    from benchmarks.gpu.family import compiling, pick_subject
    from benchmarks.gpu.jobs import run
    from shared.catalog import find_model
    from shared.domain.report import ChoiceReport, SpeedReport
    from worker.pipelines.speed import Speed

    lap("import")
    subject = pick_subject()
    off = ChoiceReport(value="off", reason="not in this run")
    speed = Speed(
        SpeedReport(
            compile=compiling(subject.device) if compiles else off,
            attention=ChoiceReport(value="native", reason="the same in all runs"),
        )
    )
    generator = subject.generator(speed=speed)
    model = subject.models[0]
    transformer = generator.store.load(find_model(model)).pipeline.transformer
    lap("load")
    run(generator, subject, model)
    lap("first_image")
    run(generator, subject, model)
    lap("second_image")
    return {
        "model": model,
        "seconds": seconds,
        "compile": speed.report.compile.model_dump(),
        "compile_trouble": speed.warning(transformer),
        "weight_bytes": sum(find_model(model).component_bytes.values()),
        "weights": subject.weights,
    }


if __name__ == "__main__":
    main()
