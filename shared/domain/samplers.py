"""Samplers by the names that users know from the web interfaces; `worker.pipelines.samplers` builds them."""

from __future__ import annotations

from typing import Final

SAMPLERS: Final = (
    "DPM++ 2M Karras",
    "DPM++ 2M",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Karras",
    "DPM++ SDE",
    "DPM++ SDE Karras",
    "DPM2",
    "DPM2 Karras",
    "DPM2 a",
    "DPM2 a Karras",
    "Euler",
    "Euler a",
    "Heun",
    "LMS",
    "LMS Karras",
    "DDIM",
    "DDPM",
    "PNDM",
    "DEIS",
    "UniPC",
)
"""For the Stable Diffusion families; the first is the default."""
