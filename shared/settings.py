"""Every setting, read once per process from the environment (and ``.env``), frozen, with its unit in its name.

One class per owner. The README's table is checked against these classes by a test.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.domain.precision import PrecisionSetting

_LONGEST_SOCKET_PATH: Final = 100
"""Linux takes 107 bytes; Redis clients add none, but leave room."""


def default_data_dir() -> Path:
    """Return ``~/.local/share/flux-image``, the place for everything this server keeps."""
    return Path.home() / ".local" / "share" / "flux-image"


class CoreSettings(BaseSettings):
    """What every process needs: where the truth is and how to ring."""

    model_config = SettingsConfigDict(
        env_prefix="FLUX_",
        env_file=".env",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    data_dir: Path = Field(
        default_factory=default_data_dir, description="directory of the database, pictures, logs and locks"
    )
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; unset: SQLite in the data directory")
    redis_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="broker; unset: `flux-image up` starts an embedded Valkey",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe log line that is written"
    )
    log_json: bool = Field(default=False, description="one JSON object per log line, for machines")

    @property
    def media_dir(self) -> Path:
        """Directory of all pictures."""
        return self.data_dir / "media"

    @property
    def run_dir(self) -> Path:
        """Directory of locks, sockets and pid files."""
        return self.data_dir / "run"

    @property
    def gpu_lock_path(self) -> Path:
        """The file whose lock the one process holds that owns the GPU."""
        return self.run_dir / "gpu.lock"

    @property
    def embedded_broker_socket(self) -> Path:
        """Unix socket of the embedded broker; in the temp directory when the data directory's path is too long."""
        wanted = self.run_dir.absolute() / "valkey.sock"
        if len(str(wanted)) <= _LONGEST_SOCKET_PATH:
            return wanted
        digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"flux-image-{os.getuid()}-{digest}" / "valkey.sock"

    @property
    def resolved_database_url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir / 'flux-image.db'}"

    @property
    def resolved_redis_url(self) -> str:
        """The broker URL in force: the one given, else the embedded broker's socket."""
        return self.redis_url or f"unix://{self.embedded_broker_socket}"


class ApiSettings(CoreSettings):
    """The HTTP front."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("http://localhost:5173", "http://127.0.0.1:5173"),
        description="origins (comma-separated) whose pages may call the API",
    )
    max_upload_bytes: int = Field(
        default=32 * 2**20, gt=0, description="largest request body in bytes, uploads included"
    )
    max_image_pixels: int = Field(default=40_000_000, gt=0, description="largest upload in pixels")
    max_queued_jobs: int = Field(default=10_000, gt=0, description="waiting jobs before submits get 429")
    max_wait_seconds: float = Field(default=600.0, gt=0, description="longest time one request may wait for its job")
    reconcile_interval_seconds: float = Field(
        default=5.0, gt=0, description="pause between two rounds of rescue and re-ringing"
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class WorkerSettings(CoreSettings):
    """The process that owns the GPU."""

    model: str | None = Field(
        default=None, description="default model for generate jobs; unset: FLUX if it can run here, else demo"
    )
    edit_model: str | None = Field(default=None, description="default model for edit jobs")
    fill_model: str | None = Field(default=None, description="default model for fill jobs")
    device: Literal["auto", "cuda", "cpu"] = Field(default="auto", description="where the models run")
    cpu_offload: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="diffusers' enable_model_cpu_offload(); auto: only where not even one model fits the card",
    )
    precision: PrecisionSetting = Field(
        default="auto",
        description="precision of jobs that name none: exact, balanced or compact; auto: the best that fits",
    )
    link_gb_per_second: float = Field(
        default=25.0,
        gt=0,
        description="pinned host memory to card, for the planner's switch costs; 50 for PCIe 5.0 x16",
    )
    prompt_cache_bytes: int = Field(
        default=512 * 2**20,
        ge=0,
        description="host memory for prompt embeddings; a prompt of FLUX.1 takes up to 4.2 MB",
    )
    warm_models: bool = Field(default=True, description="load the default generate and edit models at start")
    max_attempts: int = Field(
        default=3, ge=1, description="tries of a job whose error may go away; crashes are counted apart"
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, description="a running job whose worker is silent for so long is rescued"
    )
    heartbeat_seconds: float = Field(default=5.0, gt=0, description="pause between two signs of life")
    shutdown_grace_seconds: float = Field(
        default=0.0, ge=0, description="at SIGTERM the running job may end within so long; 0: it is handed back at once"
    )
    load_budget_seconds: float = Field(
        default=600.0, gt=0, description="a worker that loads a model for longer counts as hung and is restarted"
    )
    first_step_budget_seconds: float = Field(
        default=300.0, gt=0, description="the same for the first denoising step of an image, which may compile"
    )
    step_budget_seconds: float = Field(
        default=60.0, gt=0, description="the same for later steps (or 10 x the usual step), times the number of images"
    )
    phase_budget_seconds: float = Field(
        default=120.0,
        gt=0,
        description="the same for encoding and decoding, times the number of images, and for saving one",
    )


class HubSettings(CoreSettings):
    """Access to gated weights; only `flux-image pull` uses it, the worker never downloads."""

    hf_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN", "hf_token"),
        description="Hugging Face token for gated weights",
    )


class HostSettings(CoreSettings):
    """`flux-image up`: the whole stack on one machine."""

    host: str = Field(default="127.0.0.1", description="address the API listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port of the API; 0: any free one")
    flower_port: int = Field(default=5555, ge=0, le=65535, description="port of Flower on loopback; 0: any free one")
