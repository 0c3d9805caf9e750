"""What the parts of the stack are told: this command's settings, and nothing of the folder it was started in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.settings import HostSettings, env_file

_SOURCES: Final = Path(__file__).resolve().parents[2]
"""Where this command's own packages are: parts run the same code, whatever else is called ``api`` or ``worker``."""

_PATHS: Final = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_XET_CACHE",
    "HF_TOKEN_PATH",
    "XDG_CACHE_HOME",
    "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Variables of libraries that hold one path; relative ones start at the folder of whoever set them."""


def part_environment(settings: HostSettings, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a part, made from the one that this command was ``given``.

    A part has a working directory of its own, so every relative path is made whole here. ``PYTHONSAFEPATH`` keeps
    that directory out of ``sys.path``, as far as Python decides (https://docs.python.org/3/using/cmdline.html).
    """
    whole = {name: _whole(given[name]) for name in _PATHS if given.get(name)}
    told = {
        "FLUX_ENV_FILE": str(env_file()),
        "FLUX_DATA_DIR": str(settings.data_dir),
        "FLUX_HOST": settings.host,
        "REDIS_URL": settings.resolved_redis_url,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_SOURCES), given.get("PYTHONPATH")))),
    }
    if settings.database_url is not None:
        told["FLUX_DATABASE_URL"] = settings.resolved_database_url
    return {**given, **whole, **told}


def _whole(path: str) -> str:
    """Return a path as Hugging Face's libraries read it, and absolute."""
    return str(Path(os.path.expandvars(path)).expanduser().absolute())
