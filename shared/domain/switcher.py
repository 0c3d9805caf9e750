"""Which generator makes a job's pictures, and why. Pure: facts go in, a decision with its reason comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from shared.domain.errors import CapabilityError
from shared.domain.params import JobKind
from shared.domain.route import Generator, GeneratorChoice, Leg, Route

CONFIGURE_SPACE: Final = "set FLUX_REMOTE_SPACE to a Hugging Face Space (docs/generators.md)"


@dataclass(frozen=True, slots=True)
class Side:
    """Whether a generator could start now, and why (not), as the end of "because ..."."""

    available: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSide:
    """The configured Space. ``kinds`` is what it can do."""

    space: str
    model: str
    kinds: frozenset[JobKind]
    side: Side
    auto: bool = True
    """Whether ``auto`` may choose it; the owner's setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the generators when a job is submitted."""

    local: Side
    """A live GPU worker whose lane is not paused."""
    has_cuda: bool
    """Whether that worker has a CUDA device; without one it runs the demo model, which counts as local."""
    consistent: Side
    remote: RemoteSide | None
    """``None``: no Space is configured, so that no prompt can leave the house."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What of a request bears on the choice."""

    kind: JobKind
    choice: GeneratorChoice = GeneratorChoice.AUTO
    model: str | None = None
    num_images: int = 1
    has_reference: bool = False
    has_pictures: bool = False
    """Any upload at all, the reference included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome; ``sides`` are in the order in which they work (``fallback``: the second one only if need be)."""

    generator: GeneratorChoice
    sides: tuple[Generator, ...]
    reason: str

    def route(self, patterns: Mapping[Generator, Leg], num_images: int, *, enhancer: str | None = None) -> Route:
        """Return the legs: the enhancer first if one is named, then each side's share of the pictures.

        ``patterns`` holds a leg without pictures per side, with its model and its parameters.
        """
        sides = [patterns[side] for side in self.sides]
        shares = _halves(num_images) if self.generator is GeneratorChoice.MERGE else (range(num_images),)
        legs = [
            side.model_copy(update={"first": share.start, "count": len(share)})
            for side, share in zip(sides, shares, strict=False)
        ]
        if enhancer is not None:
            legs.insert(0, Leg(generator=Generator.ENHANCER, model=enhancer))
        return Route(legs=tuple(legs), reason=self.reason, alternatives=tuple(sides) if len(sides) > 1 else ())


class GeneratorSwitcher:
    """Decides by what the caller prefers, then by what the job needs, then by what is there."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def decide(self, wish: Wish) -> Decision:
        """Return who makes the pictures.

        A generator that is only away for now is no reason to refuse: the job waits for it, and the reason says so.

        Raises:
          CapabilityError: the preference cannot be met, now or later; says what to configure or to leave out.
        """
        match wish.choice:
            case GeneratorChoice.AUTO:
                return self._automatic(wish)
            case GeneratorChoice.LOCAL:
                return _one(Generator.LOCAL, _asked(wish.choice, self._facts.local))
            case GeneratorChoice.CONSISTENT:
                return self._consistent(wish)
            case GeneratorChoice.REMOTE:
                remote = self._require_remote(wish)
                return _one(Generator.REMOTE, f"{_asked(wish.choice, remote.side)} ({remote.space})")
            case GeneratorChoice.FALLBACK:
                return self._fallback(wish)
            case GeneratorChoice.MERGE:
                return self._merge(wish)

    def _automatic(self, wish: Wish) -> Decision:
        if wish.has_reference:
            return _one(Generator.CONSISTENT, "auto: a reference picture is given")
        why_not_local = self._why_not_local()
        if why_not_local is None:
            return _one(Generator.LOCAL, f"auto: {self._facts.local.reason}")
        remote = self._eligible_remote(wish)
        if isinstance(remote, str):
            return _one(Generator.LOCAL, f"auto: {why_not_local}, but {remote}")
        return _one(Generator.REMOTE, f"auto: {why_not_local}; the Space {remote.space} does it")

    def _why_not_local(self) -> str | None:
        if not self._facts.local.available:
            return self._facts.local.reason
        return None if self._facts.has_cuda else "this machine has no CUDA device"

    def _eligible_remote(self, wish: Wish) -> RemoteSide | str:
        """Return the Space, or what speaks against sending it a job that nobody asked to be sent away."""
        remote = self._facts.remote
        if remote is None:
            return "no Space is configured"
        if not remote.auto:
            return "FLUX_REMOTE_AUTO is off"
        if wish.has_pictures:
            return "uploaded pictures leave this machine only on request"
        if wish.model is not None:
            return f"model {wish.model} was asked for by name"
        if wish.kind not in remote.kinds:
            return f"the Space {remote.space} does no {wish.kind.value} jobs"
        return remote if remote.side.available else remote.side.reason

    def _consistent(self, wish: Wish) -> Decision:
        if wish.kind is not JobKind.GENERATE:
            _refuse(f"generator consistent makes new pictures; leave it out of {wish.kind.value} jobs.")
        if not wish.has_reference:
            _refuse("generator consistent needs a reference picture: send one as the form file `reference`.")
        return _one(Generator.CONSISTENT, _asked(wish.choice, self._facts.consistent))

    def _fallback(self, wish: Wish) -> Decision:
        remote = self._require_remote(wish)
        if not self._facts.local.available and remote.side.available:
            sides = (Generator.REMOTE, Generator.LOCAL)
            reason = f"fallback: {self._facts.local.reason}, so the Space {remote.space} goes first"
        else:
            sides = (Generator.LOCAL, Generator.REMOTE)
            reason = f"fallback: this machine first, the Space {remote.space} if that fails"
        return Decision(generator=GeneratorChoice.FALLBACK, sides=sides, reason=reason)

    def _merge(self, wish: Wish) -> Decision:
        remote = self._require_remote(wish)
        if wish.num_images < 2:
            _refuse("generator merge shares pictures out to both sides; ask for num_images of 2 or more.", limit=2)
        return Decision(
            generator=GeneratorChoice.MERGE,
            sides=(Generator.LOCAL, Generator.REMOTE),
            reason=f"merge: half here, half by the Space {remote.space}",
        )

    def _require_remote(self, wish: Wish) -> RemoteSide:
        remote, choice = self._facts.remote, wish.choice.value
        if remote is None:
            _refuse(f"generator {choice} needs a remote generator, and none is configured: {CONFIGURE_SPACE}.")
        if wish.has_reference:
            _refuse(f"generator {choice} cannot use a reference picture; that needs generator consistent.")
        if wish.kind not in remote.kinds:
            can = ", ".join(sorted(kind.value for kind in remote.kinds)) or "nothing yet"
            _refuse(f"generator {choice}: the Space {remote.space} does {can}, not {wish.kind.value}.")
        if wish.choice is GeneratorChoice.REMOTE and wish.model not in (None, remote.model):
            _refuse(
                f"generator remote: the Space {remote.space} runs {remote.model}, not {wish.model}; leave model out.",
                field="model",
            )
        return remote


def _one(generator: Generator, reason: str) -> Decision:
    return Decision(generator=GeneratorChoice(generator.value), sides=(generator,), reason=reason)


def _halves(count: int) -> tuple[range, range]:
    """Return the first and the second half; the first is larger when they differ."""
    half = (count + 1) // 2
    return range(half), range(half, count)


def _asked(choice: GeneratorChoice, side: Side) -> str:
    asked = f"{choice.value} was asked for"
    return asked if side.available else f"{asked}; the job waits: {side.reason}"


def _refuse(message: str, *, field: str = "generator", **details: object) -> NoReturn:
    raise CapabilityError(message, field=field, **details)
