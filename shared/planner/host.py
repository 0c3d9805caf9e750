"""The host's side: which masters are pinned, which pass through the ring, and what a transfer costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.domain.precision import ResidencyKey
from shared.planner.budget import RING_SHARE, Budget
from shared.planner.specs import GpuSpec


@dataclass(frozen=True, slots=True)
class Transfer:
    """A model that is not warm, and what bringing it in costs; ``pinned`` when its master is in pinned memory."""

    key: ResidencyKey
    bytes: int
    seconds: float
    pinned: bool


def pinned_masters(
    order: Iterable[ResidencyKey], by_key: Mapping[ResidencyKey, GpuSpec], budget: Budget
) -> frozenset[ResidencyKey]:
    """Return the models, in order of need, whose masters may be pinned; the others go through the ring."""
    pinned: set[ResidencyKey] = set()
    for key in order:
        if master_bytes({*pinned, key}, by_key) > budget.pinnable_bytes:
            break
        pinned.add(key)
    return frozenset(pinned)


def master_bytes(keys: Iterable[ResidencyKey], by_key: Mapping[ResidencyKey, GpuSpec]) -> int:
    """Return the bytes that the masters of these models take in host memory, shared parts counted once."""
    keys = list(keys)
    specs = [(by_key[key], key.precision) for key in keys]
    denoisers = {(spec.model, precision): spec.master_bytes(precision) for spec, precision in specs}
    adapters = {(key.model, key.adapter): by_key[key].adapter_bytes for key in keys}
    image_encoders = {spec.image_encoder: spec.image_encoder_bytes for spec, _ in specs}
    shared = {(spec.group, precision): spec.encoder_bytes(precision) + spec.vae_bytes for spec, precision in specs}
    return sum(sum(part.values()) for part in (denoisers, adapters, image_encoders, shared))


def transfer_of(key: ResidencyKey, size: int, budget: Budget, pinned: bool) -> Transfer:
    """Return what bringing ``size`` bytes of a model to the card costs."""
    rate = budget.link_bytes_per_second * (1.0 if pinned else RING_SHARE)
    return Transfer(key, size, round(size / rate, 3), pinned)
