"""What a component is, as a short text: two components are shared only when it is equal.

A model: its weight files, and of its configuration what its class reads and would not take by itself. A tokenizer: what
it does with a text. So a library that writes an index, a key or a default anew does not make another component of it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NOT_WEIGHTS: Final = frozenset({"architectures", "dtype", "model_type", "torch_dtype", "transformers_version"})
"""Keys of transformers' configurations that say who wrote the file, and in which form."""


def component_digest(component: Any, folder: Path) -> str:
    """Return a SHA-256 of what ``component``, a class of transformers or diffusers, reads from a folder."""
    found = _effect_of_tokenizer(component, folder) if hasattr(component, "vocab_files_names") else None
    return hashlib.sha256(_canonical(found or _weights_and_config(component, folder))).hexdigest()


def quantized_digest(digest: str, weight_format: str) -> str:
    """Return the digest of a component in another format of weights."""
    return hashlib.sha256(f"{digest}:{weight_format}".encode()).hexdigest()


def _weights_and_config(component: Any, folder: Path) -> list[Any]:
    files = sorted(folder.glob("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    return [[(path.name, _file_digest(path)) for path in files], _without_defaults(component, config)]


def _without_defaults(component: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return what a class reads from its configuration, as far as it differs from what the class takes by itself."""
    if hasattr(component, "config_class"):  # transformers: keys it does not declare end up in no layer
        defaults = component.config_class().to_dict()
        read = component.config_class.from_dict(config).to_dict()
        declared = {key: value for key, value in read.items() if key in defaults and key not in _NOT_WEIGHTS}
    else:  # diffusers: the arguments of __init__
        arguments = inspect.signature(component.__init__).parameters
        defaults = {name: argument.default for name, argument in arguments.items()}
        declared = {key: value for key, value in config.items() if key in defaults}
    return {key: value for key, value in declared.items() if _canonical(value) != _canonical(defaults[key])}


def _effect_of_tokenizer(component: Any, folder: Path) -> list[Any]:
    """Return everything that decides about the tokens of a text, however the files put it."""
    tokenizer = component.from_pretrained(folder)
    steps = json.loads(tokenizer.backend_tokenizer.to_str())
    called_with = {"padding", "truncation"}  # set by each call
    return [
        {key: value for key, value in steps.items() if key not in called_with},
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        [tokenizer.model_max_length, tokenizer.padding_side, tokenizer.truncation_side],
    ]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


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
