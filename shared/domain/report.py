"""What a worker publishes about itself at start: the models it can run, the defaults and why."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.domain.params import JobKind
from shared.domain.precision import Precision


class PrecisionReport(BaseModel):
    """At which precisions a model can run on this worker."""

    model_config = ConfigDict(frozen=True)

    default: Precision
    reason: str
    refused: dict[Precision, str]
    """Why the others are not possible."""


class TransferReport(BaseModel):
    """A model that is brought to the card when its job comes; ``seconds`` at the stated bandwidth, before overlap."""

    model_config = ConfigDict(frozen=True)

    residency: str
    bytes: int
    seconds: float
    pinned: bool


class PlanReport(BaseModel):
    """A residency plan as it is shown; sizes in bytes."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    warm: tuple[str, ...]
    transfers: tuple[TransferReport, ...]
    new_prompt: TransferReport | None
    """What a prompt that is not cached costs where encoders and model take turns."""
    tiled_decode: bool
    modulation_table: bool
    encoders_resident: bool
    peak_bytes: int
    usable_bytes: int
    pinned_bytes: int
    reason: str


class ChoiceReport(BaseModel):
    """What was chosen for this worker, and why."""

    model_config = ConfigDict(frozen=True)

    value: str
    reason: str


class LinkReport(BaseModel):
    """The rate from pinned host memory to the card that plans are made with, in 10^9 bytes per second, and why."""

    model_config = ConfigDict(frozen=True)

    gb_per_second: float
    reason: str


class SpeedReport(BaseModel):
    """How FLUX transformers run on this worker."""

    model_config = ConfigDict(frozen=True)

    compile: ChoiceReport
    """``on`` or ``off``."""
    attention: ChoiceReport
    """diffusers' name of the backend."""
    balanced: ChoiceReport | None = None
    """``fp8`` or ``int8``: how `balanced` weights of a denoiser are stored and multiplied."""
    link: LinkReport | None = None


class ModelReport(BaseModel):
    """Whether one model of the catalog can run on this worker."""

    model_config = ConfigDict(frozen=True)

    model: str
    available: bool
    reason: str
    """Why it is (not) available, in words an owner can act on."""
    precision: PrecisionReport | None = None
    follows_reference: bool = False
    """Whether the weights of its image-prompt adapter are here, too."""


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
    plan: PlanReport | None = None
    """What the default models get of the card; ``None`` when they cannot be planned for, the reason is in the log."""
    speed: SpeedReport | None = None
    shortage: str | None = None
    """What the host's memory lacks, such as pinned memory under WSL2, and what that means; ``None``: nothing."""

    def precision_of(self, model: str) -> Precision:
        """Return the precision of a job of this model that names none."""
        known = (report.precision for report in self.models if report.model == model)
        return next((precision.default for precision in known if precision), Precision.EXACT)


class LoadingReport(BaseModel):
    """How much of a model's weights has been read from the disk."""

    model_config = ConfigDict(frozen=True)

    model: str
    done_bytes: int
    total_bytes: int
    seconds_left: float | None
    """At the rate so far; ``None`` while there is none."""


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
