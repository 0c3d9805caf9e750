"""A plan as it is published and printed."""

from __future__ import annotations

from shared.domain.report import PlanReport, TransferReport
from shared.planner.host import Transfer
from shared.planner.residency import ResidencyPlan


def plan_report(made: ResidencyPlan) -> PlanReport:
    """Return the wire form of a plan."""
    return PlanReport(
        precision=made.precision,
        warm=tuple(map(str, made.warm)),
        transfers=tuple(map(_transfer, made.transfers)),
        new_prompt=_transfer(made.encoders) if made.encoders else None,
        tiled_decode=made.layout.tiled_decode,
        modulation_table=made.layout.modulation_table,
        encoders_resident=made.layout.encoders_resident,
        peak_bytes=made.peak_bytes,
        usable_bytes=made.usable_bytes,
        pinned_bytes=made.pinned_bytes,
        reason=made.reason,
    )


def _transfer(transfer: Transfer) -> TransferReport:
    return TransferReport(
        residency=str(transfer.key), bytes=transfer.bytes, seconds=transfer.seconds, pinned=transfer.pinned
    )
