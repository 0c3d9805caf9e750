"""`flux-image plan`: what would be resident on a card, what moves, what a switch costs, and why. Needs no GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.catalog import CATALOG, find_model
from shared.domain.errors import RequestError, UnknownModel
from shared.domain.params import JobKind
from shared.domain.precision import Precision, ResidencyKey
from shared.host_memory import available_bytes
from shared.planner import (
    ALTERNATING,
    ANY_JOBS,
    GIB,
    NEW_PROMPTS,
    SAME_MODEL,
    Budget,
    Mix,
    ResidencyPlan,
    Shape,
    Transfer,
    Wanted,
    best_precision,
    gpu_specs,
    plan,
)
from shared.planner.report import plan_report

EXIT_DOES_NOT_FIT: Final = 1
_GB: Final = 1e9
_MIXES: Final[Mapping[str, Mix]] = MappingProxyType(
    {"any": ANY_JOBS, "same": SAME_MODEL, "alternating": ALTERNATING, "new-prompts": NEW_PROMPTS}
)


def run_plan(
    models: str,
    *,
    gpu_gib: float,
    host_gib: float | None,
    precision: str,
    link_gb_per_second: float,
    as_json: bool,
    side: int = 1024,
    mix: str = "any",
) -> int:
    """Print a plan for comma-separated models and square pictures; return 1 when there is none, with the reason."""
    budget = Budget(
        gpu_bytes=round(gpu_gib * GIB) if gpu_gib else None,
        host_bytes=round(host_gib * GIB) if host_gib else available_bytes(),
        link_bytes_per_second=round(link_gb_per_second * _GB),
    )
    try:
        users = gpu_specs(CATALOG.values())
        names = tuple(dict.fromkeys(_user_name(name) for name in models.split(",")))
        chosen = best_precision(users, budget, names) if precision == "auto" else Precision(precision)
        shape = Shape(side * side, side * side if any(map(_reads_a_picture, names)) else 0)
        made = plan(users, budget, Wanted(models=names, precision=chosen, shape=shape, mix=_MIXES[mix]))
    except RequestError as error:
        print(json.dumps({"error": error.message}) if as_json else error.message, file=sys.stderr)
        return EXIT_DOES_NOT_FIT
    print(plan_report(made).model_dump_json() if as_json else to_text(made, budget))
    return 0


def _user_name(name: str) -> str:
    """Return a model of the catalog, ``model`` or ``model+adapter``, by the name the planner knows.

    Raises:
      UnknownModel: there is no such model, or no such adapter for it.
    """
    model, _, adapter = name.partition("+")
    spec = find_model(model)
    known = spec.capabilities.ip_adapter
    if not adapter:
        return spec.model
    if known is None or known.name != adapter.strip():
        there = f"it has {known.name}" if known else "it has none"
        raise UnknownModel(f"There is no adapter {adapter!r} for {spec.model}; {there}.", field="model")
    return f"{spec.model}+{known.name}"


def _reads_a_picture(user: str) -> bool:
    return CATALOG[user.partition("+")[0]].kind is not JobKind.GENERATE


def to_text(made: ResidencyPlan, budget: Budget) -> str:
    """Return the plan for people."""
    where = "host memory" if budget.gpu_bytes is None else f"{budget.gpu_bytes / GIB:g} GiB card"
    sizes = made.sizes
    lines = [
        f"{where}: {made.peak_bytes / GIB:.1f} of {made.usable_bytes / GIB:.1f} usable GiB at the worst moment",
        f"  warm       {', '.join(map(_name, made.warm))} ({(sizes.denoisers + sizes.adapters) / GIB:.1f} GiB)",
        f"  encoders   {sizes.encoders / GIB:.1f} GiB{'' if made.layout.encoders_resident else ', leave in part'}"
        f"; VAE {sizes.vaes / GIB:.1f}; tables {sizes.table / GIB:.1f}; working memory {sizes.encoding / GIB:.1f} to "
        f"encode, {sizes.denoising / GIB:.1f} to denoise, {sizes.decoding / GIB:.1f} to decode",
    ]
    lines += [f"  moves      {_transfer_text(transfer)}" for transfer in made.transfers]
    if made.encoders:
        lines.append(f"  new prompt {made.encoders.bytes / _GB:.1f} GB, about {made.encoders.seconds:.2f} s")
    if made.moves.beside:
        lines.append(f"  new table  {made.moves.beside / _GB:.1f} GB pass beside the job before, where it is foreseen")
    if budget.gpu_bytes is not None:
        rate = budget.link_bytes_per_second / _GB
        lines.append(f"  host       {made.pinned_bytes / GIB:.1f} GiB pinned; times at {rate:g} GB/s, not measured")
    return "\n".join((*lines, f"  why        {made.reason}"))


def _transfer_text(transfer: Transfer) -> str:
    waiting = "the ring" if transfer.key.precision is Precision.EXACT else "its files, quantized again first"
    source = "pinned memory" if transfer.pinned else waiting
    size, seconds = transfer.bytes / _GB, transfer.seconds
    return f"{_name(transfer.key)}: {size:.1f} GB from {source}, about {seconds:.2f} s before overlap"


def _name(key: ResidencyKey) -> str:
    return f"{key.model}+{key.adapter}" if key.adapter else key.model
