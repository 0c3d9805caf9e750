"""What to give up, in which order, when the device runs out of memory; and what worked, for the next jobs like it.

What worked is not kept for ever: others may have left the card, so after some jobs or minutes one thing less is given
up again. If that does not get through, it costs one attempt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, NamedTuple

from shared.domain.precision import Precision, ResidencyKey
from shared.planner import Layout, Shape


class Relief(Enum):
    """One thing to give up; the value says it to the owner of the job."""

    TILED_DECODE = "the picture is decoded in tiles, which changes pixels slightly"
    ENCODERS_AWAY = "the text encoders leave the device while the picture is made"
    SMALLEST_PLAN = "nothing but this model stays on the device, its modulation as a table"


RETRY_SECONDS: Final = 600.0
RETRY_JOBS: Final = 20
"""How long, and for how many jobs, a shortage is taken for lasting."""

_CHEAPEST_FIRST: Final = (Relief.TILED_DECODE, Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN)
_LOSSLESS_FIRST: Final = (Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN, Relief.TILED_DECODE)


class JobShape(NamedTuple):
    """Jobs of equal shape need equal memory."""

    residency: ResidencyKey
    shape: Shape


@dataclass(frozen=True, slots=True)
class Rung:
    """How far a job has climbed: every relief up to here is in force."""

    reliefs: tuple[Relief, ...] = ()

    def apply_to(self, layout: Layout) -> Layout:
        """Return the layout with everything given up that it can express."""
        return replace(
            layout,
            tiled_decode=layout.tiled_decode or Relief.TILED_DECODE in self.reliefs,
            modulation_table=layout.modulation_table or Relief.SMALLEST_PLAN in self.reliefs,
        )


@dataclass(slots=True)
class _Memory:
    """Of the rung on which a shape got through: since when, and how many jobs started there."""

    rung: Rung
    since: float
    jobs: int = 0


class Ladder:
    """Remembers, per shape, the first rung on which a job got through; ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[JobShape, _Memory] = {}

    def first(self, job: JobShape) -> Rung:
        """Return where to start: where the last one got through, or one rung less when that is long ago."""
        known = self._known.get(job)
        if known is None:
            return Rung()
        if known.jobs < RETRY_JOBS and self._clock() - known.since < RETRY_SECONDS:
            known.jobs += 1
            return known.rung
        self._known[job] = _Memory(known.rung, self._clock())
        return Rung(known.rung.reliefs[:-1])

    def above(self, job: JobShape, rung: Rung) -> Rung | None:
        """Return the next rung, or ``None`` when there is nothing left to give up.

        Exact jobs give up what changes pixels last, the others what is cheapest first.
        """
        order = _LOSSLESS_FIRST if job.residency.precision is Precision.EXACT else _CHEAPEST_FIRST
        climbed = len(rung.reliefs)
        return Rung(order[: climbed + 1]) if climbed < len(order) else None

    def remember(self, job: JobShape, rung: Rung) -> None:
        """Note that a job of this shape got through on this rung."""
        known = self._known.get(job)
        if not rung.reliefs:
            self._known.pop(job, None)
        elif known is None or known.rung != rung:
            self._known[job] = _Memory(rung, self._clock())
