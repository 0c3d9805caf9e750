"""The way of a job through the generators: a short list of legs, each run by one worker of one lane.

Most jobs have one leg. A leg that is not the last ends by handing the job over: its pictures are published and the
job waits again, in the lane of the next leg. The current leg decides the lane, so that the GPU never waits for a
network and the network's workers never hold the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.domain.params import BaseParams

Params = TypeVar("Params", bound=BaseParams)


class Lane(StrEnum):
    """Which kind of worker may claim a job."""

    GPU = "gpu"
    REMOTE = "remote"


class Generator(StrEnum):
    """Who does the work of one leg."""

    LOCAL = "local"
    """FLUX on this machine's card, or the demo model."""
    REMOTE = "remote"
    """A Hugging Face Space."""
    CONSISTENT = "consistent"
    """A reference picture keeps a character or a style, on this machine's card."""
    ENHANCER = "enhancer"
    """A language model that rewrites the prompt; makes no pictures."""


class GeneratorChoice(StrEnum):
    """What a caller may ask for; the last two use both sides."""

    AUTO = "auto"
    LOCAL = "local"
    REMOTE = "remote"
    CONSISTENT = "consistent"
    FALLBACK = "fallback"
    MERGE = "merge"


@dataclass(frozen=True, slots=True)
class Routing:
    """What a caller wishes about a job's way."""

    generator: GeneratorChoice = GeneratorChoice.AUTO
    enhance: bool = False
    enhance_instruction: bool = False
    """An edit's instruction is exact as it stands; it is rewritten only when this is asked for."""


LANES: Final[Mapping[Generator, Lane]] = {
    Generator.LOCAL: Lane.GPU,
    Generator.CONSISTENT: Lane.GPU,
    Generator.REMOTE: Lane.REMOTE,
    Generator.ENHANCER: Lane.REMOTE,
}


class Leg(BaseModel):
    """One generator's share of a job: pictures ``first`` to ``first + count - 1``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Generator
    model: str
    first: int = Field(default=0, ge=0)
    count: int = Field(default=0, ge=0)
    changes: dict[str, Any] = {}
    """Parameters in which this generator's model differs from the job's: its own defaults for what was left unset."""

    @property
    def lane(self) -> Lane:
        """The lane whose workers can run this leg."""
        return LANES[self.generator]

    @property
    def indices(self) -> range:
        """The pictures of this leg."""
        return range(self.first, self.first + self.count)

    def params(self, params: Params) -> Params:
        """Return the job's parameters as this leg's generator gets them: a request for its own pictures only."""
        share = {"seed": params.seed + self.first, "num_images": self.count}
        return params.model_copy(update={**self.changes, **share})


class Route(BaseModel):
    """All legs of a job and where it is on them. Frozen: each move returns a new route."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    legs: tuple[Leg, ...] = Field(min_length=1)
    reason: str = ""
    """Why these generators were chosen, in words."""
    alternatives: tuple[Leg, ...] = ()
    """One leg per side, as a pattern. Where they are given, a failed leg's pictures go to the other side, once."""
    position: int = Field(default=0, ge=0)
    """Legs before it are done; the one at it is current."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.position >= len(self.legs):
            raise ValueError(f"position {self.position} on a route of {len(self.legs)} legs")
        return self

    @property
    def current(self) -> Leg:
        """The leg that runs or is waited for."""
        return self.legs[self.position]

    @property
    def is_last(self) -> bool:
        """Whether the job is over when the current leg succeeds."""
        return self.position == len(self.legs) - 1

    @property
    def is_simple(self) -> bool:
        """Whether one generator makes everything and nothing goes before it."""
        return len(self.legs) == 1 and not self.alternatives

    @property
    def done(self) -> list[int]:
        """The pictures that finished legs have published."""
        return sorted(index for leg in self.legs[: self.position] for index in leg.indices)

    def advanced(self) -> Route:
        """Return the route with the next leg as the current one.

        Raises:
          ValueError: the current leg is the last.
        """
        return Route.model_validate({**dict(self), "position": self.position + 1})

    def diverted(self, finished: int) -> Route | None:
        """Return the route on which a job goes on although its current leg failed, or ``None`` where it cannot.

        Without an enhancement it just goes on. Pictures are left to the other side, once and where that was wished;
        ``finished`` ones of the current leg are kept. Every picture keeps its index, and with it its seed.
        """
        failed = self.current
        if failed.generator is Generator.ENHANCER:
            return self.advanced()
        other = next((leg for leg in self.alternatives if leg.generator is not failed.generator), None)
        if other is None or finished >= failed.count:
            return None
        kept = failed.model_copy(update={"count": finished})
        rest = other.model_copy(update={"first": failed.first + finished, "count": failed.count - finished})
        legs = (*self.legs[: self.position], kept, rest, *self.legs[self.position + 1 :])
        return Route(legs=legs, reason=self.reason, position=self.position + 1)


class Enhancement(BaseModel):
    """What was done to make more of a prompt, and by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str
    """A language model's name, or ``reference`` for a picture."""
    prompt: str | None = None
    """The rewritten prompt, which the generators get; ``None`` when a picture adds to the words instead."""
    ip_adapter_scale: float | None = None
    """The weight of the reference picture."""


def divert_warning(before: Route, after: Route, reason: str) -> str:
    """Return the sentence that tells a job's owner how the job goes on, and why."""
    if before.current.generator is Generator.ENHANCER:
        return f"the prompt was not enhanced: {reason}"
    return (
        f"generator {before.current.generator.value} gave up ({reason}); {after.current.generator.value} makes the rest"
    )


def simple_route(model: str, count: int, *, generator: Generator = Generator.LOCAL, reason: str = "") -> Route:
    """Return the route of a job that one generator makes alone."""
    return Route(legs=(Leg(generator=generator, model=model, count=count),), reason=reason)
