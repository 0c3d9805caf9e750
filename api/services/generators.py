"""Who makes a job's pictures: the switcher decides, then every side gets its model and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from api.services.availability import Availability
from api.services.enhancing import plan_enhancement
from api.services.models import ModelService
from shared.catalog import CATALOG
from shared.domain.acceleration import StepCache
from shared.domain.capabilities import Resolved, resolve
from shared.domain.errors import CapabilityError
from shared.domain.model import PipelineSpec
from shared.domain.params import JobKind, JobParams
from shared.domain.route import Enhancement, Generator, GeneratorChoice, Leg, Route, Routing
from shared.domain.switcher import CONFIGURE_SPACE, Decision, GeneratorSwitcher, Side, Wish
from shared.schemas.models import EnhancerRead, GeneratorRead
from shared.settings import OutsideSettings

_COMMON: Final = ("width", "height", "seed", "num_images")
"""What both sides of a job must agree on, so that their pictures are of one set."""

_STEP_CACHE: Final = ("step_cache", "step_cache_threshold")
"""How this machine's card saves steps; a Space hears nothing of it."""

_FOLLOWING: Final = [spec.model for spec in CATALOG.values() if spec.capabilities.ip_adapter is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The part of a request that bears on its route; ``values`` holds only the parameters the caller set."""

    kind: JobKind
    model: str | None
    values: Mapping[str, Any]
    routing: Routing
    source_size: tuple[int, int] | None
    has_reference: bool
    has_pictures: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about a job that follows from who makes its pictures."""

    generator: GeneratorChoice
    model: str
    params: JobParams
    route: Route
    enhancement: Enhancement | None
    warnings: tuple[str, ...]


class GeneratorService:
    """Plans jobs."""

    def __init__(self, models: ModelService, availability: Availability, outside: OutsideSettings) -> None:
        self._models = models
        self._availability = availability
        self._outside = outside

    def plan(self, asked: Asked) -> Plan:
        """Decide who makes the pictures, resolve the parameters for each side, and lay out the legs.

        Raises:
          CapabilityError: the preference cannot be met, or a side cannot do what is asked.
          UnknownModel, RequestError: see ``shared.domain.capabilities``.
          Unavailable: this machine is to do it, and no worker has said yet which model is the default.
        """
        named = self._models.canonical(asked.model)
        decision = GeneratorSwitcher(self._availability.facts()).decide(
            Wish(
                kind=asked.kind,
                choice=asked.routing.generator,
                model=named,
                num_images=asked.values.get("num_images", 1),
                has_reference=asked.has_reference,
                has_pictures=asked.has_pictures,
            )
        )
        specs, notes = self._specs(decision, asked.kind, named)
        own = next((side for side in decision.sides if side is not Generator.REMOTE), Generator.REMOTE)
        asked = self._with_ways_of_card(asked, specs[own], own)
        resolved = _resolve(specs[own], asked)
        patterns, remarks = _patterns(specs, own, resolved, asked)
        enhancing = plan_enhancement(asked.kind, asked.routing, decision.generator, resolved.params, self._outside)
        return Plan(
            generator=decision.generator,
            model=specs[own].model,
            params=resolved.params,
            route=decision.route(patterns, resolved.params.num_images, enhancer=enhancing.model),
            enhancement=enhancing.made,
            warnings=(*notes, *resolved.warnings, *remarks, *enhancing.warnings),
        )

    def list_generators(self) -> list[GeneratorRead]:
        """Return each value of a request's ``generator`` with its state and what it does."""
        facts = self._availability.facts()
        local, remote = facts.local, facts.remote
        space = remote.side if remote else Side(False, f"no Space is configured: {CONFIGURE_SPACE}")
        kinds, models = (sorted(remote.kinds), [remote.model]) if remote else ([], [])
        either = local if local.available or not space.available else space
        both = space if local.available else local
        return [
            _read(GeneratorChoice.AUTO, either, list(JobKind), []),
            _read(GeneratorChoice.LOCAL, local, list(JobKind), list(CATALOG)),
            _read(GeneratorChoice.CONSISTENT, facts.consistent, [JobKind.GENERATE], _FOLLOWING),
            _read(GeneratorChoice.REMOTE, space, kinds, models),
            _read(GeneratorChoice.FALLBACK, either if remote else space, kinds, []),
            _read(GeneratorChoice.MERGE, both, kinds, []),
        ]

    def read_enhancer(self) -> EnhancerRead:
        """Return whether ``enhance`` works, and with which language model."""
        side = self._availability.enhancer()
        return EnhancerRead(available=side.available, reason=side.reason, model=self._outside.enhancer_name)

    def _with_ways_of_card(self, asked: Asked, spec: PipelineSpec, side: Generator) -> Asked:
        """Return the request with the precision that this machine's worker gives it; a Space has ways of its own.

        Raises:
          CapabilityError: the precision or step cache asked for is not to be had there.
        """
        if side is not Generator.REMOTE:
            precision = self._models.check_precision(spec, asked.values.get("precision"))
            return replace(asked, values={**asked.values, "precision": precision})
        for field in ("precision", *_STEP_CACHE):
            if asked.values.get(field) not in (None, StepCache.OFF):
                raise CapabilityError(f"{field}: it is about this machine's card; a Space has its own.", field=field)
        return _without_step_cache(asked)

    def _specs(
        self, decision: Decision, kind: JobKind, model: str | None
    ) -> tuple[dict[Generator, PipelineSpec], tuple[str, ...]]:
        specs: dict[Generator, PipelineSpec] = {}
        notes: tuple[str, ...] = ()
        if Generator.REMOTE in decision.sides and (space := self._outside.remote_spec):
            specs[Generator.REMOTE] = space
        if Generator.CONSISTENT in decision.sides:
            specs[Generator.CONSISTENT], notes = self._models.choose_following(model)
        if Generator.LOCAL in decision.sides:
            specs[Generator.LOCAL], notes = self._models.choose(kind, model)
        return specs, notes


def _read(choice: GeneratorChoice, side: Side, kinds: list[JobKind], models: list[str]) -> GeneratorRead:
    return GeneratorRead(id=choice, available=side.available, reason=side.reason, kinds=kinds, models=models)


def _resolve(spec: PipelineSpec, asked: Asked, **common: Any) -> Resolved:
    values = {**asked.values, **common}
    return resolve(spec, asked.kind, values, asked.source_size, has_reference=asked.has_reference)


def _patterns(
    specs: Mapping[Generator, PipelineSpec], own: Generator, resolved: Resolved, asked: Asked
) -> tuple[dict[Generator, Leg], tuple[str, ...]]:
    """Return a leg without pictures per side, and what the other side has to say about the parameters."""
    patterns = {own: Leg(generator=own, model=specs[own].model)}
    values = resolved.params.model_dump()
    remarks: tuple[str, ...] = ()
    for side in specs.keys() - {own}:
        other = _resolve(specs[side], _without_step_cache(asked), **{name: values[name] for name in _COMMON})
        changes = {name: value for name, value in other.params.model_dump().items() if value != values[name]}
        patterns[side] = Leg(generator=side, model=specs[side].model, changes=changes)
        remarks = tuple(f"{side.value}: {warning}" for warning in other.warnings)
        if resolved.params.step_cache is not None:
            remarks += (f"{side.value}: step_cache has no effect there",)
    return patterns, remarks


def _without_step_cache(asked: Asked) -> Asked:
    return replace(asked, values={name: value for name, value in asked.values.items() if name not in _STEP_CACHE})
