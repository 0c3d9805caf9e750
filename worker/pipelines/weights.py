"""Where a model's weights are on this machine. Never downloads: that is `flux-image pull`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import ModelUnavailable
from shared.domain.model import PipelineSpec
from shared.domain.report import ModelReport
from worker import demo

DEMO_CHECKPOINT: Final = Path(demo.__file__).parent / "checkpoint"
SHIPPED_LATENT_RGB: Final = DEMO_CHECKPOINT / "latent_rgb"
"""The demo VAE's map from latents to colours, see ``latent_rgb``."""


class Weights:
    """Finds weights: the demo family in this package, the others in the Hugging Face cache."""

    def __init__(self, demo_checkpoint: Path = DEMO_CHECKPOINT, cache_dir: Path | None = None) -> None:
        """``cache_dir`` is Hugging Face's cache; unset: where its environment variables say."""
        self._demo_checkpoint = demo_checkpoint
        self._cache_dir = cache_dir

    def folder(self, spec: PipelineSpec) -> Path:
        """Return the diffusers folder of a model.

        Raises:
          ModelUnavailable: the weights are missing or incomplete; the message names the remedy.
        """
        if spec.repo_id is None:
            return self._demo_checkpoint / spec.model
        folder = self._snapshot(spec, spec.repo_id)
        missing = missing_components(folder, spec.variant, spec.unused_components)
        if missing:
            raise ModelUnavailable(
                _remedy(spec, f"its weights are incomplete (missing: {', '.join(missing)})"), model=spec.model
            )
        return folder

    def adapter(self, spec: IPAdapterSpec) -> tuple[Path, Path]:
        """Return an adapter's file and the folder of its image encoder.

        Raises:
          ModelUnavailable: one of them is missing; the message names the remedy.
        """
        file = self._snapshot(spec, spec.repo_id) / spec.weight_name
        encoder = self._snapshot(spec, spec.image_encoder_repo_id) / spec.image_encoder_folder
        for path in (file, encoder / "config.json", encoder / "model.safetensors"):
            if not path.is_file():
                raise ModelUnavailable(_remedy(spec, f"its weights are incomplete (missing: {path.name})"))
        return file, encoder

    def _snapshot(self, spec: PipelineSpec | IPAdapterSpec, repo_id: str) -> Path:
        try:
            # Without the patterns it would also miss what `pull` leaves out: second copies in other layouts.
            wanted = list(spec.downloads[repo_id])
            return Path(
                snapshot_download(repo_id, cache_dir=self._cache_dir, local_files_only=True, allow_patterns=wanted)
            )
        except LocalEntryNotFoundError as error:
            raise ModelUnavailable(_remedy(spec, "its weights are not on this machine"), model=spec.name) from error

    def report(self, spec: PipelineSpec) -> ModelReport:
        """Return whether a model can be loaded here, and why."""
        if spec.is_demo:
            return ModelReport(model=spec.model, available=True, reason="comes with the project")
        try:
            folder = self.folder(spec)
        except ModelUnavailable as error:
            return ModelReport(model=spec.model, available=False, reason=error.message)
        follows = spec.capabilities.ip_adapter is not None and self._has(spec.capabilities.ip_adapter)
        return ModelReport(model=spec.model, available=True, reason=f"found in {folder}", follows_reference=follows)

    def _has(self, adapter: IPAdapterSpec) -> bool:
        try:
            self.adapter(adapter)
        except ModelUnavailable:
            return False
        return True


def missing_components(folder: Path, variant: str | None = None, unused: Collection[str] = ()) -> list[str]:
    """Return the parts that ``model_index.json`` names and that have no complete files in ``folder``."""
    index = folder / "model_index.json"
    if not index.is_file():
        return ["model_index.json"]
    parts = [name for name, value in json.loads(index.read_text()).items() if isinstance(value, list) and value[0]]
    return [name for name in parts if name not in unused and not _is_complete(folder / name, variant)]


def _is_complete(part: Path, variant: str | None) -> bool:
    if not part.is_dir() or not any(part.iterdir()):
        return False
    if not (part / "config.json").is_file():  # tokenizers and schedulers have no weights
        return True
    shard_indexes = list(part.glob("*.safetensors.index.json"))
    if not shard_indexes:
        return any(part.glob(f"*.{variant}.safetensors" if variant else "*.safetensors"))
    shards = {name for path in shard_indexes for name in json.loads(path.read_text())["weight_map"].values()}
    return all((part / name).is_file() for name in shards)


def _remedy(spec: PipelineSpec | IPAdapterSpec, problem: str) -> str:
    return f"{spec.title} cannot run: {problem}. Run `flux-image pull {spec.name}` on the worker's machine."
