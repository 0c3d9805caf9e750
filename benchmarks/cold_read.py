"""Weights from a cold disk into host memory: page by page, as they are mapped, against read ahead by threads.

``python -m benchmarks.cold_read FILE...``: safetensors files of some gigabytes. In each round the page cache forgets
them (``posix_fadvise``; a virtual machine's host may remember), they are mapped as diffusers does it, and every tensor
is copied once. The second way reads them ahead first, as the loader does.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from benchmarks.figures import Figures, summary
from benchmarks.report import emit, say
from worker.pipelines.weight_reader import WeightReader

_GIGABYTE: Final = 1e9


def forget(files: Sequence[Path]) -> None:
    """Have the page cache drop these files; what is not on the disk yet is written first."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_all(files: Sequence[Path], target: torch.Tensor) -> None:
    """Copy every tensor off its mapping, one after another, into ``target``, which is large enough for each."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                data = file.get_tensor(name).contiguous().view(-1).view(torch.uint8)
                target[: data.nbytes].copy_(data)


def timed(work: Callable[[], None]) -> float:
    """Return the seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure in alternating rounds and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = [path.resolve() for path in options.files]
    size = sum(path.stat().st_size for path in files)
    target = torch.ones(max(path.stat().st_size for path in files), dtype=torch.uint8)
    reader = WeightReader()

    def read_ahead() -> None:
        reader.read("weights", files)

    mapped, ahead, cached = [], [], []
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds} ...")
        forget(files)
        mapped.append(timed(lambda: copy_all(files, target)))
        forget(files)
        ahead.append(timed(read_ahead) + timed(lambda: copy_all(files, target)))
        cached.append(timed(read_ahead))
    figures: Figures = {
        "bytes": size,
        "mapped_seconds": summary(mapped),
        "read_ahead_seconds": summary(ahead),
        "read_ahead_again_seconds": summary(cached),
        "mapped_gb_per_second": round(size / _GIGABYTE / min(mapped), 3),
        "read_ahead_gb_per_second": round(size / _GIGABYTE / min(ahead), 3),
    }
    emit("cold_read", figures, [], weights=f"{len(files)} safetensors files")


if __name__ == "__main__":
    main()
