"""Which model a job gets that names none, and the reason in words."""

from __future__ import annotations

from shared.catalog import CATALOG, DEFAULT_DEMO_MODELS, DEFAULT_REAL_MODELS, find_model
from shared.domain.params import JobKind
from shared.domain.report import DefaultModel, SpeedReport, WorkerReport
from shared.settings import WorkerSettings
from worker.pipelines.device import Device
from worker.pipelines.planning import default_plan, precision_report
from worker.pipelines.wanted import chosen_default, wanted_models
from worker.pipelines.weights import Weights


def worker_report(
    settings: WorkerSettings,
    device: Device,
    weights: Weights,
    speed: SpeedReport | None = None,
    shortage: str | None = None,
) -> WorkerReport:
    """Return what this worker can run, to be published at its start.

    Raises:
      UnknownModel, CapabilityError: a ``FLUX_..._MODEL`` setting names a model that does not fit.
    """
    defaults = default_models(settings, device, weights)
    models = tuple(
        weights.report(spec).model_copy(update={"precision": precision_report(spec, device, settings)})
        for spec in CATALOG.values()
    )
    precision = precision_report(find_model(defaults[JobKind.GENERATE].model), device, settings).default
    return WorkerReport(
        device=device.description,
        has_cuda=device.is_cuda,
        models=models,
        defaults=defaults,
        plan=default_plan([default.model for default in defaults.values()], precision, device, settings),
        speed=speed,
        shortage=shortage,
    )


def default_models(settings: WorkerSettings, device: Device, weights: Weights) -> dict[JobKind, DefaultModel]:
    """Return the default per kind: the setting, else FLUX if it can run here, else the demo model."""
    return {
        kind: chosen_default(kind, variable, model) if model else _automatic(kind, device, weights)
        for kind, (variable, model) in wanted_models(settings).items()
    }


def _automatic(kind: JobKind, device: Device, weights: Weights) -> DefaultModel:
    real, demo = DEFAULT_REAL_MODELS[kind], DEFAULT_DEMO_MODELS[kind]
    if not device.is_cuda:
        return DefaultModel(model=demo, reason="demo model: this machine has no CUDA device")
    report = weights.report(CATALOG[real])
    if not report.available:
        return DefaultModel(model=demo, reason=f"demo model: {report.reason}")
    return DefaultModel(model=real, reason=f"CUDA device and weights of {CATALOG[real].title} are here")
