"""The adaLN modulation of a FLUX transformer as a table: 27 % of the weights act on one token per step.

What those layers put out depends on the step, the guidance and the pooled prompt, not on the picture. So it is
computed for all steps of a job at once, layer by layer, from weights that only pass through the device. Each layer
is replaced by a fixed buffer into which the step's row is copied before the transformer runs. In eager mode the
result is equal to the last bit: every row is computed alone, as in the plain forward.

The arithmetic before the layers is that of diffusers 0.42: ``timestep`` in the pipelines' loops and
``FluxTransformer2DModel.forward``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle

from worker.pipelines.compiling import repeated_blocks
from worker.pipelines.device_memory import Block, weights_of
from worker.pipelines.loader import Pipeline

_MODULATED = (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)

StreamLayers = Callable[[], Iterator[torch.nn.Module]]
"""Yields the modulation layers in the order of ``modulation_blocks``, each with its weights until the next comes."""


def modulation_blocks(transformer: Any) -> list[Block]:
    """Return the weights of every modulation layer."""
    inside = {norm: block for block in repeated_blocks(transformer) for norm in _norms(block)}
    return [Block(tuple(weights_of(norm.linear)), norm.linear, inside.get(norm)) for norm in _norms(transformer)]


class ModulationTable:
    """The rows of one job: tensor of shape (steps, sum of all layers' outputs), made at the first step."""

    def __init__(self, pipeline: Pipeline, stream_layers: StreamLayers) -> None:
        self._pipeline = pipeline
        self._norms = _norms(pipeline.transformer)
        self._widths = [norm.linear.out_features for norm in self._norms]
        self._stream_layers = stream_layers
        self._rows: torch.Tensor | None = None
        self._buffer: torch.Tensor | None = None
        self._step = 0

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the transformer read the table for one image, from its first step on."""
        layers = [norm.linear for norm in self._norms]
        readers = [_Row() for _ in layers]
        for norm, reader in zip(self._norms, readers, strict=True):
            norm.linear = reader
        transformer = self._pipeline.transformer
        hook = transformer.register_forward_pre_hook(lambda _, __, call: self._turn_to(call, readers), with_kwargs=True)
        self._step = 0
        try:
            yield
        finally:
            hook.remove()
            for norm, layer in zip(self._norms, layers, strict=True):
                norm.linear = layer

    def _turn_to(self, call: Mapping[str, Any], readers: list[_Row]) -> None:
        """Put the next step's row where the readers look."""
        if self._rows is None or self._buffer is None:
            self._rows = self._compute(call)
            self._buffer = torch.empty_like(self._rows[:1])
        if self._step == 0:
            for reader, part in zip(readers, torch.split(self._buffer, self._widths, dim=1), strict=True):
                reader.row = part
        self._buffer.copy_(self._rows[self._step : self._step + 1])
        self._step += 1

    @torch.no_grad()
    def _compute(self, call: Mapping[str, Any]) -> torch.Tensor:
        inputs = [torch.nn.functional.silu(temb) for temb in self._embeddings(call)]
        rows = torch.empty(len(inputs), sum(self._widths), dtype=inputs[0].dtype, device=inputs[0].device)
        for layer, part in zip(self._stream_layers(), torch.split(rows, self._widths, dim=1), strict=True):
            for step, value in enumerate(inputs):  # one at a time: a product of many rows may round otherwise
                part[step] = layer(value)[0]
        return rows

    def _embeddings(self, call: Mapping[str, Any]) -> Iterator[torch.Tensor]:
        """Yield what the modulation layers see at each step, of shape (1, width)."""
        transformer, guidance, dtype = self._pipeline.transformer, call["guidance"], call["hidden_states"].dtype
        scheduler = self._pipeline.scheduler
        # A job that starts from a picture begins later in the schedule.
        timesteps = scheduler.timesteps[scheduler.begin_index or 0 :].to(call["timestep"].dtype) / 1000
        if not torch.equal(timesteps[:1], call["timestep"]):
            raise RuntimeError("the pipeline's timesteps are not the scheduler's: no table can be made for it")
        known = () if guidance is None else (guidance.to(dtype) * 1000,)
        for timestep in timesteps.split(1):
            yield transformer.time_text_embed(timestep.to(dtype) * 1000, *known, call["pooled_projections"])


class _Row(torch.nn.Module):
    """Stands where a modulation layer was; ``row`` of shape (1, width) is the same memory at every step."""

    row: torch.Tensor

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return what the layer would have put out."""
        return self.row


def _norms(module: Any) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, _MODULATED)]
