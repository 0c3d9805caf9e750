"""What a worker publishes about itself at start: the models it can run, the defaults and why."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from shared.domain.params import JobKind


class ModelReport(BaseModel):
    """Whether one model of the catalog can run on this worker."""

    model_config = ConfigDict(frozen=True)

    model: str
    available: bool
    reason: str
    """Why it is (not) available, in words an owner can act on."""


class DefaultModel(BaseModel):
    """The model a job of a kind gets when it names none."""

    model_config = ConfigDict(frozen=True)

    model: str
    reason: str


class WorkerReport(BaseModel):
    """Published once per worker start, stored in the worker's row, shown by ``GET /api/models``."""

    model_config = ConfigDict(frozen=True)

    device: str
    models: tuple[ModelReport, ...]
    defaults: dict[JobKind, DefaultModel]
