"""From sizes and a budget to what stays on the card, what comes and what goes, with the reason in words.

Pure: equal arguments give equal plans, and nothing is asked of any device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.errors import CapabilityError
from shared.domain.precision import BEST_FIRST, Precision, ResidencyKey
from shared.planner.budget import Budget
from shared.planner.host import Transfer, master_bytes, pinned_masters, transfer_of
from shared.planner.layout import Layout, Shape, Sizes, layouts, sizes_of
from shared.planner.mix import ANY_JOBS, Mix
from shared.planner.moves import Moves, moves_of
from shared.planner.sizes import GIB
from shared.planner.specs import GpuSpec
from shared.planner.words import explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the card is for: models in order of need (the next job's first), and what is there already."""

    models: Sequence[str]
    precision: Precision
    resident: Sequence[ResidencyKey] = ()
    """What is on the card now, least recently used first."""
    shape: Shape = field(default_factory=Shape)
    mix: Mix = ANY_JOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyPlan:
    """The decision. ``keep`` and ``load`` together are what will be warm; sizes in bytes."""

    precision: Precision
    keep: tuple[ResidencyKey, ...]
    load: tuple[ResidencyKey, ...]
    evict: tuple[ResidencyKey, ...]
    transfers: tuple[Transfer, ...]
    """The wanted models that are brought in from host memory when their job comes; none on a CPU."""
    encoders: Transfer | None
    """What a new prompt costs where the encoders leave for a phase; else ``None``."""
    layout: Layout
    sizes: Sizes
    moves: Moves
    usable_bytes: int
    pinned_bytes: int
    reason: str

    @property
    def warm(self) -> tuple[ResidencyKey, ...]:
        """Everything that is on the card once the plan is carried out."""
        return (*self.keep, *self.load)

    @property
    def peak_bytes(self) -> int:
        """Bytes at the worst moment of a job."""
        return self.sizes.peak(self.layout, self.usable_bytes)


class DoesNotFit(CapabilityError):
    """Not even one model has room at this precision."""


def plan(specs: Mapping[str, GpuSpec], budget: Budget, wanted: Wanted) -> ResidencyPlan:
    """Decide what is resident: of the layouts that fit, the one for which a job of the mix waits for the fewest bytes.

    ``specs`` holds every model that is wanted or resident, by name (``model+adapter`` for one with an adapter).
    Wanted models have precedence in their order; resident ones that nobody wants stay while there is room, the
    most recently used first.

    Raises:
      DoesNotFit: the first wanted model has no room, however the card is laid out.
      CapabilityError: another precision than ``exact`` is wanted of a model that has no other.
      ValueError: nothing is wanted.
    """
    if not wanted.models:
        raise ValueError("a plan needs at least one wanted model")
    asked = _keys(wanted.models, wanted.precision)
    order = list(dict.fromkeys((*asked, *reversed(wanted.resident))))
    by_key = {key: specs[_spec_name(key)] for key in order}
    for key in asked:
        _require_form(key, by_key[key])
    layout, sizes, moves = _best_layout(order, by_key, budget, wanted)
    warm = order[: layout.warm]
    keep = tuple(key for key in wanted.resident if key in warm)
    pinned = frozenset() if budget.is_cpu else pinned_masters(order, by_key, budget)
    transfers = tuple(
        transfer_of(key, _own_bytes(key, by_key[key], layout), budget, key in pinned)
        for key in asked
        if key not in warm and not budget.is_cpu
    )
    return ResidencyPlan(
        precision=wanted.precision,
        keep=keep,
        load=tuple(key for key in warm if key not in keep),
        evict=tuple(key for key in wanted.resident if key not in warm),
        transfers=transfers,
        encoders=transfer_of(order[0], moves.new_prompt, budget, order[0] in pinned) if moves.new_prompt else None,
        layout=layout,
        sizes=sizes,
        moves=moves,
        usable_bytes=budget.usable_bytes,
        pinned_bytes=master_bytes(pinned, by_key),
        reason=explain(asked, warm, layout, moves, budget, ring=not pinned.issuperset(order)),
    )


def best_precision(specs: Mapping[str, GpuSpec], budget: Budget, models: Sequence[str]) -> Precision:
    """Return the best precision at which every one of ``models`` fits alone.

    Raises:
      CapabilityError: none does.
    """
    for precision in BEST_FIRST:
        try:
            for model in models:
                plan(specs, budget, Wanted(models=(model,), precision=precision))
        except CapabilityError as error:
            last = error
        else:
            return precision
    raise last


def _best_layout(
    order: Sequence[ResidencyKey], by_key: Mapping[ResidencyKey, GpuSpec], budget: Budget, wanted: Wanted
) -> tuple[Layout, Sizes, Moves]:
    choices = [
        (layout, sizes_of(order, by_key, layout, budget, wanted.shape))
        for layout in layouts(len(order), wanted.precision, budget)
    ]
    fitting = [
        (layout, sizes, _moves(order, by_key, layout, sizes, budget))
        for layout, sizes in choices
        if sizes.needed(layout) <= budget.usable_bytes
    ]
    if fitting:
        return min(fitting, key=lambda choice: (choice[0].tiled_in_vain, choice[2].per_job(wanted.mix)))
    smallest = min(sizes.needed(layout) for layout, sizes in choices)
    raise DoesNotFit(
        f"{order[0].model} at precision {wanted.precision} needs {smallest / GIB:.1f} GiB; "
        f"there are {budget.usable_bytes / GIB:.1f} GiB. {_remedy(wanted.precision, by_key[order[0]])}",
        field="precision",
        limit=budget.usable_bytes,
    )


def _moves(
    order: Sequence[ResidencyKey],
    by_key: Mapping[ResidencyKey, GpuSpec],
    layout: Layout,
    sizes: Sizes,
    budget: Budget,
) -> Moves:
    """Return what moves; a switch is to any of the other models, and brings those that are not warm."""
    if budget.is_cpu:
        return Moves()
    cold = sum(_own_bytes(key, by_key[key], layout) for key in order[layout.warm :])
    switch = cold // max(1, len(order) - 1)
    return moves_of(sizes, layout, budget.usable_bytes, switch, by_key[order[0]].modulation_at(order[0].precision))


def _require_form(key: ResidencyKey, spec: GpuSpec) -> None:
    if key.precision is not Precision.EXACT and not spec.has_quantized_forms:
        raise CapabilityError(
            f"precision is {key.precision}; {key.model} has no 8-bit and no 4-bit form here, only exact works.",
            field="precision",
            limit=Precision.EXACT.value,
        )


def _remedy(precision: Precision, spec: GpuSpec) -> str:
    lower = BEST_FIRST[BEST_FIRST.index(precision) + 1 :] if spec.has_quantized_forms else ()
    return f"Try precision {' or '.join(lower)}, or a smaller image." if lower else "Try a smaller image."


def _own_bytes(key: ResidencyKey, spec: GpuSpec, layout: Layout) -> int:
    return spec.own_bytes(key.precision, table=layout.modulation_table) + spec.adapter_bytes


def _keys(models: Iterable[str], precision: Precision) -> list[ResidencyKey]:
    return [ResidencyKey(model, precision, adapter or None) for model, _, adapter in (m.partition("+") for m in models)]


def _spec_name(key: ResidencyKey) -> str:
    return str(ResidencyKey(key.model, adapter=key.adapter))
