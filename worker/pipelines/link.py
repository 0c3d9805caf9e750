"""How fast weights come from the host's memory to this card: measured at start, since plans are made with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from shared.domain.report import LinkReport
from shared.planner import PCIE_4_BYTES_PER_SECOND
from worker.pipelines.device import Device
from worker.pipelines.trial import problem_of, seconds_of

TRIAL_BYTES: Final = 256 * 2**20
"""As large as one half of the ring, which is given this pinned memory when it asks for its own."""

_ASSUMED: Final = PCIE_4_BYTES_PER_SECOND / 1e9


def pinned(size: int) -> torch.Tensor:
    """Return ``size`` bytes of the host's memory that the card reads by itself."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def choose_link(
    wanted: float | None,
    device: Device,
    allocate: Callable[[int], torch.Tensor] = pinned,
    seconds: Callable[[Callable[[], object], Device], float] = seconds_of,
) -> LinkReport:
    """Return the rate that plans are made with: the setting, else what a copy to the card takes.

    ``allocate`` returns bytes of pinned memory, ``seconds`` how long an attempt takes on a device.

    Raises:
      DeviceLost: the copy cost this process its device.
    """
    if wanted is not None:
        return LinkReport(gb_per_second=wanted, reason="FLUX_LINK_GB_PER_SECOND is set")
    if not device.is_cuda:
        return LinkReport(gb_per_second=_ASSUMED, reason="without a card nothing is copied")
    took = 0.0

    def measure() -> None:
        nonlocal took
        source = allocate(TRIAL_BYTES)
        target = torch.empty(TRIAL_BYTES, dtype=torch.uint8, device=device.torch_device)
        took = seconds(lambda: target.copy_(source, non_blocking=True), device)

    if problem := problem_of(measure, device):
        return LinkReport(
            gb_per_second=_ASSUMED, reason=f"assumed (PCIe 4.0 x16), since it could not be measured: {problem}"
        )
    rate = round(TRIAL_BYTES / took / 1e9, 1)
    return LinkReport(gb_per_second=rate, reason=f"measured at start: 256 MiB of pinned memory in {1000 * took:.1f} ms")
