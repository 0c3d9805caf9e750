"""What the whole stack costs per job, against a bare diffusers loop that also saves the PNG.

Both run the same model folder with the same parameters, seeds and torch threads, one job after the other, in blocks
that alternate: stack, bare, stack, bare. The stack's queue is never empty, so a job's time is the distance between
two ends of jobs. A block of one and the next of the other make a pair; the figure is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops

from benchmarks.client import Client
from benchmarks.commits import CommitProbe
from benchmarks.figures import Figures, Target, median, minus_commits, summary
from benchmarks.report import emit, say
from benchmarks.stack import bench_stack

TARGET_PERCENT: Final = 5.0
SHORTEST_JOB_SECONDS: Final = 1.0
COMMITS: Final = 1
"""Durable commits of the worker per job: the one that publishes the pictures. The submit's is not in its way."""


class BareLoop:
    """The process of ``benchmarks.bare``; it computes only while ``run`` waits for it."""

    def __init__(self, process: subprocess.Popen[str], out_dir: Path) -> None:
        self._process = process
        self.out_dir = out_dir
        self.threads: int = self._read()["threads"]

    def run(self, params: dict[str, Any], seeds: Sequence[int]) -> float:
        """Return the seconds per picture."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"params": params, "seeds": list(seeds)}) + "\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"]) / len(seeds)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


@contextmanager
def bare_loop(data_dir: Path) -> Iterator[BareLoop]:
    """Start the bare loop beside the stack, on its weights and its disk."""
    out_dir = data_dir / "bare"
    out_dir.mkdir()
    command = (sys.executable, "-m", "benchmarks.bare", str(out_dir))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield BareLoop(process, out_dir)
    finally:
        process.kill()
        process.communicate()


def run_stack(client: Client, params: dict[str, Any], seeds: Sequence[int]) -> tuple[float, list[dict[str, Any]]]:
    """Return seconds per job, and the jobs. One job more goes first: the others are all waiting when it ends."""
    submitted = [client.submit(**params, seed=seed)[0]["id"] for seed in (seeds[0], *seeds)]
    client.finished(submitted[-1])
    jobs = [client.finished(job_id) for job_id in submitted]
    ends = [datetime.fromisoformat(job["finished_at"]) for job in jobs]
    return (ends[-1] - ends[0]).total_seconds() / len(seeds), jobs[1:]


def largest_difference(client: Client, jobs: Sequence[dict[str, Any]], out_dir: Path) -> int:
    """Return by how much the two ways differ in any pixel: proof that they did the same work."""
    largest = 0
    for job in jobs:
        image = job["images"][0]
        ours = Image.open(io.BytesIO(client.timed("GET", image["url"])[0]))
        theirs = Image.open(out_dir / f"{image['seed']}.png")
        extrema = ImageChops.difference(ours.convert("RGB"), theirs.convert("RGB")).getextrema()
        largest = max(largest, *(int(high) for _, high in extrema))  # type: ignore[misc]  # RGB: a pair per band
    return largest


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8, help="pairs of blocks")
    parser.add_argument("--jobs", type=int, default=3, help="jobs in a block")
    parser.add_argument("--side", type=int, default=512, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps, at least")
    parser.add_argument("--threads", type=int, help="torch threads of both sides; 1 is steady on a shared machine")
    options = parser.parse_args()
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # inherited by the worker and the bare loop
    params: dict[str, Any] = {"prompt": "a red circle on a blue background", "guidance_scale": 0.0}
    params |= {"width": options.side, "height": options.side, "num_inference_steps": options.steps}
    stack_seconds, bare_seconds = [], []
    with bench_stack() as stack, Client(stack.api_url) as client, bare_loop(stack.data_dir) as bare:
        probe = CommitProbe(stack.data_dir)
        bare.run(params, [0])
        params["num_inference_steps"] = steps_for(bare.run(params, [0]), options.steps)
        say(f"{params['num_inference_steps']} steps a job, {options.jobs} jobs a block, {options.pairs} pairs ...")
        run_stack(client, params, [0])
        difference = 0
        for pair in range(options.pairs):
            seeds = range(pair * options.jobs, (pair + 1) * options.jobs)
            seconds, jobs = run_stack(client, params, seeds)
            stack_seconds.append(seconds)
            bare_seconds.append(bare.run(params, seeds))
            probe.sample(3)
            difference = max(difference, largest_difference(client, jobs, bare.out_dir))
            say(f"stack {stack_seconds[-1]:.3f} s, bare {bare_seconds[-1]:.3f} s")
        probe.close()
        threads = bare.threads
    commit_seconds = [time / 1000 for time in probe.times_ms]
    raw = [100 * (ours / theirs - 1) for ours, theirs in zip(stack_seconds, bare_seconds, strict=True)]
    net = [
        100 * (minus_commits(ours, COMMITS, commit_seconds) / theirs - 1)
        for ours, theirs in zip(stack_seconds, bare_seconds, strict=True)
    ]
    figures: Figures = {
        "params": params,
        "jobs_per_block": options.jobs,
        "torch_threads": threads,
        "stack_seconds_per_job": summary(stack_seconds),
        "bare_seconds_per_job": summary(bare_seconds),
        "overhead_percent": summary(raw),
        "overhead_of_best_blocks_percent": round(100 * (min(stack_seconds) / min(bare_seconds) - 1), 3),
        "full_commit_ms": summary(probe.times_ms),
        "commits_subtracted": COMMITS,
        "largest_pixel_difference": difference,
    }
    targets = [
        Target("overhead per job, median of pairs", median(raw), TARGET_PERCENT, "%"),
        Target("overhead per job, median of pairs, minus 1 FULL commit", median(net), TARGET_PERCENT, "%"),
    ]
    emit("overhead", figures, targets)


def steps_for(seconds: float, steps: int) -> int:
    """Return how many steps make a job long enough, judged by one that took ``seconds``."""
    wanted = 1.3 * SHORTEST_JOB_SECONDS
    return min(50, max(steps, round(steps * wanted / seconds)))


if __name__ == "__main__":
    main()
