"""Bytes that a job waits for, by the memory planner's own arithmetic: cards, picture sizes, mixes of jobs.

`python -m benchmarks.moves` prints the page that is committed as `docs/benchmarks/moves.md`. Nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shared.catalog import CATALOG
from shared.planner import (
    ALTERNATING,
    GIB,
    NEW_PROMPTS,
    PCIE_5_BYTES_PER_SECOND,
    SAME_MODEL,
    Budget,
    Mix,
    ResidencyPlan,
    Shape,
    Wanted,
    best_precision,
    gpu_specs,
    plan,
)

CARDS: Final = (16, 24, 31, 32, 48, 80)
"""GiB. A card sold with 32 reports 31 to 31.8 of them."""

SIDES: Final = {1: 1024, 2: 1440}
"""By megapixels, in pixels."""

MIXES: Final = {"same model": SAME_MODEL, "alternating models": ALTERNATING, "new prompt each time": NEW_PROMPTS}

BEFORE: Final = {
    (16, 1): (0.0, 8.7, 0.0), (16, 2): (0.0, 8.7, 0.0),
    (24, 1): (0.0, 17.2, 27.0), (24, 2): (0.0, 17.2, 27.0),
    (31, 1): (0.0, 17.2, 0.0), (31, 2): (0.0, 23.8, 27.0),
    (32, 1): (0.0, 17.2, 0.0), (32, 2): (0.0, 17.2, 0.0),
    (48, 1): (0.0, 0.0, 0.0), (48, 2): (0.0, 23.8, 0.0),
    (80, 1): (0.0, 0.0, 0.0), (80, 2): (0.0, 0.0, 0.0),
}  # fmt: skip
"""GB a job waited for at commit 93bc9a6, in the order of ``MIXES``: rows of jobs replayed on that commit's planner and
residency, with FLUX.1's real classes on torch's meta device (16 GiB: its planner alone)."""

_HEAD: Final = """# What a job waits for

Printed by `python -m benchmarks.moves`; a test holds this page to it. Pure arithmetic of the memory planner:
**nothing here was measured on a card.** GB that come from host memory for one job in a long row of like ones, before
(commit 93bc9a6) and now. FLUX.1 [schnell], alternating with [dev], one picture a job, no source picture, at the best
precision that fits. `same model`: one prompt, other seeds. `alternating models`: both prompts known. 10 GB are 0.2 s
at 50 GB/s (PCIe 5.0 x16), 0.4 s at 25 GB/s. Where the plan has a modulation table, a new prompt's table also lets the
modulation layers pass over the card, beside the job before where it is foreseen: last column.

A test replays the same rows of jobs through the worker's own placement, at FLUX.1's real widths. What leaves, leaves
in parts of 256 MiB or one block more, so a job moves up to 0.5 GB more than stands here.

| GiB free | megapixels | mix | GB before | GB now | precision | peak of usable GiB | how | GB beside |
|---|---|---|---|---|---|---|---|---|"""


def planned(gib: float, side: int, mix: Mix) -> ResidencyPlan:
    """Return the plan for a card with ``gib`` and square pictures; two models where the mix alternates them."""
    specs = gpu_specs(CATALOG.values())
    budget = Budget(gpu_bytes=round(gib * GIB), host_bytes=128 * GIB, link_bytes_per_second=PCIE_5_BYTES_PER_SECOND)
    models = ("schnell", "dev") if mix.switches else ("schnell",)
    precision = best_precision(specs, budget, models)
    shape = Shape(pixels=side * side, reference_pixels=0)
    return plan(specs, budget, Wanted(models=models, precision=precision, shape=shape, mix=mix))


def page() -> str:
    """Return the page."""
    return "\n".join((_HEAD, *_rows())) + "\n"


def _rows() -> Iterator[str]:
    for gib in CARDS:
        for megapixels, side in SIDES.items():
            for (name, mix), before in zip(MIXES.items(), BEFORE[gib, megapixels], strict=True):
                made = planned(gib, side, mix)
                cells = (
                    f"{gib}",
                    f"{megapixels}",
                    name,
                    f"{before:.1f}",
                    f"{made.moves.per_job(mix) / 1e9:.1f}",
                    made.precision.value,
                    f"{made.peak_bytes / GIB:.1f} of {made.usable_bytes / GIB:.1f}",
                    _how(made),
                    f"{made.moves.beside / 1e9:.1f}" if mix.new_prompts else "",
                )
                yield f"| {' | '.join(cells)} |"


def _how(made: ResidencyPlan) -> str:
    layout = made.layout
    parts = (
        f"{layout.warm} warm",
        "table" if layout.modulation_table else "",
        "tiles" if layout.tiled_decode else "",
        "" if layout.encoders_resident else "encoders leave in part",
    )
    return ", ".join(filter(None, parts))


if __name__ == "__main__":
    print(page(), end="")
