"""The host's side: which masters are there, which are pinned, which pass through the ring, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.domain.precision import Precision, ResidencyKey
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


def leaving(
    loaded: Sequence[ResidencyKey], coming: ResidencyKey, by_key: Mapping[ResidencyKey, GpuSpec], budget: Budget
) -> tuple[ResidencyKey, ...]:
    """Return which of ``loaded``, least recently used first, leave host memory for a model that is not there yet.

    As many as must, for all to fit into the part that may be taken for good. On a card, exact ones do not give way to
    each other: what of them is not pinned are pages of their files, which the system itself drops and reads again.
    """
    left = list(loaded)
    for key in loaded:
        if master_bytes((*left, coming), by_key, bits=budget.bits) <= budget.pinnable_bytes:
            break
        if budget.is_cpu or {key.precision, coming.precision} != {Precision.EXACT}:
            left.remove(key)
    return tuple(key for key in loaded if key not in left)


def master_bytes(keys: Iterable[ResidencyKey], by_key: Mapping[ResidencyKey, GpuSpec], *, bits: int = 16) -> int:
    """Return the bytes that the masters of these models take in host memory, shared parts counted once."""
    keys = list(keys)
    specs = [(by_key[key], key.precision) for key in keys]
    denoisers = {(spec.model, p): spec.own_bytes(p, table=False, bits=bits) for spec, p in specs}
    encoders = {(spec.group, p): spec.encoder_bytes(p, bits=bits) for spec, p in specs}
    plain = (
        {(spec.group, p): spec.vae_bytes for spec, p in specs},
        {(key.model, key.adapter): by_key[key].adapter_bytes for key in keys},
        {spec.image_encoder: spec.image_encoder_bytes for spec, _ in specs},
    )
    never_quantized = sum(sum(part.values()) for part in plain) * bits // 16
    return sum(denoisers.values()) + sum(encoders.values()) + never_quantized


def transfer_of(key: ResidencyKey, size: int, budget: Budget, pinned: bool) -> Transfer:
    """Return what bringing ``size`` bytes of a model to the card costs."""
    rate = budget.link_bytes_per_second * (1.0 if pinned else RING_SHARE)
    return Transfer(key, size, round(size / rate, 3), pinned)
