"""Measure the demo family against its targets: `python -m worker.demo.evaluate --json metrics.json`."""

import argparse
import json
import os
import platform
import resource
import shlex
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from worker.demo.family import load_pipelines
from worker.demo.trials import TRIALS, Examiner, Verdict

CHECKPOINT = Path(__file__).parent / "checkpoint"

STEPS = {"demo": 4, "demo-kontext": 8, "demo-fill": 8}

COUNTS = {"prompts": 200, "edits": 100, "fills": 100, "seeds": 10}

TARGETS = {
    "prompts": {"colour": 0.97, "background": 0.97, "shape": 0.90, "position": 0.90},
    "edits": {
        "changed": 0.93,
        "rest_attributes_kept": 0.93,
        "object_mask_kept": 0.93,
        "background_kept": 0.93,
    },
    "fills": {"outside_kept": 0.90, "inside_right": 0.90},
    "seeds": {"same_seed_same_bytes": 1.0, "other_seed_differs": 1.0},
}
"""Least share of trials that must hold. The bounds on overlap and difference are in `trials`."""

MAX_SECONDS_PER_PICTURE = 1.5


def main() -> None:
    """Load the checkpoint, try everything, print and write the metrics."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    started = time.perf_counter()
    pipelines = load_pipelines(options.checkpoint)
    load_seconds = time.perf_counter() - started
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
    steps = {model: getattr(options, model.replace("-", "_")) for model in STEPS}
    examiner = Examiner(pipelines, steps)
    trials = {name: run_trials(examiner, name, round(options.share * COUNTS[name])) for name in options.trials}
    metrics = {
        "command": shlex.join(["python", "-m", "worker.demo.evaluate", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "steps": steps,
        "trials": trials,
        "missed": missed(trials),
        "speed": {"load_seconds": round(load_seconds, 3), **time_pictures(examiner)},
    }
    text = json.dumps(metrics, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--json", type=Path, help="where to write the metrics")
    parser.add_argument("--trials", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--share", type=float, default=1.0, help="share of the trials to run")
    parser.add_argument("--threads", type=int, help="threads of the CPU")
    for model, steps in STEPS.items():
        parser.add_argument(f"--{model}", type=int, default=steps, help=f"denoising steps of {model}")
    return parser.parse_args()


def run_trials(examiner: Examiner, name: str, count: int) -> dict[str, Any]:
    """Run the trials of one kind and give the share of each verdict that held."""
    verdicts = [TRIALS[name](examiner, seed) for seed in tqdm(range(count), desc=name)]
    return {"count": count, **shares(verdicts)}


def shares(verdicts: list[Verdict]) -> dict[str, float]:
    """Average every verdict over the trials that have it; `changed:colour` also counts as `changed`."""
    held: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        for name, value in verdict.items():
            held[name].append(value)
            if ":" in name:
                held[name.split(":")[0]].append(value)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(held.items())}


def missed(trials: dict[str, dict[str, Any]]) -> dict[str, str]:
    """List the targets that were not reached, in words."""
    return {
        f"{name}.{verdict}": f"{result[verdict]:.1%} instead of {least:.0%}"
        for name, result in trials.items()
        for verdict, least in TARGETS[name].items()
        if verdict in result and result[verdict] < least
    }


def time_pictures(examiner: Examiner) -> dict[str, float]:
    """Time native pictures of `demo`, the first one left out, and read the process's peak memory."""
    examiner.generate("a red circle", 0)
    started = time.perf_counter()
    for seed in range(5):
        examiner.generate("a red circle", seed)
    seconds = (time.perf_counter() - started) / 5
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds_per_picture": round(seconds, 3),
        "max_seconds_per_picture": MAX_SECONDS_PER_PICTURE,
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": peak,
    }


def describe_machine() -> dict[str, Any]:
    """Say what the numbers were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
