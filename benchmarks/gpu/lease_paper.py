"""The lease on paper: what each part takes of the card, of the host and of the time.

Bytes come from the catalog and the planner's working memory. Seconds are pessimistic guesses from the stated rates and
the operations of a step; they were not measured on a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

from benchmarks.gpu.rates import REPEATS as STEP_REPEATS
from benchmarks.gpu.rates import WARM_UP as STEP_WARM_UP
from benchmarks.gpu.rates import operations_of
from shared.catalog import find_model
from shared.planner import GIB
from shared.planner.sizes import decoding_bytes, denoising_bytes

LIMITS: Final[Mapping[str, float]] = MappingProxyType(
    {"tests": 80, "step_roofline": 125, "image_time": 110, "switch": 120, "fp8_step": 95}
)
"""Seconds that each part may take, in the order in which they run."""

REPEATS, WARM_UP = 2, 1
STEPS: Final = 4
"""Of the jobs between which models are switched: few, so that a switch weighs much."""
MIXED_JOBS: Final = 10
ROOFLINE_SIDE: Final = 1024
CAP_GIB: Final = 31.0

_TEXT_TOKENS: Final = 512
_TOKENS: Final = (ROOFLINE_SIDE // 16) ** 2
_CONTEXT_GIB: Final = 0.75
"""What the driver, cuBLAS, cuDNN and compiled code take beside torch's memory."""
_TILING_BYTES_PER_SECOND: Final = 5e9
_PINNING_BYTES_PER_SECOND: Final = 3e9
_COMPILE_SECONDS: Final = 75.0
"""Both kinds of FLUX's blocks, for the first time. A guess."""
_AGAIN_SECONDS: Final = 30.0
"""The same once more, with code kept from a part before."""
_START_SECONDS: Final = 5.0
_TESTS_SECONDS: Final = 70.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory in GiB, what one step reaches in TFLOP/s (bf16), and the link from pinned memory in GB/s."""

    card_gib: float
    host_gib: float = 128.0
    tflops: float = 350.0
    link: float = 20.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """What one part takes at its worst moment, and how long it may take."""

    part: str
    card_gib: float
    host_gib: float
    seconds: float
    limit_seconds: float

    def as_json(self) -> dict[str, Any]:
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


def paper(machine: Machine) -> list[Row]:
    """Return every part's row on this machine."""
    dev, schnell = find_model("dev").component_bytes, find_model("schnell").component_bytes
    transformer, pipeline, both = dev["transformer"], sum(dev.values()), sum(dev.values()) + schnell["transformer"]
    step, with_reference = (_step_seconds(tokens, machine) for tokens in (_TOKENS, 2 * _TOKENS))
    pixels = ROOFLINE_SIDE**2
    working = max(denoising_bytes(pixels, _TEXT_TOKENS, attended_pixels=pixels), decoding_bytes(pixels))
    steps = STEP_WARM_UP + STEP_REPEATS
    image = (find_model("dev").num_inference_steps or 0) * step + 1
    job = STEPS * step + 1
    jobs = 2 + 3 * REPEATS + 1 + MIXED_JOBS + 8
    switches = (2 * REPEATS + MIXED_JOBS + 4) * transformer / (machine.link * 1e9)
    ready = pipeline / _TILING_BYTES_PER_SECOND + pipeline / _PINNING_BYTES_PER_SECOND
    return [
        _row("tests", 2 * GIB, 4 * GIB, _TESTS_SECONDS),
        _row("step_roofline", transformer + working, 0, 3 * steps * (step + with_reference) + _COMPILE_SECONDS),
        _row("image_time", pipeline + working, pipeline * 2, 2 * (WARM_UP + REPEATS) * image + _AGAIN_SECONDS + ready),
        _row("switch", int((CAP_GIB - _CONTEXT_GIB) * GIB), both + pipeline, jobs * job + switches + 2 * ready),
        _row("fp8_step", transformer * 3 // 2 + working, 0, 2 * steps * step + _COMPILE_SECONDS),
    ]


def exceeded(rows: Sequence[Row], machine: Machine, total_seconds: float) -> list[str]:
    """Return what does not fit, in words."""
    troubles = []
    for row in rows:
        if row.card_gib > machine.card_gib:
            troubles.append(f"{row.part} needs {row.card_gib:.1f} of the card's {machine.card_gib:.1f} GiB")
        if row.host_gib > machine.host_gib:
            troubles.append(f"{row.part} needs {row.host_gib:.1f} of the host's {machine.host_gib:.1f} GiB")
        if row.seconds > row.limit_seconds:
            troubles.append(f"{row.part} takes {row.seconds:.0f} s and may take {row.limit_seconds:.0f} s")
    together = sum(row.limit_seconds for row in rows)
    if together > total_seconds:
        troubles.append(f"all limits together are {together:.0f} s, the lease is {total_seconds:.0f} s")
    return troubles


def _row(part: str, card_bytes: int, host_bytes: int, seconds: float) -> Row:
    return Row(part, card_bytes / GIB + _CONTEXT_GIB, host_bytes / GIB, seconds + _START_SECONDS, LIMITS[part])


def _step_seconds(picture_tokens: int, machine: Machine) -> float:
    return operations_of(picture_tokens + _TEXT_TOKENS) / (machine.tflops * 1e12)
