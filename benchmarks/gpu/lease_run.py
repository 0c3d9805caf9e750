"""Parts one after the other within a time, each stopped at its own limit, and the result on disk after each."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from benchmarks.figures import Figures
from benchmarks.gpu.family import Subject
from benchmarks.gpu.lease_parts import Part, Skipped
from benchmarks.gpu.time_limit import TimeIsUp, time_limit
from benchmarks.report import say

_END_SECONDS: Final = 5.0
"""For freeing memory and writing after a part that used up its time."""

_BAD: Final = ("failed", "over its time")


class LeaseRun:
    """``told`` says when, where and with what; ``result`` always holds whole JSON."""

    def __init__(self, subject: Subject, result: Path, seconds: float, told: Figures) -> None:
        self._subject = subject
        self._result = result
        self._seconds = seconds
        self._told = told
        self._began = time.monotonic()
        self._parts: dict[str, Figures] = {}

    def run(self, parts: Sequence[Part]) -> bool:
        """Measure what there is time for; return whether nothing failed or was stopped.

        Should a part not even let itself be stopped (a kernel that hangs), the process ends with code 3.
        """
        backstop = threading.Timer(self._seconds + 2 * _END_SECONDS, os._exit, (3,))
        backstop.daemon = True
        backstop.start()
        for part in parts:
            limit, started = min(part.seconds, self._left()), time.monotonic()
            say(f"--- {part.name}, at most {limit:.0f} s")
            self._note(part, {"state": "running", "limit_seconds": round(limit, 1)})
            outcome = self._outcome(part, limit)
            self._note(part, {**outcome, "seconds": round(time.monotonic() - started, 1)})
            say(f"{part.name}: {outcome['state']} {outcome.get('reason', '')}")
            _free_memory()
        backstop.cancel()
        return not any(part["state"] in _BAD for part in self._parts.values())

    @property
    def whole(self) -> Figures:
        """Everything that is known so far."""
        return {
            "benchmark": "gpu.lease",
            "device": self._subject.device.description,
            "seconds": round(time.monotonic() - self._began, 1),
            "parts": self._parts,
            **self._told,
        }

    def _outcome(self, part: Part, limit: float) -> Figures:
        if limit <= 0:
            return {"state": "skipped", "reason": "the parts before it took all the time"}
        try:
            with time_limit(limit):
                figures, targets = part.measure(self._subject, limit)
        except Skipped as reason:
            return {"state": "skipped", "reason": str(reason)}
        except TimeIsUp:
            return {"state": "over its time", "reason": f"stopped after {limit:.0f} s"}
        except Exception as error:  # noqa: BLE001  # what one part cannot do, the next may; the result says what happened
            traceback.print_exc()
            return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}
        return {"state": "measured", "figures": figures, "targets": [target.as_json() for target in targets]}

    def _left(self) -> float:
        return self._seconds - _END_SECONDS - (time.monotonic() - self._began)

    def _note(self, part: Part, outcome: Figures) -> None:
        self._parts[part.name] = outcome
        new = self._result.with_name(f"{self._result.name}.new")
        new.write_text(json.dumps(self.whole, indent=2) + "\n")
        new.replace(self._result)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
