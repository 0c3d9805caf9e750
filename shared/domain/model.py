"""What there is to know about a model before it is loaded: its place, its class, its defaults and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shared.domain.adapter import IPAdapterSpec
from shared.domain.params import JobKind


class ModelFamily(StrEnum):
    """Models that are put together and called in one way."""

    FLUX = "flux"
    STABLE_DIFFUSION = "stable-diffusion"
    STABLE_DIFFUSION_XL = "stable-diffusion-xl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What a model accepts. Sides in pixels; ``max_pixels`` bounds width x height."""

    max_num_inference_steps: int = 50
    max_guidance_scale: float = 30.0
    min_side: int = 256
    max_side: int = 2048
    max_pixels: int = 2048 * 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapabilities:
    """What a job may ask of a model beside words and a size; what is unset here is refused."""

    negative_prompt: bool = False
    samplers: tuple[str, ...] = ()
    """Names a job may choose from, the default first; empty: the model comes with its one sampler."""
    strength: float | None = None
    """Default strength for an init picture; ``None``: the model takes none."""
    ip_adapter: IPAdapterSpec | None = None
    """What makes the model follow a reference picture; ``None``: it takes none."""
    step_cache_threshold: float | None = None
    """Default threshold of a first-block cache; ``None``: the model has too few steps for one."""


FLUX_FILES: tuple[str, ...] = (
    "model_index.json",
    "scheduler/*",
    "text_encoder/*",
    "text_encoder_2/*",
    "tokenizer/*",
    "tokenizer_2/*",
    "transformer/*",
    "vae/*",
)
"""What diffusers loads; the repositories also hold second copies in other layouts (24 GB each)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """One model: where its weights are, which diffusers class runs it, and how to call it well."""

    model: str
    kind: JobKind
    title: str
    pipeline_class: str
    repo_id: str | None
    """Hugging Face repository; ``None`` for weights that come with this project."""
    family: ModelFamily = ModelFamily.FLUX
    files: tuple[str, ...] = FLUX_FILES
    """Patterns of the files in the repository that are needed."""
    variant: str | None = None
    """Infix of the weight files' names (``fp16``) where a repository holds several precisions."""
    unused_components: tuple[str, ...] = ()
    """Parts named by the repository's index that are neither fetched nor loaded."""
    components_from: str
    """Name of the group that shares one pair of text encoders and one VAE."""
    licence: str
    gated: bool = False
    native_side: int
    num_inference_steps: int
    guidance_scale: float
    uses_guidance: bool
    max_sequence_length: int
    limits: ModelLimits = field(default_factory=ModelLimits)
    capabilities: ModelCapabilities = field(default_factory=ModelCapabilities)
    component_bytes: Mapping[str, int] = field(default_factory=dict)
    """Weights of each part in bytes at 16 bits per weight."""
    modulation_bytes: int = 0
    """The part of the transformer that acts on one token only: adaLN and the embedding it reads. A table of its
    outputs can replace it."""
    kept_bytes: Mapping[str, int] = field(default_factory=dict)
    """Of ``component_bytes``, what keeps its bits at every precision: what is in no list of layers, norms, biases.
    Empty for a model that runs in ``exact`` only."""
    scales_source_up: bool = False
    """Whether a source picture with fewer than ``native_side`` squared pixels is scaled up to about that many."""
    example_prompts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What `flux-image pull` calls it."""
        return self.model

    @property
    def downloads(self) -> dict[str, tuple[str, ...]]:
        """Per repository, the patterns of the files that are needed."""
        return {self.repo_id: self.files} if self.repo_id else {}

    @property
    def downloads_for_references(self) -> tuple[str, ...]:
        """What `flux-image pull` must fetch before the model can follow a reference picture; empty: it never can."""
        adapter = self.capabilities.ip_adapter
        return (self.name, adapter.name) if adapter else ()

    @property
    def has_quantized_forms(self) -> bool:
        """Whether the model also runs with 8 and 4 bits per weight."""
        return bool(self.kept_bytes)

    @property
    def is_demo(self) -> bool:
        """Whether this is the small model that comes with the project."""
        return self.repo_id is None

    @property
    def licence_url(self) -> str | None:
        """Where to read and accept the terms, or ``None`` for the demo family."""
        return f"https://huggingface.co/{self.repo_id}" if self.repo_id else None
