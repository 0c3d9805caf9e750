"""Which kernels compute attention: diffusers' backends, one chosen per card, each tried before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn

from shared.domain.report import ChoiceReport
from worker.pipelines.device import Device, DeviceUnavailable
from worker.pipelines.trial import problem_of, seconds_of
from worker.pipelines.wanted import check_attention_name

NATIVE: Final = AttentionBackendName.NATIVE.value
_FLASH_3: Final = AttentionBackendName._FLASH_3.value
_CUDNN: Final = AttentionBackendName._NATIVE_CUDNN.value
_HOPPER: Final = 9
_CLEARLY: Final = 1.1
_SMALL: Final = (1, 128, 2, 128)
"""Batch, tokens, heads, and FLUX's size of a head."""
_LARGE: Final = (1, 4608, 24, 128)
"""The same for FLUX.1, a picture of 1024 x 1024 pixels and a prompt of 512 tokens."""


def choose_attention(wanted: str, device: Device, seconds: Callable[[str], float] | None = None) -> ChoiceReport:
    """Return the backend for this device, and why.

    ``seconds`` returns what one attention of FLUX's size takes with a backend, and raises where that does not work;
    unset: it is measured on the device.

    Raises:
      DeviceUnavailable: the one that the settings demand does not work here.
      RequestError: see ``check_attention_name``.
      DeviceLost: a backend that was tried cost this process its device.
    """
    check_attention_name(wanted)
    if wanted != "auto":
        if problem := problem_of(lambda: _attend(wanted, _SMALL, device), device):
            raise DeviceUnavailable(f"FLUX_ATTENTION={wanted} does not work on this device: {problem}")
        return ChoiceReport(value=wanted, reason="FLUX_ATTENTION is set")
    if not device.is_cuda:
        return ChoiceReport(value=NATIVE, reason="PyTorch's own; the others are for cards")
    if device.capability[0] != _HOPPER:
        return ChoiceReport(
            value=NATIVE, reason="PyTorch's own: what is faster on this card computes with fewer bits (sage)"
        )
    return _fastest(device, seconds or (lambda name: seconds_of(lambda: _attend(name, _LARGE, device), device)))


def _fastest(device: Device, seconds: Callable[[str], float]) -> ChoiceReport:
    """Return PyTorch's own, or another backend with all bits that is clearly faster in a trial.

    Clearly, so that it is the same one after each start: backends round in different places.
    """
    taken: dict[str, float] = {}
    said = []
    for name in (NATIVE, _CUDNN, _FLASH_3):

        def measure(name: str = name) -> None:
            taken[name] = seconds(name)

        problem = problem_of(measure, device)
        said.append(f"{name} does not work here ({problem})" if problem else f"{name} {1000 * taken[name]:.2f} ms")
    best = min(taken, key=lambda name: taken[name], default=NATIVE)
    if NATIVE in taken and taken[NATIVE] < _CLEARLY * taken[best]:
        best = NATIVE
    rule = f"another than native has to be {_CLEARLY - 1:.0%} faster, so that each start chooses the same"
    return ChoiceReport(value=best, reason=f"tried at start on {_LARGE[1]} tokens: {', '.join(said)}; {rule}")


@torch.no_grad()
def _attend(name: str, shape: tuple[int, ...], device: Device) -> None:
    query = torch.zeros(shape, device=device.torch_device, dtype=device.dtype)
    with attention_backend(name):
        dispatch_attention_fn(query, query, query)
