"""Repositories as the loopback hub serves them: names to files, and what the hub's metadata say about each."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

COMMIT = "c0ffee" + "0" * 34
SCHNELL = "black-forest-labs/FLUX.1-schnell"
DEV = "black-forest-labs/FLUX.1-dev"

LARGE = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"
"""The largest file of the tiny FLUX.1."""


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. A large one (LFS) is known by its SHA-256, others by git's name of their bytes."""

    source: bytes | Path
    is_lfs: bool
    known_etag: str | None = None

    @cached_property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def etag(self) -> str:
        if self.known_etag is not None:
            return self.known_etag
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        if self.is_lfs:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def oid(self) -> str:
        """Git's name of it; of a large file git has a pointer, whose name nobody looks at."""
        return "e" * 40 if self.is_lfs else self.etag

    def read(self, start: int, count: int) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[start : start + count]
        with self.source.open("rb") as file:
            file.seek(start)
            return file.read(count)


Repository = dict[str, HubFile]


def tiny_flux(pipeline_class: str = "FluxPipeline") -> Repository:
    """A repository with the files of FLUX.1, those too that diffusers does not load, of random bytes."""
    bytes_of = random.Random(pipeline_class).randbytes
    parts = {
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    stem = "transformer/diffusion_pytorch_model"
    shards = {f"weight.{number}": f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    texts = {
        "README.md": "# FLUX.1",
        "model_index.json": json.dumps({"_class_name": pipeline_class, **parts}),
        "scheduler/scheduler_config.json": "{}",
        "tokenizer/vocab.json": '{"a": 0}',
        "tokenizer_2/tokenizer.json": "{}",
        **{f"{part}/config.json": "{}" for part in ("text_encoder", "text_encoder_2", "transformer", "vae")},
        f"{stem}.safetensors.index.json": json.dumps({"weight_map": shards}),
    }
    weights = {
        LARGE: 1_500_000,
        f"{stem}-00002-of-00002.safetensors": 400_000,
        "text_encoder/model.safetensors": 200_000,
        "text_encoder_2/model.safetensors": 300_000,
        "vae/diffusion_pytorch_model.safetensors": 100_000,
        "flux1-schnell.safetensors": 2_000_000,
        "ae.safetensors": 100_000,
    }
    small = {name: HubFile(text.encode(), is_lfs=False) for name, text in texts.items()}
    return small | {name: HubFile(_safetensors(size, bytes_of), is_lfs=True) for name, size in weights.items()}


def _safetensors(size: int, bytes_of: Callable[[int], bytes]) -> bytes:
    """A file of that many bytes with one tensor of random ones, whole by its own header."""
    width = 200
    count = size - 8 - width
    header = json.dumps({"weight": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).ljust(width)
    return width.to_bytes(8, "little") + header.encode() + bytes_of(count)


def needed(repository: Repository) -> Repository:
    """What of it a pipeline loads."""
    return {name: file for name, file in repository.items() if "/" in name or name == "model_index.json"}


def from_cache(folder: Path) -> Repository:
    """The repository of a folder in the Hugging Face cache (``models--owner--name``)."""
    commit = (folder / "refs" / "main").read_text()
    snapshot = folder / "snapshots" / commit
    files = {str(path.relative_to(snapshot)): path.resolve() for path in snapshot.rglob("*") if path.is_file()}
    return {
        name: HubFile(blob, is_lfs=name.endswith(".safetensors"), known_etag=blob.name) for name, blob in files.items()
    }
