"""One job on the ladder: try, and when the device is out of memory, give up something and try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from shared.domain.errors import OutOfMemory
from shared.planner import ResidencyPlan
from worker.generators.interface import GenerationContext
from worker.pipelines.error_texts import is_out_of_memory
from worker.pipelines.ladder import JobShape, Ladder, Rung
from worker.pipelines.placement import Placement, Unmanaged
from worker.pipelines.store import PipelineStore

T = TypeVar("T")


class Climb:
    """Starts where the last job of this shape got through, and tells the context of everything it gives up."""

    def __init__(
        self,
        ladder: Ladder,
        job: JobShape,
        placement: Placement | Unmanaged,
        context: GenerationContext,
        store: PipelineStore,
    ) -> None:
        self.placement = placement
        self.context = context
        self._ladder = ladder
        self._job = job
        self._store = store
        self._climb_to(ladder.first(job), "a job of this size ran out of memory before")

    def until_it_fits(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, as soon as it gets through; it starts anew on every rung.

        Raises:
          OutOfMemory: it does not on the last one either.
        """
        while True:
            try:
                return work()
            except (RuntimeError, OutOfMemory) as error:
                if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                    raise
                message = f"{self._store.device.description} ran out of memory: {error}".splitlines()[0]
            # Outside the except block, so that the traceback no longer holds the tensors.
            self.placement.forget_tables()
            plan = self._store.after_shortage(self._job.residency, self._job.shape)
            rung = self._ladder.above(self._job, self._rung)
            if rung is None:
                shape = self._job.shape
                raise OutOfMemory(
                    f"{message} Everything was given up for it: {_words(self._rung)}.", pixels=shape.pixels
                )
            self._climb_to(rung, "out of memory", plan)

    def done(self) -> None:
        """Let the next job of this shape start where this one got through."""
        self._ladder.remember(self._job, self._rung)

    def _climb_to(self, rung: Rung, why: str, plan: ResidencyPlan | None = None) -> None:
        self._rung = rung
        self.placement.relieve(rung, plan)
        if isinstance(self.placement, Placement):
            self._store.begin(self._job.residency, self.placement)
        if rung.reliefs:
            self.context.warn(f"{why}: {_words(rung)}")
        for acceleration in self.placement.accelerations:
            self.context.on_acceleration(acceleration)


def on_a_clear_device(store: PipelineStore, work: Callable[[], T]) -> T:
    """Return what ``work`` returns, before there is anything to climb for; out of memory, everything else leaves.

    Raises:
      OutOfMemory: that does not help either.
    """
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    store.clear_device()
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = f"{store.device.description} ran out of memory with nothing else on it: {error}".splitlines()[0]
    raise OutOfMemory(message)


def _words(rung: Rung) -> str:
    return "; ".join(relief.value for relief in rung.reliefs)
