"""What a machine offers: memory of the card, memory of the host, and the link between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.planner.sizes import GIB

PCIE_4_BYTES_PER_SECOND: Final = 25_000_000_000
"""Host to card from pinned memory, PCIe 4.0 x16: 25.5 GB/s on an RTX 4090 (nvbandwidth)."""

PCIE_5_BYTES_PER_SECOND: Final = 50_000_000_000
"""The same for PCIe 5.0 x16, rounded down from 56.3 GB/s on an RTX 5090 (nvbandwidth)."""

RING_BYTES: Final = 2 * GIB
"""Pinned buffer through which weights pass that do not fit into pinned memory."""

RING_SHARE: Final = 0.4
"""Of the link's bandwidth, through the ring: every byte crosses the host's memory three times. An estimate."""

_PINNED_SHARE: Final = 0.75
_CONTEXT_BYTES: Final = GIB // 2
_CONTEXT_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes, and bytes per second. ``gpu_bytes`` is the card's nominal memory; ``None`` means that there is no card."""

    gpu_bytes: int | None
    host_bytes: int
    link_bytes_per_second: int = PCIE_4_BYTES_PER_SECOND

    @property
    def usable_bytes(self) -> int:
        """What weights and working memory may take: all but the CUDA context, workspaces and fragments.

        0.5 GiB and 2 %: 30.9 of 32 GiB. Without a card it is the pinnable share of the host's memory.
        """
        if self.gpu_bytes is None:
            return self.pinnable_bytes
        return max(0, round(self.gpu_bytes * (1 - _CONTEXT_SHARE)) - _CONTEXT_BYTES)

    @property
    def pinnable_bytes(self) -> int:
        """The part of the host's memory that may be taken for good."""
        return round(self.host_bytes * _PINNED_SHARE)

    @property
    def bits(self) -> int:
        """Bits of a weight that is not quantized: bfloat16 on a card, float32 without one."""
        return 32 if self.is_cpu else 16

    @property
    def is_cpu(self) -> bool:
        """Whether the models run on the host's processor."""
        return self.gpu_bytes is None
