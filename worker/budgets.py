"""How long each part of a run may take, and which steps are slow by what is usual for such a job."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from shared.domain.job import Job
from shared.domain.status import Phase
from worker.watchdog import Watch, Watchdog

_REMEMBERED_STEPS: Final = 64
_REMEMBERED_SIZES: Final = 64
_FEWEST_STEPS: Final = 4
"""A median of fewer steps says nothing."""

_HUNG_FACTOR: Final = 10.0
_SLOW_FACTOR: Final = 5.0
_SLOW_SECONDS: Final = 1.0
"""Shorter steps are never called slow: on a busy machine they vary by nature."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds without progress after which a part counts as hung."""

    load_seconds: float = 600.0
    first_step_seconds: float = 300.0
    """The first step of an image: it may compile."""
    step_seconds: float = 60.0
    """Any later step, times the number of images; 10 x the median step where that is more."""
    phase_seconds: float = 120.0
    """Encoding the prompt, decoding, times the number of images; saving one picture."""


StepKind = tuple[str, int, int]
"""Model, width and height in pixels: what a step's duration depends on."""


class StepTimes:
    """Durations in seconds of the latest steps, for each kind of step that was seen lately."""

    def __init__(self) -> None:
        self._times: OrderedDict[StepKind, deque[float]] = OrderedDict()

    def add(self, kind: StepKind, seconds: float) -> None:
        """Remember one step."""
        self._times.setdefault(kind, deque(maxlen=_REMEMBERED_STEPS)).append(seconds)
        self._times.move_to_end(kind)
        if len(self._times) > _REMEMBERED_SIZES:
            self._times.popitem(last=False)

    def median(self, kind: StepKind) -> float | None:
        """Return what is usual, or ``None`` while too little is known."""
        times = self._times.get(kind, ())
        return statistics.median(times) if len(times) >= _FEWEST_STEPS else None


class RunWatch:
    """Gives each phase and step of one run its budget."""

    def __init__(self, watchdog: Watchdog, watch: Watch, budgets: Budgets, times: StepTimes, job: Job) -> None:
        self._watchdog = watchdog
        self._watch = watch
        self._budgets = budgets
        self._times = times
        leg = job.route.current
        self._kind: StepKind = (leg.model, job.params.width, job.params.height)
        self._num_images = max(leg.count, 1)
        self._last_step_at: float | None = None

    def on_phase(self, phase: Phase) -> None:
        """A phase begins."""
        self._last_step_at = None
        seconds = {Phase.LOADING: self._budgets.load_seconds, Phase.DENOISING: self._budgets.first_step_seconds}
        self._watch.expect(phase.value, seconds.get(phase, self._budgets.phase_seconds * self._num_images))

    def on_step(self) -> str | None:
        """A denoising step is done; return a sentence if it was far slower than usual."""
        now = time.monotonic()
        usual = self._times.median(self._kind)
        took = None if self._last_step_at is None else now - self._last_step_at
        self._last_step_at = now
        if took is not None:
            self._times.add(self._kind, took)
        budget = max(self._budgets.step_seconds, _HUNG_FACTOR * (usual or 0.0))
        self._watch.expect(Phase.DENOISING.value, budget * self._num_images)
        if took is None or usual is None or took < max(_SLOW_SECONDS, _SLOW_FACTOR * usual):
            return None
        return f"a denoising step took {took:.1f} s; {usual:.2g} s is usual for this model and size"

    def on_wait(self) -> None:
        """Another server has the work; this process only has to keep asking, and steps there say nothing of here."""
        self._last_step_at = None
        self._watch.expect("waiting for another server", self._budgets.phase_seconds)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """One picture is encoded and written, beside whatever else the run does."""
        with self._watchdog.watch(self._watch.claim) as watch:
            watch.expect(Phase.SAVING.value, self._budgets.phase_seconds)
            yield

    def rest(self) -> None:
        """What follows waits for others, who have budgets of their own."""
        self._watch.rest()
