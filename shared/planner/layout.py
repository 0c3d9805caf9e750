"""The ways to lay models out on a card, and how many bytes each takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.domain.precision import Precision, ResidencyKey
from shared.planner.budget import Budget
from shared.planner.sizes import decoding_bytes, denoising_bytes, encode_bytes
from shared.planner.specs import GpuSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How many of the wanted models are warm at once, and what is done to make room for them."""

    warm: int
    encoders_resident: bool = True
    """Else they leave for the phases in which they have no room, whole or in part; see ``shared.planner.moves``."""
    tiled_decode: bool = False
    modulation_table: bool = False

    @property
    def tiled_in_vain(self) -> bool:
        """Whether pixels are changed and encoders leave nevertheless; only where nothing else fits."""
        return self.tiled_decode and not self.encoders_resident


@dataclass(frozen=True, slots=True)
class Shape:
    """The largest image to be made, and the picture that a job starts from or edits, in pixels."""

    pixels: int = 1024 * 1024
    reference_pixels: int = 1024 * 1024


def layouts(count: int, precision: Precision, budget: Budget) -> Iterator[Layout]:
    """Yield every layout for ``count`` models; of those that move equal bytes, the one to prefer comes first.

    More warm models before an untiled decode, that before encoders that stay, those before modulation layers that do.
    Exact jobs are never decoded in tiles, which would change pixels; a CPU has no reason for a table or a turn.
    """
    tilings = (False,) if precision is Precision.EXACT else (False, True)
    choices = (False,) if budget.is_cpu else (False, True)
    for warm in range(count, 0, -1):
        for tiled in tilings:
            for leaving in choices:
                for table in choices:
                    yield Layout(warm=warm, encoders_resident=not leaving, tiled_decode=tiled, modulation_table=table)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one layout with certain models; a card must hold what each phase of a job needs."""

    own: int
    """The denoiser of the job's own model."""
    denoisers: int
    """All warm ones, the job's own too."""
    adapters: int
    encoders: int
    """Those of words, and those of the pictures that adapters follow."""
    vaes: int
    table: int
    encoding: int
    """Working memory while a prompt is encoded."""
    denoising: int
    """Working memory of the steps, and of reading a picture before them."""
    decoding: int
    """Working memory while latents become pixels."""

    @property
    def staying(self) -> int:
        """What never leaves in the course of a job: all but the encoders and the job's own denoiser."""
        return self.denoisers - self.own + self.adapters + self.vaes + self.table

    def needed(self, layout: Layout) -> int:
        """Return what a card must hold at the worst moment.

        Where encoders leave, the job's own denoiser may leave too, for the encoding and the decode; beside other warm
        models it must not, for those would be what has no room.
        """
        if layout.encoders_resident:
            return self.staying + self.own + self.encoders + max(self.encoding, self.denoising, self.decoding)
        own_away = self.own if layout.warm == 1 else 0
        phases = (self.own + self.encoders + self.encoding - own_away, self.own + self.denoising)
        return self.staying + max(*phases, self.own + self.decoding - own_away)

    def peak(self, layout: Layout, usable_bytes: int) -> int:
        """Return the bytes at the worst moment, encoders that leave counted where they are needed only."""
        with_model = self.staying + self.own + max(self.denoising, self.decoding)
        return max(self.needed(layout), min(with_model, usable_bytes))


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
        own=denoisers[keys[0].model, keys[0].precision],
        denoisers=sum(denoisers.values()),
        adapters=widening * sum(adapters.values()),
        encoders=sum(encoders.values()) + widening * sum(image_encoders.values()),
        vaes=widening * sum(vaes.values()),
        table=max(specs[key].table_bytes() for key in warm) if table else 0,
        # Of all that are wanted, so that the memory for a job does not depend on how many are warm.
        encoding=widening * max(encode_bytes(specs[key].text_tokens) for key in keys),
        denoising=widening * max(_denoising(specs[key], shape) for key in keys),
        decoding=widening * decoding_bytes(shape.pixels, tiled=layout.tiled_decode),
    )


def _denoising(spec: GpuSpec, shape: Shape) -> int:
    attended = shape.reference_pixels if spec.attends_to_source else 0
    return denoising_bytes(
        shape.pixels, spec.text_tokens, attended_pixels=attended, source_pixels=shape.reference_pixels
    )
