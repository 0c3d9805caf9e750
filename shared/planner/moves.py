"""Bytes that come from host memory in the course of a job, once a layout is settled; what a layout is chosen by.

A card may hold the encoders for the encoding, the denoiser for the steps, and neither for the decode. What has no room
in a phase leaves before it, in parts and no more than must: the encoders first, then the end of the denoiser. It comes
back before the next phase that needs it. A job waits for that; it does not wait for the modulation layers that pass
over the card while a table is made, for that can be done beside the job before.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.planner.layout import Layout, Sizes
from shared.planner.mix import Mix


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Bytes. Leaving moves nothing, for masters stay in host memory; so what leaves counts when it comes back."""

    encoders: int = 0
    """Of the encoders, what a new prompt brings in."""
    model_after_encoders: int = 0
    """Of the model, what a new prompt brings back after its encoding and the last decode."""
    model_after_decode: int = 0
    """Of the model, what every job brings back after the last decode."""
    switch: int = 0
    """What a job for another model brings, on average."""
    beside: int = 0
    """What passes over the card for a new prompt's table, beside the job before."""

    @property
    def new_prompt(self) -> int:
        """What a job with a new prompt waits for, its model the last job's."""
        return self.encoders + self.model_after_encoders

    def per_job(self, mix: Mix) -> float:
        """Return what a job of the mix waits for, on average."""
        prompts = mix.new_prompts * self.new_prompt + (1 - mix.new_prompts) * self.model_after_decode
        return prompts + mix.switches * self.switch


def moves_of(sizes: Sizes, layout: Layout, usable_bytes: int, switch: int, modulation: int) -> Moves:
    """Return what moves; ``switch`` as in ``Moves``, ``modulation`` the layers that a table replaces.

    The layout must fit, see ``Sizes.fits``.
    """
    beside = modulation if layout.modulation_table else 0
    if layout.encoders_resident:
        return Moves(switch=switch, beside=beside)
    room = usable_bytes - sizes.staying
    both = sizes.own + sizes.encoders
    too_much_to_decode = max(0, both + sizes.decoding - room)
    leaves_for_steps = min(sizes.encoders, max(0, both + sizes.denoising - room))
    model_after_decode = max(0, too_much_to_decode - sizes.encoders)
    leaves_for_encoding = min(sizes.own, max(0, both + sizes.encoding - room))
    return Moves(
        encoders=max(leaves_for_steps, min(sizes.encoders, too_much_to_decode)),
        model_after_encoders=max(leaves_for_encoding, model_after_decode),
        model_after_decode=model_after_decode,
        switch=switch,
        beside=beside,
    )
