"""Which kernels compute attention: diffusers' backends, one chosen per card, each tried before it is used."""

from __future__ import annotations

import importlib.util
from typing import Final

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn

from shared.domain.report import ChoiceReport
from worker.pipelines.device import Device, DeviceUnavailable
from worker.pipelines.wanted import check_attention_name

NATIVE: Final = AttentionBackendName.NATIVE.value
_FLASH_3: Final = AttentionBackendName._FLASH_3.value
_FLASH_3_PACKAGE: Final = "flash_attn_interface"
_HOPPER: Final = 9
_HEAD = (1, 128, 2, 128)
"""Batch, tokens, heads, and FLUX's size of a head."""


def choose_attention(wanted: str, device: Device) -> ChoiceReport:
    """Return the backend for this device, and why.

    Raises:
      DeviceUnavailable: the one that the settings demand does not work here.
      RequestError: see ``check_attention_name``.
    """
    check_attention_name(wanted)
    if wanted != "auto":
        if problem := _problem_of(wanted, device):
            raise DeviceUnavailable(f"FLUX_ATTENTION={wanted} does not work on this device: {problem}")
        return ChoiceReport(value=wanted, reason="FLUX_ATTENTION is set")
    if not device.is_cuda:
        return ChoiceReport(value=NATIVE, reason="PyTorch's own; the others are for cards")
    if device.capability[0] != _HOPPER:
        return ChoiceReport(
            value=NATIVE, reason="PyTorch's own: what is faster on this card computes with fewer bits (sage)"
        )
    if importlib.util.find_spec(_FLASH_3_PACKAGE) is None:
        return ChoiceReport(value=NATIVE, reason="PyTorch's own: FlashAttention 3 for this card is not installed")
    if problem := _problem_of(_FLASH_3, device):
        return ChoiceReport(value=NATIVE, reason=f"PyTorch's own: FlashAttention 3 does not work here: {problem}")
    return ChoiceReport(value=_FLASH_3, reason="FlashAttention 3 is installed, and made for this card")


def _problem_of(name: str, device: Device) -> str | None:
    """Return why a backend does not work here, after one small try."""
    query = torch.zeros(_HEAD, device=device.torch_device, dtype=device.dtype)
    try:
        with attention_backend(name):
            dispatch_attention_fn(query, query, query)
    except (RuntimeError, ValueError, ImportError, TypeError, AttributeError, NotImplementedError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return None
