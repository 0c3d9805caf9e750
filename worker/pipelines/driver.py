"""Whether this machine has an NVIDIA driver to offer, whatever torch makes of it. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SIGNS: Final = (Path("/dev/nvidiactl"), Path("/usr/lib/wsl/lib/libcuda.so.1"))
"""The driver's own device, which a container has only if it was given a card; in WSL2, the library in its place."""


def has_nvidia_driver(signs: Sequence[Path] = _SIGNS) -> bool:
    """Return whether there is a driver; ``False`` also where ``CUDA_VISIBLE_DEVICES`` hides all cards on purpose."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and any(sign.exists() for sign in signs)
