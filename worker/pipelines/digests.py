"""What a component's files hold, as a short text: two components are shared only when it is equal."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_VOLATILE_KEYS: Final = ("transformers_version", "torch_dtype", "dtype")
"""Written anew by every save; they say nothing about the weights."""


def component_digest(folder: Path) -> str:
    """Return a SHA-256 of a component's weights, tokens and configuration."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.name == "config.json":
            found.update(_config(path))
        elif path.suffix in (".safetensors", ".json", ".txt", ".model"):
            found.update(f"{path.name}:{_file_digest(path)}\n".encode())
    return found.hexdigest()


def quantized_digest(digest: str, weight_format: str) -> str:
    """Return the digest of a component in another format of weights."""
    return hashlib.sha256(f"{digest}:{weight_format}".encode()).hexdigest()


def _config(path: Path) -> bytes:
    config = json.loads(path.read_text())
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key not in _VOLATILE_KEYS}
    return json.dumps(kept, sort_keys=True).encode()


def _file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; the Hugging Face cache names the large ones by it, so that nothing is read."""
    real = path.resolve()
    if _SHA256.fullmatch(real.name):
        return real.name
    status = real.stat()
    return _content_digest(real, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _content_digest(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
