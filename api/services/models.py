"""What the worker can run, read from its row; the API itself knows no weights and no GPU."""

from __future__ import annotations

from shared.catalog import CATALOG, find_model
from shared.db.workers import WorkerRepository
from shared.domain.errors import CapabilityError, Unavailable
from shared.domain.job import Lane
from shared.domain.model import PipelineSpec
from shared.domain.params import JobKind
from shared.domain.precision import Precision
from shared.domain.report import ModelReport, WorkerReport
from shared.domain.step_cache import step_caches
from shared.schemas.models import CapabilitiesRead, EnhancerRead, GeneratorRead, ModelRead, ModelsRead

_RETRY_SECONDS = 5


class ModelService:
    """Chooses models for jobs, and lists them."""

    def __init__(self, workers: WorkerRepository) -> None:
        self._workers = workers

    def choose(self, kind: JobKind, model: str | None) -> tuple[PipelineSpec, tuple[str, ...]]:
        """Return the model for a job and warnings about it.

        Raises:
          UnknownModel: the catalog has no such model.
          Unavailable: none was named, and no worker has published its defaults yet.
        """
        report = self._report()
        if model is None:
            if report is None:
                trouble = self._workers.trouble(Lane.GPU)
                why = "No worker has started yet" if trouble is None else f"The GPU worker does not start ({trouble})"
                raise Unavailable(
                    f"{why}, so there is no default model. Name a model, or try again soon.",
                    retry_after_seconds=_RETRY_SECONDS,
                )
            return CATALOG[report.defaults[kind].model], ()
        spec = find_model(model)
        found = _model_report(spec, report)
        return spec, (found.reason,) if found and not found.available else ()

    def check_precision(self, spec: PipelineSpec, asked: Precision | None) -> Precision:
        """Return the precision of a job: the one asked for, else the worker's default for this model.

        Raises:
          CapabilityError: the worker cannot run the model at the precision asked for.
        """
        found = _model_report(spec, self._report())
        known = found.precision if found else None
        if asked is None:
            return known.default if known else Precision.EXACT
        if known and asked in known.refused:
            allowed = [precision for precision in Precision if precision not in known.refused]
            raise CapabilityError(known.refused[asked], field="precision", limit=[*map(str, allowed)])
        return asked

    def choose_following(self, model: str | None) -> tuple[PipelineSpec, tuple[str, ...]]:
        """Return the model for a job with a reference picture, and warnings about it; see ``choose``.

        Raises:
          UnknownModel, Unavailable: as ``choose``.
          CapabilityError: none was named, and the worker has none that follows a picture.
        """
        if model is not None:
            return self.choose(JobKind.GENERATE, model)
        following = [spec.model for spec in CATALOG.values() if spec.capabilities.ip_adapter is not None]
        report = self._report()
        here = {item.model for item in report.models if item.available and item.follows_reference} if report else set()
        for name in following:
            if name in here:
                return CATALOG[name], ()
        first = CATALOG[following[0]].downloads_for_references
        raise CapabilityError(
            f"reference: only {', '.join(following)} can follow a picture, and the worker has none of them with its "
            f"adapter. Run {' and '.join(f'`flux-image pull {name}`' for name in first)} on its machine.",
            field="reference",
        )

    def canonical(self, model: str | None) -> str | None:
        """Return a model's name in the catalog for any of its names.

        Raises:
          UnknownModel: the catalog has no such model.
        """
        return find_model(model).model if model is not None else None

    def list_models(self, generators: list[GeneratorRead], enhancer: EnhancerRead) -> ModelsRead:
        """Return the catalog with what the worker says about it, beside the generators that use it."""
        report = self._report()
        defaults = {kind: default.model for kind, default in report.defaults.items()} if report else {}
        return ModelsRead(
            models=[_read(spec, report, spec.model in defaults.values()) for spec in CATALOG.values()],
            generators=generators,
            enhancer=enhancer,
            defaults=defaults,
            default_reasons={kind: default.reason for kind, default in report.defaults.items()} if report else {},
            device=report.device if report else None,
            plan=report.plan if report else None,
            speed=report.speed if report else None,
            shortage=report.shortage if report else None,
        )

    def _report(self) -> WorkerReport | None:
        stored = self._workers.latest_report(Lane.GPU)
        return WorkerReport.model_validate(stored) if stored else None


def _model_report(spec: PipelineSpec, report: WorkerReport | None) -> ModelReport | None:
    return next((item for item in report.models if item.model == spec.model), None) if report else None


def _read(spec: PipelineSpec, report: WorkerReport | None, default: bool) -> ModelRead:
    found = _model_report(spec, report)
    known = found.precision if found else None
    return ModelRead(
        id=spec.model,
        kind=spec.kind,
        title=spec.title,
        repo_id=spec.repo_id,
        licence=spec.licence,
        licence_url=spec.licence_url,
        gated=spec.gated,
        demo=spec.is_demo,
        available=found.available if found else None,
        reason=found.reason if found else "no worker has reported yet",
        default=default,
        defaults={
            "num_inference_steps": spec.num_inference_steps,
            "guidance_scale": spec.guidance_scale,
            "width": spec.native_side,
            "height": spec.native_side,
            **_defaults_of_capabilities(spec),
        },
        limits={
            "max_num_inference_steps": spec.limits.max_num_inference_steps,
            "max_guidance_scale": spec.limits.max_guidance_scale,
            "min_side": spec.limits.min_side,
            "max_side": spec.limits.max_side,
            "max_pixels": spec.limits.max_pixels,
        },
        capabilities=CapabilitiesRead(
            negative_prompt=spec.capabilities.negative_prompt,
            samplers=list(spec.capabilities.samplers),
            image=spec.capabilities.strength is not None,
            reference=spec.capabilities.ip_adapter is not None,
            step_caches=list(step_caches(spec)),
        ),
        example_prompts=list(spec.example_prompts),
        precision=known.default if known else None,
        precision_reason=known.reason if known else "no worker has reported yet",
        refused_precisions=known.refused if known else {},
    )


def _defaults_of_capabilities(spec: PipelineSpec) -> dict[str, float]:
    adapter = spec.capabilities.ip_adapter
    wanted = {
        "strength": spec.capabilities.strength,
        "ip_adapter_scale": adapter.scale if adapter else None,
        "step_cache_threshold": spec.capabilities.step_cache_threshold,
    }
    return {name: value for name, value in wanted.items() if value is not None}
