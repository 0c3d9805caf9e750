"""The reason of a plan, in words for the owner of the machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from shared.domain.precision import Precision, ResidencyKey
from shared.planner.budget import Budget
from shared.planner.layout import Layout
from shared.planner.moves import Moves

_FORMATS: Final[Mapping[Precision, str]] = MappingProxyType(
    {
        Precision.EXACT: "the weights as published",
        Precision.BALANCED: "8-bit weights",
        Precision.COMPACT: "4-bit weights",
    }
)

_GB: Final = 1e9

_LEFT_OUT: Final = {
    True: "the rest passes through a pinned ring",
    False: "a model that was left out is read and quantized again when its job comes",
}
"""What happens to models for whose masters there is no room, by whether they are exact."""


def explain(
    asked: Sequence[ResidencyKey],
    warm: Collection[ResidencyKey],
    layout: Layout,
    moves: Moves,
    budget: Budget,
    *,
    ring: bool,
) -> str:
    """Return the plan's decisions, each as a clause."""
    fitting = sum(key in warm for key in asked)
    precision = asked[0].precision
    clauses = [
        f"{precision}: {_FORMATS[precision]}",
        "every model stays warm" if fitting == len(asked) else f"{fitting} of {len(asked)} models fit at once",
    ]
    if budget.is_cpu:
        return "; ".join((*clauses, "no card: everything is computed in host memory, in 32 bits"))
    if layout.modulation_table:
        clauses.append("a table per job replaces the modulation layers, to make room")
    if layout.tiled_decode:
        clauses.append("pictures are decoded in tiles, to make room; that changes pixels slightly")
    if not layout.encoders_resident:
        clauses.append(_turns(moves))
    if ring:
        clauses.append(f"masters fill 75 % of the host's memory, {_LEFT_OUT[precision is Precision.EXACT]}")
    return "; ".join(clauses)


def _turns(moves: Moves) -> str:
    """Return who leaves for whom, and what that costs."""
    price = f"a prompt that is not cached brings {moves.new_prompt / _GB:.1f} GB back"
    if moves.model_after_decode:
        return f"no room for the whole model while a picture is decoded: {price}, every other job " + (
            f"{moves.model_after_decode / _GB:.1f} GB"
        )
    if moves.model_after_encoders:
        return f"text encoders and model take turns, in part: {price}"
    return f"text encoders leave in part while a picture is made: {price}"
