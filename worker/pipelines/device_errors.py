"""What torch raises, as errors that say what follows for the process and the job."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.domain.errors import DeviceLost, OutOfMemory, UnsupportedByDevice
from worker.pipelines.error_texts import Fault, first_line, is_out_of_memory, row_of


@contextmanager
def device_faults(ask: Callable[[], object]) -> Iterator[None]:
    """Turn what torch raises into errors that say what follows; ordinary ones pass as they are.

    Where the text says nothing about the device, the device is asked: ``ask`` is some small work for it, which a lost
    one refuses.

    Raises:
      DeviceLost: the device takes no more work from this process.
      OutOfMemory: it lacked memory.
      UnsupportedByDevice: it cannot do this; the message names the setting that avoids it.
    """
    try:
        yield
    except RuntimeError as error:
        row, said = row_of(error), first_line(error)
        match row.fault:
            case Fault.LOST:
                raise DeviceLost(f"The device failed: {said}") from error
            case Fault.OUT_OF_MEMORY:
                traceback.clear_frames(error.__traceback__)  # they hold the tensors
                raise OutOfMemory(f"The device ran out of memory: {said}") from error
            case Fault.UNSUPPORTED:
                raise UnsupportedByDevice(
                    f"This device or its software cannot do this: {said}. {row.remedy}"
                ) from error
        if refusal := refusal_of(ask):
            raise DeviceLost(f"The device failed: {said}. It takes no more work: {refusal}") from error
        raise


def refusal_of(ask: Callable[[], object]) -> str | None:
    """Return what the device says instead of doing a small work; no memory for it is no refusal."""
    try:
        ask()
    except RuntimeError as error:
        return None if is_out_of_memory(error) else first_line(error)
    return None
