"""The ways to lay models out on a card, in order of preference, and how many bytes each takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.domain.precision import Precision, ResidencyKey
from shared.planner.budget import Budget
from shared.planner.sizes import encode_bytes, working_bytes
from shared.planner.specs import GpuSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How many of the wanted models are warm at once, and what is done to make room for them."""

    warm: int
    encoders_resident: bool = True
    """Else they take turns with the one warm model: in for a new prompt, out for its denoising."""
    tiled_decode: bool = False
    modulation_table: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The largest image to be made, and the picture an edit attends to, in pixels."""

    pixels: int = 1024 * 1024
    reference_pixels: int = 1024 * 1024


def layouts(count: int, precision: Precision, budget: Budget) -> Iterator[Layout]:
    """Yield every layout for ``count`` models, the best first.

    More warm models before an untiled decode, that before modulation layers that stay. Encoders leave only where one
    model alone leaves them no room. So a card with more memory never keeps less than a smaller one. Exact jobs are
    never decoded in tiles, which would change pixels; a CPU has no reason for a table or a turn.
    """
    tilings = (False,) if precision is Precision.EXACT else (False, True)
    tables = (False,) if budget.is_cpu else (False, True)
    for encoders_resident, most in ((True, count), (False, 1)):
        for warm in range(most, 0, -1):
            for tiled in tilings:
                for table in tables:
                    yield Layout(
                        warm=warm, encoders_resident=encoders_resident, tiled_decode=tiled, modulation_table=table
                    )
        if budget.is_cpu:
            return


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one layout with certain models; a card must hold the larger of the two moments."""

    denoisers: int
    adapters: int
    encoders: int
    """Those of words, and those of the pictures that adapters follow."""
    vaes: int
    table: int
    working: int
    encoding: int
    """Working memory while a prompt is encoded; not at the same time as ``working``."""

    def peak(self, *, encoders_resident: bool) -> int:
        """Return the bytes at the worst moment."""
        beside = self.denoisers + self.adapters + self.vaes + self.table + self.working
        if encoders_resident:
            return beside + self.encoders + max(0, self.encoding - self.working)
        return max(beside, self.encoders + self.adapters + self.vaes + self.encoding)


def sizes_of(
    keys: Sequence[ResidencyKey], specs: Mapping[ResidencyKey, GpuSpec], layout: Layout, budget: Budget, shape: Shape
) -> Sizes:
    """Return what the first ``layout.warm`` of ``keys`` take, shared parts counted once.

    float32 on a CPU, so twice the bytes there of all that is not quantized.
    """
    warm = keys[: layout.warm]
    bits, widening = budget.bits, budget.bits // 16
    table = layout.modulation_table
    denoisers = {
        (key.model, key.precision): specs[key].own_bytes(key.precision, table=table, bits=bits) for key in warm
    }
    adapters = {(key.model, key.adapter): specs[key].adapter_bytes for key in warm}
    encoders = {(specs[key].group, key.precision): specs[key].encoder_bytes(key.precision, bits=bits) for key in warm}
    image_encoders = {specs[key].image_encoder: specs[key].image_encoder_bytes for key in warm}
    vaes = {specs[key].group: specs[key].vae_bytes for key in warm}
    return Sizes(
        denoisers=sum(denoisers.values()),
        adapters=widening * sum(adapters.values()),
        encoders=sum(encoders.values()) + widening * sum(image_encoders.values()),
        vaes=widening * sum(vaes.values()),
        table=max(specs[key].table_bytes() for key in warm) if table else 0,
        # Of all that are wanted, so that the memory for a job does not depend on how many are warm.
        working=widening * max(_working(specs[key], shape, layout) for key in keys),
        encoding=widening * max(encode_bytes(specs[key].text_tokens) for key in keys),
    )


def _working(spec: GpuSpec, shape: Shape, layout: Layout) -> int:
    reference = shape.reference_pixels if spec.attends_to_source else 0
    return working_bytes(shape.pixels, spec.text_tokens, reference_pixels=reference, tiled=layout.tiled_decode)
