"""Trying something once on this device: whether it works there, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from shared.domain.errors import DeviceLost
from worker.pipelines.device import Device
from worker.pipelines.device_errors import refusal_of
from worker.pipelines.error_texts import Fault, fault_of, first_line

_WARM_UP: Final = 2
_TIMED: Final = 5


def problem_of(attempt: Callable[[], object], device: Device) -> str | None:
    """Return why an attempt does not work here, in one line; ``None`` if it does.

    Raises:
      DeviceLost: the attempt cost this process its device.
    """
    try:
        attempt()
        device.check()
    except Exception as error:  # whatever a kernel or the library around it throws
        problem = first_line(error)
        if fault_of(error) is Fault.LOST or refusal_of(device.check):
            raise DeviceLost(f"The device failed when something was tried on it: {problem}") from error
        return problem
    return None


def seconds_of(attempt: Callable[[], object], device: Device) -> float:
    """Return the shortest of a few times that an attempt takes, after it has run twice."""
    times = []
    for _ in range(_WARM_UP + _TIMED):
        device.check()
        began = time.perf_counter()
        attempt()
        device.check()
        times.append(time.perf_counter() - began)
    return min(times[_WARM_UP:])
