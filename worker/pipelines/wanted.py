"""What the settings ask for by name, checked without torch: the Celery parent does it, and imports no GPU stack."""

from __future__ import annotations

from typing import Final

from shared.catalog import find_model
from shared.domain.errors import CapabilityError, RequestError
from shared.domain.params import JobKind
from shared.domain.report import DefaultModel
from shared.settings import WorkerSettings

ATTENTION_BACKENDS: Final = (
    "flash",
    "flash_varlen",
    "_flash_3",
    "_flash_varlen_3",
    "flex",
    "native",
    "_native_cudnn",
    "_native_efficient",
    "_native_flash",
    "_native_math",
    "_native_npu",
    "_native_xla",
    "sage",
    "sage_varlen",
    "_sage_qk_int8_pv_fp8_cuda",
    "_sage_qk_int8_pv_fp8_cuda_sm90",
    "_sage_qk_int8_pv_fp16_cuda",
    "_sage_qk_int8_pv_fp16_triton",
    "xformers",
)
"""diffusers' names (``AttentionBackendName``, 0.42), without those whose code is downloaded; a test compares them."""


def check_settings(settings: WorkerSettings) -> None:
    """Return if every ``FLUX_..._MODEL`` setting names a model of its kind, and ``FLUX_ATTENTION`` a backend.

    Raises:
      UnknownModel, CapabilityError, RequestError: one does not.
    """
    check_attention_name(settings.attention)
    for kind, (variable, model) in wanted_models(settings).items():
        if model:
            chosen_default(kind, variable, model)


def check_attention_name(wanted: str) -> None:
    """Return if a value of ``FLUX_ATTENTION`` can be one anywhere.

    Raises:
      RequestError: diffusers knows no such backend, or it would download its code.
    """
    if wanted == "auto" or wanted in ATTENTION_BACKENDS:
        return
    if wanted.endswith("_hub"):
        problem = "downloads code when it is used, which this server never does"
    else:
        problem = "is not a backend that diffusers knows"
    raise RequestError(
        f"FLUX_ATTENTION={wanted}: it {problem}. Use auto or one of: {', '.join(ATTENTION_BACKENDS)}.",
        field="FLUX_ATTENTION",
    )


def wanted_models(settings: WorkerSettings) -> dict[JobKind, tuple[str, str | None]]:
    """Return, per kind of job, the setting for its default model and the model it names, if any."""
    return {
        JobKind.GENERATE: ("FLUX_MODEL", settings.model),
        JobKind.EDIT: ("FLUX_EDIT_MODEL", settings.edit_model),
        JobKind.FILL: ("FLUX_FILL_MODEL", settings.fill_model),
    }


def chosen_default(kind: JobKind, variable: str, model: str) -> DefaultModel:
    """Return the default model that a setting names.

    Raises:
      UnknownModel, CapabilityError: there is none of this name, or it does other jobs.
    """
    spec = find_model(model)
    if spec.kind is not kind:
        raise CapabilityError(
            f"{variable}={model}: this model does {spec.kind} jobs, not {kind}.", field=variable, kind=spec.kind.value
        )
    return DefaultModel(model=spec.model, reason=f"{variable} is set")
