"""This program's version."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("flux-image-app")
