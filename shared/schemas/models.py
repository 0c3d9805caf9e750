"""The catalog, the generators and what they can do, as they go over the wire."""

from __future__ import annotations

from pydantic import BaseModel

from shared.domain.acceleration import StepCache
from shared.domain.params import JobKind
from shared.domain.precision import Precision
from shared.domain.report import PlanReport, SpeedReport
from shared.domain.route import GeneratorChoice


class CapabilitiesRead(BaseModel):
    """What a job may ask of a model beside words and a size."""

    negative_prompt: bool
    samplers: list[str]
    image: bool
    reference: bool
    step_caches: list[StepCache]


class ModelRead(BaseModel):
    """One model of the catalog and whether the worker can run it."""

    id: str
    kind: JobKind
    title: str
    repo_id: str | None
    licence: str
    licence_url: str | None
    gated: bool
    demo: bool
    available: bool | None
    reason: str
    default: bool
    defaults: dict[str, float]
    limits: dict[str, float]
    capabilities: CapabilitiesRead
    example_prompts: list[str]
    precision: Precision | None
    precision_reason: str
    refused_precisions: dict[Precision, str]


class GeneratorRead(BaseModel):
    """One value of a request's ``generator``: whether it could start a job now, why (not), and what it does."""

    id: GeneratorChoice
    available: bool
    reason: str
    kinds: list[JobKind]
    models: list[str]


class EnhancerRead(BaseModel):
    """What ``enhance: true`` uses."""

    available: bool
    reason: str
    model: str | None


class ModelsRead(BaseModel):
    """The catalog, the defaults per kind and why they were chosen; the generators, and the prompt enhancer."""

    models: list[ModelRead]
    generators: list[GeneratorRead]
    enhancer: EnhancerRead
    defaults: dict[JobKind, str]
    default_reasons: dict[JobKind, str]
    device: str | None
    plan: PlanReport | None
    speed: SpeedReport | None
    shortage: str | None = None
    """What the host's memory lacks, and what that means for switches; ``None``: nothing that is known."""
