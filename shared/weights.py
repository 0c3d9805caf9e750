"""Where weights are on this machine, and whether they are whole: one answer for the worker, `doctor` and `pull`.

Weights are looked for in Hugging Face's cache and never downloaded here; that is `flux-image pull`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from shared.domain.adapter import IPAdapterSpec
from shared.domain.model import PipelineSpec

_LARGEST_HEADER: Final = 100_000_000
"""Bytes; safetensors' own limit."""


@dataclass(frozen=True, slots=True)
class FoundWeights:
    """What is in the cache of a model or an adapter, and what that lacks."""

    folders: tuple[Path, ...] = ()
    """A model's folder; an adapter's and that of its image encoder; empty: nothing is here, or not all of it."""
    missing: tuple[str, ...] = ()
    """Parts, or files of an adapter, that are not there or not whole."""

    @property
    def problem(self) -> str | None:
        """Why they cannot be loaded; ``None`` when they can."""
        if not self.folders:
            return "its weights are not on this machine"
        return f"its weights are incomplete (missing: {', '.join(self.missing)})" if self.missing else None


def find_model_weights(spec: PipelineSpec, cache_dir: Path | None = None) -> FoundWeights:
    """Return what there is of a model that has a repository; ``cache_dir`` unset: where HF_HOME says."""
    folder = _snapshot(spec, spec.repo_id, cache_dir)
    if folder is None:
        return FoundWeights()
    return FoundWeights((folder,), tuple(_missing_parts(folder, spec.variant, spec.unused_components)))


def find_adapter_weights(spec: IPAdapterSpec, cache_dir: Path | None = None) -> FoundWeights:
    """Return what there is of an adapter and its image encoder."""
    folder = _snapshot(spec, spec.repo_id, cache_dir)
    encoders = _snapshot(spec, spec.image_encoder_repo_id, cache_dir)
    if folder is None or encoders is None:
        return FoundWeights()
    encoder = encoders / spec.image_encoder_folder
    files = (folder / spec.weight_name, encoder / "config.json", encoder / "model.safetensors")
    return FoundWeights((folder, encoder), tuple(file.name for file in files if not _is_whole(file)))


def find_weights(spec: PipelineSpec | IPAdapterSpec, cache_dir: Path | None = None) -> FoundWeights:
    """Return what there is of whatever `flux-image pull` can fetch."""
    if isinstance(spec, IPAdapterSpec):
        return find_adapter_weights(spec, cache_dir)
    return find_model_weights(spec, cache_dir)


def revision_of(folder: Path) -> str | None:
    """Return the commit of a folder in Hugging Face's cache (``.../snapshots/<commit>``), ``None`` for another."""
    return folder.name if folder.parent.name == "snapshots" else None


def _snapshot(spec: PipelineSpec | IPAdapterSpec, repo_id: str | None, cache_dir: Path | None) -> Path | None:
    if repo_id is None:
        raise ValueError("the demo family's weights come with the project and are in no cache")
    # Without the patterns it would also miss what `pull` leaves out: second copies in other layouts.
    wanted = list(spec.downloads[repo_id])
    try:
        return Path(snapshot_download(repo_id, cache_dir=cache_dir, local_files_only=True, allow_patterns=wanted))
    except LocalEntryNotFoundError:
        return None


def _missing_parts(folder: Path, variant: str | None, unused: Collection[str]) -> Iterator[str]:
    """Yield the parts that ``model_index.json`` names and that are not whole in ``folder``."""
    index = folder / "model_index.json"
    try:
        parts = [name for name, value in json.loads(index.read_text()).items() if isinstance(value, list) and value[0]]
    except (OSError, ValueError):
        yield index.name
        return
    yield from (name for name in parts if name not in unused and not _is_complete(folder / name, variant))


def _is_complete(part: Path, variant: str | None) -> bool:
    files = list(part.iterdir()) if part.is_dir() else []
    if not files or not all(file.exists() for file in files):  # a link without its file: the download was cut off
        return False
    if not (part / "config.json").is_file():  # tokenizers and schedulers have no weights
        return True
    try:
        weights = _weight_files(part, variant)
    except (OSError, ValueError, KeyError):
        return False
    return bool(weights) and all(map(_is_whole, weights))


def _weight_files(part: Path, variant: str | None) -> list[Path]:
    indexes = list(part.glob("*.safetensors.index.json"))
    if not indexes:
        return list(part.glob(f"*.{variant}.safetensors" if variant else "*.safetensors"))
    return [part / name for index in indexes for name in set(json.loads(index.read_text())["weight_map"].values())]


def _is_whole(file: Path) -> bool:
    """Whether a file is there and, for weights, as long as its own header says."""
    try:
        found = file.stat()
        return file.suffix != ".safetensors" or _declared_bytes(file, found.st_mtime_ns) == found.st_size
    except (OSError, ValueError, KeyError, TypeError):
        return False


@lru_cache(maxsize=256)
def _declared_bytes(file: Path, _modified_ns: int) -> int:
    """Return how long a safetensors file must be: 8 bytes, a JSON header of that length, the tensors it lists.

    The format: https://huggingface.co/docs/safetensors
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"{file} has no header of safetensors")
        header = json.loads(opened.read(length))
    ends = (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    return 8 + length + int(max(ends, default=0))
