"""Which device, which dtype, how much memory; pacing of steps, and what goes beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from shared.planner import MARGIN_BYTES, PCIE_4_BYTES_PER_SECOND
from worker.pipelines.cuda import Cuda, Event, TorchCuda
from worker.pipelines.cuda_memory import CudaMemory
from worker.pipelines.device_memory import DeviceMemory, HostMemory
from worker.pipelines.driver import has_nvidia_driver
from worker.pipelines.pinned import pinned_or_none

_FIRST_WITH_FP8: Final = (8, 9)
"""CUDA compute capability."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where the models run and in which precision."""

    torch_device: torch.device
    dtype: torch.dtype
    description: str
    total_bytes: int | None
    """Memory of the card in bytes; ``None`` on a CPU."""
    has_fp8: bool = False
    """Whether it multiplies 8-bit floating point numbers: Ada, Hopper, Blackwell by their kind; see ``fp8_trial``."""
    link_gb_per_second: float = PCIE_4_BYTES_PER_SECOND / 1e9
    """From pinned host memory to the card; see ``link``."""
    cuda: Cuda | None = None
    """How to reach the card; ``None`` on a CPU."""

    @property
    def capability(self) -> tuple[int, int]:
        """CUDA's compute capability of the card, such as (12, 0) for an RTX 5090."""
        return torch.cuda.get_device_capability(self.torch_device)

    @property
    def is_cuda(self) -> bool:
        """Whether this is an NVIDIA card."""
        return self.cuda is not None

    def check(self) -> None:
        """Return when the current stream's work is done, and a small one behind it.

        Raises:
          RuntimeError: the device does not, in torch's words; also for an error in the work before.
        """
        (torch.ones(1, device=self.torch_device) + 1).item()


class DeviceUnavailable(RuntimeError):
    """The device that the settings demand is not on this machine."""


def pick_device(wanted: str) -> Device:
    """Return the device for a setting: ``auto``, ``cuda`` or ``cpu``.

    bfloat16 on CUDA; float32 on a CPU, where bfloat16 is slow. On a card torch may take what is free, less a margin
    for the driver and the desktop: so a shortage shows where it can be mended, as torch's own error.

    Raises:
      DeviceUnavailable: torch sees no card, though ``cuda`` is demanded, or a CUDA build has a driver to work with.
    """
    if wanted != "cpu" and torch.cuda.is_available():
        properties, card = torch.cuda.get_device_properties(0), torch.device("cuda", 0)
        device = Device(
            card,
            torch.bfloat16,
            f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB, torch {torch.__version__}",
            properties.total_memory,
            has_fp8=(properties.major, properties.minor) >= _FIRST_WITH_FP8,
            cuda=TorchCuda(card),
        )
        keep_margin(device)
        return device
    if wanted == "cuda":
        raise DeviceUnavailable(
            "FLUX_DEVICE=cuda, but torch sees no CUDA device. Check `nvidia-smi` and the CUDA build of torch."
        )
    if wanted == "auto" and torch.version.cuda is not None and has_nvidia_driver():
        raise DeviceUnavailable(
            "There is an NVIDIA driver, but torch sees no CUDA device. Check `nvidia-smi`: this torch was built for "
            f"CUDA {torch.version.cuda}, and an older driver shows it no card. FLUX_DEVICE=cpu runs without the card."
        )
    return Device(
        torch.device("cpu"), torch.float32, f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}", None
    )


def keep_margin(device: Device) -> None:
    """Let torch have of a card what is free or its own already, less a margin; it raises its own error beyond that."""
    if device.cuda is not None and device.total_bytes is not None:
        device.cuda.limit(min(device.total_bytes, device.cuda.memory().share - MARGIN_BYTES))


def device_memory(device: Device, pinnable_bytes: int) -> DeviceMemory:
    """Return the way of weights to this device; at most ``pinnable_bytes`` of the host's memory are pinned for it."""
    return HostMemory() if device.cuda is None else CudaMemory(device.cuda, pinnable_bytes)


class StepPacer:
    """Keeps the host at most one step ahead of the card, so that progress and cancel mean what they say."""

    def __init__(self, device: Device) -> None:
        self._cuda = device.cuda
        self._previous: Event | None = None

    def step_done(self) -> None:
        """Mark the end of a step and wait for the end of the one before it."""
        if self._cuda is None:
            return
        if self._previous is not None:
            self._previous.synchronize()
        self._previous = self._cuda.event()
        self._previous.record()


class SideStream:
    """Work for the card beside the computing stream; on a CPU it is done in turn."""

    def __init__(self, device: Device) -> None:
        self._cuda = device.cuda
        self._stream = None if self._cuda is None else self._cuda.stream()

    @contextmanager
    def working(self) -> Iterator[None]:
        """What is started inside waits for nothing that the computing stream does."""
        if self._cuda is None or self._stream is None:
            yield
            return
        with self._cuda.on(self._stream):
            yield

    def hand_over(self, tensor: torch.Tensor) -> None:
        """Let the computing stream use what was made inside, once it is made."""
        if self._cuda is not None and self._stream is not None:
            computing = self._cuda.current_stream()
            computing.wait_stream(self._stream)
            self._cuda.keep_for(tensor, computing)


class HostCopy:
    """A tensor on its way to the host; the computing stream goes on meanwhile.

    Where the system locks no memory for it, the caller waits.
    """

    def __init__(self, tensor: torch.Tensor, device: Device) -> None:
        self._arrived: Event | None = None
        self._tensor = tensor
        if device.cuda is not None:
            locked = pinned_or_none(device.cuda, tensor.nbytes)
            if locked is None:
                self._tensor = tensor.to("cpu")
                return
            self._tensor = locked.view(tensor.dtype).view(tensor.shape)
            device.cuda.copy(self._tensor, tensor)
            self._arrived = device.cuda.event()
            self._arrived.record()

    def wait(self) -> torch.Tensor:
        """Return the copy as soon as it is there; for any thread."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensor


def free_cached_memory(device: Device) -> None:
    """Give cached blocks back to the driver after an out-of-memory error."""
    if device.cuda is not None:
        device.cuda.free_cache()
