"""What a machine offers: memory of the card, memory of the host, and the link between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.planner.sizes import GIB

PCIE_4_BYTES_PER_SECOND: Final = 25_000_000_000
"""Host to card from pinned memory, PCIe 4.0 x16: 25.5 GB/s on an RTX 4090 (nvbandwidth)."""

PCIE_5_BYTES_PER_SECOND: Final = 50_000_000_000
"""The same for PCIe 5.0 x16, rounded down from 56.3 GB/s on an RTX 5090 (nvbandwidth)."""

RING_SHARE: Final = 0.4
"""Of the link's bandwidth, through the ring: every byte crosses the host's memory three times. An estimate."""

_PINNED_SHARE: Final = 0.75
_CONTEXT_BYTES: Final = GIB // 2
_CONTEXT_SHARE: Final = 0.02

MARGIN_BYTES: Final = 3 * GIB // 4
"""Of what is free on a card, for the driver's modules and a desktop that wants more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes, and bytes per second.

    ``gpu_bytes`` is the card's nominal memory, ``None`` without a card; ``gpu_free_bytes`` what this process has or
    can get of it, ``None`` where nobody asked; ``host_bytes`` what is free of the host's memory.
    """

    gpu_bytes: int | None
    host_bytes: int
    link_bytes_per_second: int = PCIE_4_BYTES_PER_SECOND
    gpu_free_bytes: int | None = None

    @property
    def usable_bytes(self) -> int:
        """What weights and working memory may take: all but the CUDA context, workspaces and fragments.

        0.5 GiB and 2 %: 30.9 of 32 GiB; less where others have so much of the card that no margin would be left.
        Without a card it is the pinnable share of the host's memory.
        """
        if self.gpu_bytes is None:
            return self.pinnable_bytes
        nominal = round(self.gpu_bytes * (1 - _CONTEXT_SHARE)) - _CONTEXT_BYTES
        left = nominal if self.gpu_free_bytes is None else self.gpu_free_bytes - MARGIN_BYTES
        return max(0, min(nominal, left))

    @property
    def pinnable_bytes(self) -> int:
        """The part of the host's free memory that may be taken for good."""
        return round(self.host_bytes * _PINNED_SHARE)

    @property
    def bits(self) -> int:
        """Bits of a weight that is not quantized: bfloat16 on a card, float32 without one."""
        return 32 if self.is_cpu else 16

    @property
    def is_cpu(self) -> bool:
        """Whether the models run on the host's processor."""
        return self.gpu_bytes is None
