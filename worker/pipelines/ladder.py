"""What to give up, in which order, when the device runs out of memory; and what worked, for the next job like it."""

from __future__ import annotations

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


class Ladder:
    """Remembers, per shape, the first rung on which a job got through."""

    def __init__(self) -> None:
        self._known: dict[JobShape, Rung] = {}

    def first(self, job: JobShape) -> Rung:
        """Return where to start."""
        return self._known.get(job, Rung())

    def above(self, job: JobShape, rung: Rung) -> Rung | None:
        """Return the next rung, or ``None`` when there is nothing left to give up.

        Exact jobs give up what changes pixels last, the others what is cheapest first.
        """
        order = _LOSSLESS_FIRST if job.residency.precision is Precision.EXACT else _CHEAPEST_FIRST
        climbed = len(rung.reliefs)
        return Rung(order[: climbed + 1]) if climbed < len(order) else None

    def remember(self, job: JobShape, rung: Rung) -> None:
        """Note that a job of this shape got through on this rung."""
        if rung.reliefs:
            self._known[job] = rung
