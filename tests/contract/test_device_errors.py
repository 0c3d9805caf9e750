"""What each text that torch and CUDA's libraries print means for the process, the job and its owner, row by row."""

import pytest
import torch

from shared.domain.errors import DeviceLost, OutOfMemory, UnsupportedByDevice
from worker.pipelines.device import pick_device
from worker.pipelines.device_errors import device_faults
from worker.pipelines.error_texts import Fault, fault_of, is_out_of_memory

ADVICE = (
    "\nSearch for `cudaError' in CUDA's runtime API for more information.\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
"""What torch writes behind every error of CUDA's runtime, whichever it is."""

LOST = [
    "CUDA error: an illegal memory access was encountered" + ADVICE,
    "CUDA error: an illegal instruction was encountered" + ADVICE,
    "CUDA error: the launch timed out and was terminated" + ADVICE,
    "CUDA error: device-side assert triggered" + ADVICE,
    "CUDA error: hardware stack error" + ADVICE,
    "CUDA error: misaligned address" + ADVICE,
    "CUDA error: operation not supported on global/shared address space" + ADVICE,
    "CUDA error: invalid program counter" + ADVICE,
    "CUDA error: unspecified launch failure" + ADVICE,
    "CUDA error: uncorrectable ECC error encountered" + ADVICE,
    "CUDA error: uncorrectable NVLink error detected during the execution" + ADVICE,
    "CUDA error: context is destroyed" + ADVICE,
    "CUDA error: invalid device context" + ADVICE,
    "CUDA error: driver shutting down" + ADVICE,
    "CUDA error: initialization error" + ADVICE,
    "CUDA error: no CUDA-capable device is detected" + ADVICE,
    "CUDA error: unknown error" + ADVICE,
    "CUDA driver error: an illegal memory access was encountered",
    "CUDA driver error: unknown error",
    "Triton Error [CUDA]: an illegal memory access was encountered",
    "Triton Error [CUDA]: misaligned address",
]
OUT_OF_MEMORY = [
    "CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 31.37 GiB.",
    "CUDA error: out of memory" + ADVICE,
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasLtCreate(&handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation after trying 12 plans.",
    'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp":1016, please report a '
    "bug to PyTorch.",
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "34359738368 bytes. Error code 12 (Cannot allocate memory)",
    "std::bad_alloc",
    "backend='inductor' raised:\nOutOfMemoryError: CUDA out of memory. Tried to allocate 108.00 MiB.",
]
PRECISION, ATTENTION, COMPILE, DEVICE = "FLUX_PRECISION", "FLUX_ATTENTION=native", "FLUX_COMPILE=off", "FLUX_DEVICE=cpu"
UNSUPPORTED = [
    ("Rowwise scaling is not currently supported on your device", PRECISION),
    (
        "torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9, or ROCm MI300+",
        PRECISION,
    ),
    ("cutlass cannot implement", PRECISION),
    ("cutlass cannot initialize", PRECISION),
    ("cutlass cannot runError Internal", PRECISION),
    (
        "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic( ltHandle, "
        "computeDesc.descriptor(), Adesc.descriptor(), Bdesc.descriptor(), Cdesc.descriptor(), Ddesc.descriptor(), "
        "preference.descriptor(), 1, &heuristicResult, &returnedResult)`",
        PRECISION,
    ),
    ("CUDA error: CUBLAS_STATUS_ARCH_MISMATCH when calling `cublasGemmEx(handle, opa, opb)`", PRECISION),
    ("No available kernel.  Aborting execution.", ATTENTION),
    ("No available kernel. Aborting execution.", ATTENTION),
    ("cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.", ATTENTION),
    ("FlashAttention only supports Ampere GPUs or newer.", ATTENTION),
    (
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
        ATTENTION,
    ),
    ("cuDNN error: CUDNN_STATUS_ARCH_MISMATCH", ATTENTION),
    (
        "\n🚨 CUDA SETUP ERROR: Missing dependency: libnvJitLink.so.13 🚨\n\n"
        "Native code method attempted to call: lib.cdequantize_blockwise_bf16_nf4()",
        PRECISION,
    ),
    ("Native code method attempted to call: lib.cdequantize_blockwise_bf16_nf4()", PRECISION),
    ("cublasLt ran into an error!\n\tshapeA=torch.Size([9, 8]), shapeB=torch.Size([8, 8])", PRECISION),
    (
        "out of resource: shared memory, Required: 131072, Hardware limit: 101376. Reducing block sizes or "
        "`num_stages` may help.",
        COMPILE,
    ),
    ("PTXAS error: Internal Triton PTX codegen error", COMPILE),
    ("`ptxas` failed with error code 255: \nptxas fatal   : Value 'sm_121a' is not defined for option", COMPILE),
    ("Triton Error [CUDA]: device kernel image is invalid", COMPILE),
    ("Triton Error [CUDA]: invalid argument", COMPILE),
    ("CUDA error: too many resources requested for launch" + ADVICE, COMPILE),
    ("CUDA error: no kernel image is available for execution on the device" + ADVICE, DEVICE),
    ("CUDA error: device kernel image is invalid" + ADVICE, DEVICE),
    ("CUDA error: the provided PTX was compiled with an unsupported toolchain." + ADVICE, DEVICE),
    ("CUDA error: invalid device function" + ADVICE, DEVICE),
    ("CUDA error: named symbol not found" + ADVICE, DEVICE),
    ("CUDA error: operation not supported" + ADVICE, DEVICE),
    ("CUDA error: CUDA driver version is insufficient for CUDA runtime version" + ADVICE, DEVICE),
    ("CUDA NVRTC error: NVRTC_ERROR_BUILTIN_OPERATION_FAILURE", DEVICE),
    ("nvrtc: error: invalid value for --gpu-architecture (-arch)\n", DEVICE),
]
ORDINARY = [
    "mat1 and mat2 shapes cannot be multiplied (24x128 and 64x128)",
    "The size of tensor a (64) must match the size of tensor b (32) at non-singleton dimension 1",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(handle, opa, opb)`",
    "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasSgemm(handle, opa, opb)`",
    "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasGemmEx(handle, opa, opb)`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "CUDA error: invalid argument" + ADVICE,
    "CUDA error: invalid configuration argument" + ADVICE,
    "an unknown error in a prompt, of which nothing is known: out of memory, misaligned address",
    "",
]


def works():
    """A device that does what it is asked."""


def broken():
    raise RuntimeError("CUDA error: a word that no table knows" + ADVICE)


def full():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")


def raised(text, ask=works, kind=RuntimeError):
    """Return what leaves the work of a job in which torch raises this text."""
    error = kind(text)
    with pytest.raises(Exception) as caught, device_faults(ask):  # noqa: PT011
        raise error
    return caught.value


class TestTheTable:
    @pytest.mark.parametrize("text", LOST)
    def test_after_these_the_process_is_replaced(self, text):
        assert fault_of(RuntimeError(text)) is Fault.LOST
        lost = raised(text)
        assert isinstance(lost, DeviceLost)
        assert text.partition("\n")[0] in lost.message
        assert "device-side assertions" not in lost.message

    @pytest.mark.parametrize("text", OUT_OF_MEMORY)
    def test_these_are_a_lack_of_memory_and_may_be_tried_again(self, text):
        assert is_out_of_memory(RuntimeError(text))
        full = raised(text)
        assert isinstance(full, OutOfMemory)
        assert full.retryable

    @pytest.mark.parametrize(("text", "setting"), UNSUPPORTED)
    def test_these_end_the_job_with_the_setting_that_avoids_them(self, text, setting):
        assert fault_of(RuntimeError(text)) is Fault.UNSUPPORTED
        refused = raised(text)
        assert isinstance(refused, UnsupportedByDevice)
        assert setting in refused.message
        assert "\n" not in refused.message
        assert not refused.retryable

    @pytest.mark.parametrize("text", ORDINARY)
    def test_these_say_nothing_about_the_device_and_stay_what_they_are(self, text):
        assert fault_of(RuntimeError(text)) is Fault.ORDINARY
        error = raised(text)
        assert type(error) is RuntimeError
        assert str(error) == text

    @pytest.mark.parametrize("kind", [torch.AcceleratorError, RuntimeError])
    def test_the_text_decides_and_not_the_type(self, kind):
        assert isinstance(raised("CUDA error: out of memory", kind=kind), OutOfMemory)
        assert isinstance(raised("CUDA error: misaligned address", kind=kind), DeviceLost)
        assert type(raised("CUDA error: invalid argument", kind=kind)) is kind

    def test_torch_s_type_for_a_full_card_needs_no_text(self):
        assert is_out_of_memory(torch.OutOfMemoryError("HIP is full"))


class TestAnErrorThatDoesNotSay:
    @pytest.mark.parametrize("text", ORDINARY)
    def test_on_a_device_that_refuses_all_work_since_then_it_is_the_device(self, text):
        lost = raised(text, broken)
        assert isinstance(lost, DeviceLost)
        assert lost.message.endswith("It takes no more work: CUDA error: a word that no table knows")

    def test_a_device_that_is_only_full_is_not_lost(self):
        assert type(raised("CUDA error: invalid argument", full)) is RuntimeError

    def test_this_machine_s_processor_is_asked_and_answers(self):
        assert type(raised("shapes do not fit", pick_device("cpu").check)) is RuntimeError

    def test_other_errors_than_torch_s_are_not_asked_about(self):
        asked = []
        assert isinstance(raised("x", lambda: asked.append(1), KeyError), KeyError)
        assert asked == []


def test_a_lack_of_memory_keeps_no_tensor_of_the_work_that_failed():
    # Given work that fails deep inside, where it holds a tensor
    freed = []

    class Held:
        def __del__(self):
            freed.append(True)

    def deep():
        held = Held()
        raise torch.OutOfMemoryError(f"CUDA out of memory beside {type(held).__name__}")

    # When its error is turned into one for the job
    with pytest.raises(OutOfMemory) as caught, device_faults(works):
        deep()
    # Then what it held is free, although the error is still there
    assert freed == [True]
    assert "beside Held" in caught.value.message
