"""Every setting, read once per process from the environment (and ``.env``), frozen, with its unit in its name.

One class per owner. The README's table is checked against these classes by a test. Paths are read by
``shared.paths.user_path``; secrets are stripped, checked and never shown (``shared.secrets``).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.broker.urls import SCHEMES
from shared.catalog import find_model
from shared.domain.addresses import clean_host
from shared.domain.errors import UnknownModel
from shared.domain.job import MISSED_HEARTBEATS
from shared.domain.model import PipelineSpec
from shared.domain.precision import PrecisionSetting
from shared.domain.space import check_space
from shared.paths import absolute_sqlite_url, socket_url, sqlite_url, user_path
from shared.secrets import SecretToken, SecretUrl, public_url
from shared.web_addresses import check_allowed_host, check_root_path, clean_origin

_LONGEST_SOCKET_PATH: Final = 107
"""In bytes: ``sun_path`` has 108, the last one is zero (unix(7))."""

_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_./+-]+")
"""What torch's compiler passes to g++ unharmed: it writes paths into command lines as they are."""

_HTTP_URL: Final = re.compile(r"https?://[^/\s]+\S*")

_ENV_FILE: Final = os.environ.get("FLUX_ENV_FILE") or ".env"


def default_data_dir() -> Path:
    """Return ``~/.local/share/flux-image``, the place for everything this server keeps."""
    return Path.home() / ".local" / "share" / "flux-image"


def env_file() -> Path:
    """Return the file of settings; `flux-image up` names it to its parts, which have another working directory."""
    return user_path(_ENV_FILE)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


class CoreSettings(BaseSettings):
    """What every process needs: where the truth is and how to ring."""

    model_config = SettingsConfigDict(
        env_prefix="FLUX_",
        env_file=_ENV_FILE,
        env_ignore_empty=True,
        hide_input_in_errors=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    data_dir: Path = Field(
        default_factory=default_data_dir, description="directory of the database, pictures, logs and locks"
    )
    database_url: SecretUrl = Field(default=None, description="SQLAlchemy URL; unset: SQLite in the data directory")
    redis_url: SecretUrl = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="broker; unset: `flux-image up` starts an embedded Valkey",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe log line that is written"
    )
    log_json: bool = Field(default=False, description="one JSON object per log line, for machines")

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, path: Path) -> Path:
        return user_path(path)

    @field_validator("database_url")
    @classmethod
    def _expand_database(cls, url: SecretStr | None) -> SecretStr | None:
        return SecretStr(absolute_sqlite_url(url.get_secret_value())) if url else None

    @field_validator("redis_url")
    @classmethod
    def _check_broker(cls, url: SecretStr | None) -> SecretStr | None:
        scheme = url.get_secret_value().partition("://")[0] if url else ""
        if url is not None and scheme not in SCHEMES:
            raise ValueError(f"{scheme}:// is no broker this server can use; it takes {', '.join(SCHEMES)}")
        return url

    @property
    def media_dir(self) -> Path:
        """Directory of all pictures."""
        return self.data_dir / "media"

    @property
    def compiled_code_dir(self) -> Path:
        """Directory of what torch's compiler made; may be deleted at any time.

        It is elsewhere when the data directory's path has blanks or other letters that the compiler cannot cope with.
        """
        wanted, elsewhere = self.data_dir / "cache" / "inductor", f"flux-image-{os.getuid()}-{_digest(self.data_dir)}"
        home = Path("~").expanduser() / ".cache" / elsewhere
        places = (wanted, home, Path(tempfile.gettempdir()) / elsewhere)
        return next((path for path in places if _PLAIN_PATH.fullmatch(str(path))), Path("/tmp") / elsewhere)

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
        """Unix socket of the embedded broker; in a temp directory when the data directory's path is too long."""
        wanted = self.run_dir / "valkey.sock"
        short = Path(f"flux-image-{os.getuid()}-{_digest(wanted)}") / "valkey.sock"
        places = (wanted, Path(tempfile.gettempdir()) / short)
        return next((path for path in places if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH), Path("/tmp") / short)

    @property
    def resolved_database_url(self) -> str:
        """The database URL in force."""
        given = self.database_url
        return given.get_secret_value() if given else sqlite_url(self.data_dir / "flux-image.db")

    @property
    def resolved_redis_url(self) -> str:
        """The broker URL in force: the one given, else the embedded broker's socket."""
        given = self.redis_url
        return given.get_secret_value() if given else socket_url(self.embedded_broker_socket)


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
    min_free_bytes: int = Field(
        default=256 * 2**20,
        ge=0,
        description="submits get 507 while the media directory's disk has less room; waiting jobs need it",
    )
    reconcile_interval_seconds: float = Field(
        default=5.0, gt=0, description="pause between two rounds of rescue and re-ringing"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="more names (comma-separated; `*.name`: all below it; `*`: any) that the server may be asked by",
    )
    root_path: str = Field(
        default="", description="path prefix under which a proxy shows the server, such as `/flux`; goes into addresses"
    )
    forwarded_allow_ips: str = Field(
        default="127.0.0.1,::1",
        validation_alias=AliasChoices("FORWARDED_ALLOW_IPS", "forwarded_allow_ips"),
        description="proxies (addresses, networks, or `*`; comma-separated) whose `X-Forwarded-*` headers are believed",
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list | tuple):
            return entries
        return tuple(check_allowed_host(str(entry).strip()) for entry in entries if str(entry).strip())

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        return check_root_path(value)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(clean_origin, origins))


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
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="torch.compile of FLUX's blocks (lossy: rounds elsewhere); auto: on with a card and a compiler",
    )
    attention: str = Field(
        default="auto",
        description="attention backend by diffusers' name (lossy but for native); auto: the fastest that uses all bits",
    )
    link_gb_per_second: float | None = Field(
        default=None,
        gt=0,
        description="pinned host memory to card, for the planner's switch costs; unset: measured at start",
    )
    prompt_cache_bytes: int = Field(
        default=512 * 2**20,
        ge=0,
        description="host memory for prompt embeddings; a prompt of FLUX.1 takes up to 4.2 MB",
    )
    preview_interval_seconds: float = Field(
        default=0.5, ge=0, description="shortest time between two previews of a running FLUX job; 0: none are made"
    )
    warm_models: bool = Field(
        default=True,
        description="load the default generate model at start, and the edit model after it while no job waits",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="tries of a job whose error may go away; crashes are counted apart"
    )
    lease_seconds: float = Field(
        default=30.0,
        gt=0,
        description="a running job whose worker is silent for so long is rescued; at least 3 heartbeats",
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

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        """Leases that run out between two heartbeats would have a live worker killed."""
        least = MISSED_HEARTBEATS * self.heartbeat_seconds
        if self.lease_seconds < least:
            raise ValueError(
                f"FLUX_LEASE_SECONDS is {self.lease_seconds:g}; with FLUX_HEARTBEAT_SECONDS={self.heartbeat_seconds:g} "
                f"it must be at least {least:g}: {MISSED_HEARTBEATS} heartbeats"
            )
        return self


class RemoteSettings(CoreSettings):
    """The Hugging Face Space that jobs may be sent to; unset: nothing leaves this machine."""

    remote_space: str | None = Field(
        default=None, description="Space for remote jobs: `owner/name`, or the URL of any Gradio app; unset: none"
    )
    remote_token: SecretToken = Field(
        default=None, description="Hugging Face token for a private Space or more quota; sent to the Space"
    )
    remote_model: str | None = Field(
        default=None, description="model that the Space runs; unset: the one whose repository has the Space's name"
    )
    remote_api_name: str | None = Field(
        default=None, description="endpoint of the Space; unset: `/infer`, or the only one that fits"
    )
    remote_connect_seconds: float = Field(default=30.0, gt=0, description="longest time to reach the Space")
    remote_call_seconds: float = Field(
        default=600.0, gt=0, description="longest time for one image, the Space's own queue included"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.remote_space is not None:
            self._check_space(self.remote_space)
            self._find_spec(self.remote_space)
        return self

    @property
    def remote_spec(self) -> PipelineSpec | None:
        """The model that the Space runs; ``None`` when there is no Space."""
        return self._find_spec(self.remote_space) if self.remote_space is not None else None

    def _check_space(self, space: str) -> None:
        try:
            check_space(space, with_token=self.remote_token is not None)
        except ValueError as error:
            raise ValueError(f"FLUX_REMOTE_SPACE: {error}") from error

    def _find_spec(self, space: str) -> PipelineSpec:
        try:
            return find_model(self.remote_model or space)
        except UnknownModel as error:
            raise ValueError(f"FLUX_REMOTE_MODEL must say which model the Space runs. {error.message}") from error


class EnhancerSettings(CoreSettings):
    """A language model behind an OpenAI-compatible API that rewrites prompts on request; unset: none does."""

    enhancer_url: str | None = Field(
        default=None,
        description="base URL of an OpenAI-compatible API, such as `http://localhost:11434/v1`; unset: none",
    )
    enhancer_model: str = Field(
        default="mistral-nemo:12b-instruct-2407-q4_K_M", description="name of the language model on that server"
    )
    enhancer_key: SecretToken = Field(default=None, description="API key of that server, if it wants one")
    enhancer_timeout_seconds: float = Field(
        default=60.0, gt=0, description="longest time for one prompt; after that the original is used"
    )

    @field_validator("enhancer_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None and not _HTTP_URL.fullmatch(url):
            raise ValueError(f"{public_url(url)!r} is no http:// or https:// URL")
        return url.rstrip("/") if url else None


class OutsideSettings(RemoteSettings, EnhancerSettings):
    """Everything outside of this machine that jobs may use; nothing of it is set by default."""

    remote_auto: bool = Field(
        default=True, description="generator `auto` may choose the Space when this machine has no CUDA or is away"
    )
    remote_concurrency: int = Field(
        default=2, ge=1, le=16, description="jobs that use the network at the same time, beside the GPU"
    )

    @property
    def enhancer_name(self) -> str | None:
        """The language model that is configured, ``None`` without one."""
        return self.enhancer_model if self.enhancer_url is not None else None

    @property
    def uses_network(self) -> bool:
        """Whether there is work for the remote lane at all."""
        return self.remote_space is not None or self.enhancer_url is not None


class HubSettings(CoreSettings):
    """Access to gated weights; only `flux-image pull` uses it, the worker never downloads."""

    hf_token: SecretToken = Field(
        default=None,
        validation_alias=AliasChoices("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN", "hf_token"),
        description="Hugging Face token for gated weights",
    )


class HostSettings(CoreSettings):
    """`flux-image up`: the whole stack on one machine."""

    host: str = Field(
        default="127.0.0.1",
        description="address or name the API listens on; `0.0.0.0`: every IPv4 address, `::`: every address",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port of the API; 0: any free one")
    flower_port: int = Field(default=5555, ge=0, le=65535, description="port of Flower on loopback; 0: any free one")

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        return clean_host(host)
