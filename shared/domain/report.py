"""What a worker publishes about itself at start: the models it can run, the defaults and why."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

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
    has_cuda: bool = True
    """Unknown counts as there: without a CUDA device, jobs may be sent away."""
    models: tuple[ModelReport, ...]
    defaults: dict[JobKind, DefaultModel]


class SpaceReport(BaseModel):
    """Whether the configured Space would take a job now."""

    model_config = ConfigDict(frozen=True)

    available: bool
    reason: str
    until: AwareDatetime | None = None
    """When it is worth another try, such as the end of a quota's wait."""
    learned_at: AwareDatetime | None = None
    """When a worker learned this; several workers may know different things."""


class RemoteReport(BaseModel):
    """What a worker of the remote lane knows about the outside; published again whenever it changes."""

    model_config = ConfigDict(frozen=True)

    space: SpaceReport | None
    enhancer: str | None
    """Name of the language model, ``None`` without one."""
