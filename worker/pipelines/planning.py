"""What the memory planner says about this machine: at which precision each model runs, and what is resident."""

from __future__ import annotations

import structlog

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError
from shared.domain.model import PipelineSpec
from shared.domain.precision import BEST_FIRST, Precision
from shared.domain.report import PlanReport, PrecisionReport
from shared.host_memory import available_bytes
from shared.planner import Budget, Shape, Wanted, gpu_specs, plan
from shared.planner.report import plan_report
from shared.settings import WorkerSettings
from worker.pipelines.device import Device

log = structlog.get_logger(__name__)

GPU_SPECS = gpu_specs(CATALOG.values())


def machine_budget(device: Device, link_gb_per_second: float | None, host_bytes: int | None = None) -> Budget:
    """Return what this machine offers; unset are the device's own link and what is free of the host's memory."""
    return Budget(
        gpu_bytes=device.total_bytes,
        host_bytes=host_bytes or available_bytes(),
        link_bytes_per_second=round((link_gb_per_second or device.link_gb_per_second) * 1e9),
        gpu_free_bytes=obtainable_bytes(device),
    )


def obtainable_bytes(device: Device, weights_bytes: int = 0) -> int | None:
    """Return what this process can have of a card, its ``weights_bytes`` there included; ``None`` on a CPU.

    That is what is free, and what torch holds without a tensor in it; what others have, and other tensors, is not.
    """
    return None if device.cuda is None else device.cuda.memory().obtainable + weights_bytes


def refusals(spec: PipelineSpec, budget: Budget, side: int | None = None) -> dict[Precision, str]:
    """Return, for each precision at which a model cannot make a square of ``side`` pixels here, why.

    Without ``side`` it is the model's smallest, so that what is refused is impossible.
    """
    shape = Shape((side or spec.limits.min_side) ** 2, (side or spec.limits.min_side) ** 2)
    return {precision: why for precision in Precision if (why := _refusal(spec, precision, budget, shape))}


def precision_report(
    spec: PipelineSpec, device: Device, settings: WorkerSettings, budget: Budget | None = None
) -> PrecisionReport:
    """Return the precision a job gets that names none, why, and why others are refused.

    ``budget`` unset is what this machine offers now. Where exact does not fit, it is left to diffusers' model offload,
    unless the settings forbid that.
    """
    budget = budget or machine_budget(device, settings.link_gb_per_second)
    refused = refusals(spec, budget)
    too_large = refusals(spec, budget, spec.native_side)
    possible = [precision for precision in BEST_FIRST if precision not in too_large]
    if not possible and device.is_cuda and settings.cpu_offload != "off":
        refused.pop(Precision.EXACT, None)
        reason = f"diffusers' model offload: {too_large[Precision.EXACT]}"
        return PrecisionReport(default=Precision.EXACT, reason=reason, refused=refused)
    best = possible[0] if possible else Precision.EXACT
    if settings.precision == "auto":
        return PrecisionReport(default=best, reason="the best that fits this device", refused=refused)
    wanted = Precision(settings.precision)
    if wanted in refused:
        reason = f"FLUX_PRECISION={wanted} is not possible: {refused[wanted]}"
        return PrecisionReport(default=best, reason=reason, refused=refused)
    return PrecisionReport(default=wanted, reason="FLUX_PRECISION is set", refused=refused)


def default_plan(
    models: list[str], precision: Precision, device: Device, settings: WorkerSettings
) -> PlanReport | None:
    """Return the plan for the default models, for the owner to read; ``None`` when there is none."""
    try:
        made = plan(
            GPU_SPECS,
            machine_budget(device, settings.link_gb_per_second),
            Wanted(models=models, precision=precision),
        )
    except CapabilityError as error:
        log.warning("no residency plan", action="plan", reason=error.message)
        return None
    log.info("residency plan", action="plan", reason=made.reason, warm=[str(key) for key in made.warm])
    return plan_report(made)


def _refusal(spec: PipelineSpec, precision: Precision, budget: Budget, shape: Shape) -> str | None:
    try:
        plan(GPU_SPECS, budget, Wanted(models=(spec.model,), precision=precision, shape=shape))
    except CapabilityError as error:
        return error.message
    return None
