"""The adaLN modulation of a FLUX transformer as a table: 27 % of the weights act on one token per step.

What those layers put out depends on the step, the guidance and the pooled prompt, not on the picture. So it is
computed for all steps of a job at once, layer by layer, from weights that only pass through the device. Each layer
is replaced by a fixed buffer into which the step's row is copied before the transformer runs. In eager mode the
result is equal to the last bit: every row is computed alone, as in the plain forward.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle

from worker.pipelines.compiling import repeated_blocks
from worker.pipelines.conditioning import Conditioning, conditioning_of_call
from worker.pipelines.device_memory import Block, weights_of
from worker.pipelines.loader import Pipeline

_MODULATED = (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)

Layers = Generator[torch.nn.Module, None, None]
"""The modules of ``modulation_blocks`` in their order, each with its weights until the next comes."""

RowsOf = Callable[[Conditioning], torch.Tensor]
"""Returns the table of a job: (steps, sum of all modules' outputs)."""


def modulation_blocks(transformer: Any) -> list[Block]:
    """Return the weights of what acts on one token: the embedding of step and prompt, then each modulation layer."""
    inside = {norm: block for block in repeated_blocks(transformer) for norm in _norms(block)}
    embed = transformer.time_text_embed
    layers = [Block(tuple(weights_of(norm.linear)), norm.linear, inside.get(norm)) for norm in _norms(transformer)]
    return [Block(tuple(weights_of(embed)), embed), *layers]


@torch.no_grad()
def compute_rows(
    rows: torch.Tensor, widths: list[int], layers: Layers, conditioning: Conditioning
) -> Generator[None, None, None]:
    """Fill a table of shape (steps, sum of widths), one module between two yields."""
    parts = iter(torch.split(rows, widths, dim=1))
    embed, part = next(layers), next(parts)
    inputs = []
    for step, values in enumerate(conditioning.of_each_step()):  # one at a time: a product of many rows may round
        part[step] = embed(*values)[0]
        inputs.append(torch.nn.functional.silu(part[step : step + 1]))
    yield
    for layer, part in zip(layers, parts, strict=True):
        for step, value in enumerate(inputs):
            part[step] = layer(value)[0]
        yield


def table_widths(transformer: Any) -> list[int]:
    """Return the outputs per module, in the order of ``modulation_blocks``."""
    return [transformer.inner_dim, *(norm.linear.out_features for norm in _norms(transformer))]


class ModulationTable:
    """One job's use of its table, which is asked for at the first step."""

    def __init__(self, pipeline: Pipeline, rows_of: RowsOf) -> None:
        self._pipeline = pipeline
        self._rows_of = rows_of
        self._rows: torch.Tensor | None = None
        self._buffer: torch.Tensor | None = None
        self._step = 0

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the transformer read the table for one image, from its first step on."""
        transformer = self._pipeline.transformer
        places = [(transformer, "time_text_embed"), *((norm, "linear") for norm in _norms(transformer))]
        modules = [getattr(owner, name) for owner, name in places]
        widths = table_widths(transformer)
        readers = [_Row(width) for width in widths]
        _put(places, readers)
        hook = transformer.register_forward_pre_hook(
            lambda _, __, call: self._turn_to(call, readers, widths), with_kwargs=True
        )
        self._step = 0
        try:
            yield
        finally:
            hook.remove()
            _put(places, modules)

    def _turn_to(self, call: Mapping[str, Any], readers: list[_Row], widths: list[int]) -> None:
        """Put the next step's row where the readers look."""
        if self._rows is None or self._buffer is None:
            self._rows = self._rows_of(conditioning_of_call(self._pipeline.scheduler, call))
            self._buffer = torch.empty_like(self._rows[:1])
        if self._step == 0:
            for reader, part in zip(readers, torch.split(self._buffer, widths, dim=1), strict=True):
                reader.row = part
        self._buffer.copy_(self._rows[self._step : self._step + 1])
        self._step += 1


class _Row(torch.nn.Module):
    """Stands where a module was; ``row`` of shape (1, width) is the same memory at every step."""

    row: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_features = width  # as of the module it stands for

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        """Return what the module would have put out."""
        return self.row


def _put(places: list[tuple[Any, str]], modules: list[Any]) -> None:
    for (owner, name), module in zip(places, modules, strict=True):
        setattr(owner, name, module)


def _norms(module: Any) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, _MODULATED)]
