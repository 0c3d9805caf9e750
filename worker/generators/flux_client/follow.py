"""A Space's queue and progress in the words of ``GenerationContext``."""

from __future__ import annotations

from typing import Final

from gradio_client.utils import ProgressUnit, Status, StatusUpdate

from shared.domain.status import Phase
from worker.generators.interface import GenerationContext

_WORKING: Final = frozenset({Status.PROCESSING, Status.PROGRESS, Status.ITERATING, Status.LOG})


class Follower:
    """Passes on what one call's status says, something at every poll: each report also asks whether to go on."""

    def __init__(self, context: GenerationContext, total_steps: int) -> None:
        self._context = context
        self._total_steps = total_steps
        self._step: tuple[int, int] | None = None
        self._works = False

    def report(self, status: StatusUpdate, outputs: int) -> None:
        """Report the latest status; ``outputs`` previews have come so far, from a Space that sends some."""
        if status.code in _WORKING:
            self.works()
        step = None
        if status.progress_data:
            step = _steps(status.progress_data[-1], self._total_steps)
        elif outputs and status.code is Status.ITERATING:
            step = (min(outputs, self._total_steps), self._total_steps)
        if step is not None and step != self._step:
            self._step = step
            self._context.on_step(*step)
        elif self._works or status.rank is not None:
            self._context.on_queue(0 if self._works else status.rank or 0, status.eta)
        else:
            self._context.raise_if_cancelled()

    def works(self) -> None:
        """The Space is no longer waiting."""
        if not self._works:
            self._works = True
            self._context.on_phase(Phase.DENOISING)

    def finished(self) -> None:
        """The picture is made, perhaps before anybody looked; so all its steps are done."""
        self.works()
        total = self._step[1] if self._step else self._total_steps
        if self._step != (total, total):
            self._context.on_step(total, total)


def _steps(unit: ProgressUnit, total_steps: int) -> tuple[int, int] | None:
    """Return (step, total) of a progress bar: its own count or, of one that only knows a share, ours."""
    if unit.index and unit.length:
        return min(unit.index, unit.length), unit.length
    if unit.progress:
        return round(min(unit.progress, 1.0) * total_steps) or 1, total_steps
    return None
