"""What an error says about the device, by its text: CUDA's libraries have many errors and torch few types for them.

The rows are texts that are really printed: torch's own (``ATen/cuda/Exceptions.h``, ``c10/cuda``), behind which stand
the words of CUDA's runtime and driver (``cudaGetErrorString``), cuBLAS, cuDNN, Triton, nvrtc, CUTLASS, bitsandbytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import torch


class Fault(Enum):
    """What follows from an error."""

    LOST = auto()
    """CUDA refuses all further work of this process: it has to be replaced."""
    OUT_OF_MEMORY = auto()
    """The same work may get through with less beside it."""
    UNSUPPORTED = auto()
    """This device, driver or build cannot do it, today or tomorrow; another setting avoids it."""
    ORDINARY = auto()
    """Nothing about the device."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of text. ``remedy`` is what its reader can do, as a sentence."""

    fault: Fault
    pattern: re.Pattern[str]
    remedy: str = ""


_CUDA: Final = r"(?:CUDA error|CUDA driver error|Triton Error \[CUDA\]): "
"""Before the runtime's and the driver's words. Behind them comes advice of torch's, about "device-side assertions"."""

_OTHER_PRECISION: Final = "Ask for another precision, by the job's `precision` or by FLUX_PRECISION."
_PLAIN_ATTENTION: Final = "Set FLUX_ATTENTION=native."
_UNCOMPILED: Final = "Set FLUX_COMPILE=off."
_OTHER_BUILD: Final = (
    "This build of torch has no code for this card or driver: install one that has, update the driver, or set "
    "FLUX_DEVICE=cpu."
)
_NO_4_BIT: Final = (
    "bitsandbytes cannot work here: set FLUX_PRECISION=exact or balanced, or the job's `precision`; "
    "`python -m bitsandbytes` says what it lacks."
)
_PLAIN_KERNELS: Final = "Set FLUX_ATTENTION=native, and FLUX_PRECISION=exact or the job's `precision`."


def _rows(fault: Fault, *patterns: str, remedy: str = "") -> tuple[Row, ...]:
    return tuple(Row(fault, re.compile(pattern), remedy) for pattern in patterns)


ORDINARY: Final = Row(Fault.ORDINARY, re.compile(""))
OUT_OF_MEMORY: Final = Row(Fault.OUT_OF_MEMORY, re.compile(""))

TABLE: Final[tuple[Row, ...]] = (
    # "The process must be terminated and relaunched" (CUDA runtime API, cudaErrorIllegalAddress and those like it),
    # or there is no card any more.
    *_rows(
        Fault.LOST,
        rf"{_CUDA}an illegal memory access was encountered",
        rf"{_CUDA}an illegal instruction was encountered",
        rf"{_CUDA}the launch timed out and was terminated",
        rf"{_CUDA}device-side assert triggered",
        rf"{_CUDA}hardware stack error",
        rf"{_CUDA}misaligned address",
        rf"{_CUDA}operation not supported on global/shared address space",
        rf"{_CUDA}invalid program counter",
        rf"{_CUDA}unspecified launch failure",
        rf"{_CUDA}uncorrectable (?:ECC|NVLink) error",
        rf"{_CUDA}(?:context is destroyed|invalid device context|driver shutting down|initialization error)",
        rf"{_CUDA}no CUDA-capable device is detected",
        rf"{_CUDA}unknown error",
    ),
    *_rows(
        Fault.OUT_OF_MEMORY,
        r"CUDA out of memory",
        rf"{_CUDA}out of memory",
        r"CUDA_ERROR_OUT_OF_MEMORY",
        r"CUBLAS_STATUS_ALLOC_FAILED",
        r"CUBLAS_STATUS_NOT_INITIALIZED when calling `cublas(?:Lt)?Create",  # no room for the workspace of a handle
        r"CUDNN_STATUS_ALLOC_FAILED",
        r"CUDNN_STATUS_INTERNAL_ERROR_(?:DEVICE|HOST)_ALLOCATION_FAILED",
        # Torch tries cuDNN's plans one by one and swallows each one's lack of memory (ATen/native/cudnn/Conv_v8.cpp).
        r"unable to find an engine to execute this computation",
        # The allocator asks NVML for numbers to put into its message, which MIG and WSL2 refuse.
        r"NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        r"DefaultCPUAllocator: can't allocate memory",
        r"std::bad_alloc",
    ),
    *_rows(
        Fault.UNSUPPORTED,
        r"Rowwise scaling is not currently supported on your device",
        r"torch\._scaled_mm is only supported on",
        r"(?i:cutlass) cannot (?:implement|initialize|run)",
        r"CUBLAS_STATUS_(?:NOT_SUPPORTED|ARCH_MISMATCH)",
        remedy=_OTHER_PRECISION,
    ),
    *_rows(
        Fault.UNSUPPORTED,
        r"No available kernel\. +Aborting execution",
        r"cuDNN Frontend error: ",
        r"FlashAttention only supports",
        remedy=_PLAIN_ATTENTION,
    ),
    *_rows(Fault.UNSUPPORTED, r"CUDNN_STATUS_(?:NOT_SUPPORTED|ARCH_MISMATCH)", remedy=_PLAIN_KERNELS),
    *_rows(
        Fault.UNSUPPORTED,
        r"SETUP ERROR: Missing dependency",
        r"Native code method attempted to call: lib\.",
        r"cublasLt ran into an error",
        remedy=_NO_4_BIT,
    ),
    *_rows(
        Fault.UNSUPPORTED,
        r"out of resource: ",
        r"PTXASError|PTXAS error|`ptxas` failed",
        rf"{_CUDA}too many resources requested for launch",
        r"Triton Error \[CUDA\]: ",
        remedy=_UNCOMPILED,
    ),
    *_rows(
        Fault.UNSUPPORTED,
        rf"{_CUDA}no kernel image is available for execution on the device",
        rf"{_CUDA}device kernel image is invalid",
        rf"{_CUDA}the provided PTX was compiled with an unsupported toolchain",
        rf"{_CUDA}invalid device function",
        rf"{_CUDA}named symbol not found",
        rf"{_CUDA}operation not supported",
        rf"{_CUDA}CUDA driver version is insufficient for CUDA runtime version",
        r"CUDA NVRTC error: ",
        r"nvrtc: error: ",
        remedy=_OTHER_BUILD,
    ),
)
"""The first row that matches counts. What none matches is ordinary, such as CUBLAS_STATUS_EXECUTION_FAILED."""


def row_of(error: BaseException) -> Row:
    """Return what an error means: by torch's type for a full card, else by its text."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    text = str(error)
    return next((row for row in TABLE if row.pattern.search(text)), ORDINARY)


def fault_of(error: BaseException) -> Fault:
    """Return what follows from an error."""
    return row_of(error).fault


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device only lacked memory, which the next try may have."""
    return fault_of(error) is Fault.OUT_OF_MEMORY


def first_line(error: BaseException) -> str:
    """Return an error's text without torch's advice behind it, and no full stop; the type's name if it has none."""
    return str(error).strip().partition("\n")[0].rstrip(" .") or type(error).__name__
