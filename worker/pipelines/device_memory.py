"""The way of weights to a device and off it again. Leaving is free: masters stay in host memory, read-only."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import torch

Weight = torch.Tensor
"""A parameter or buffer of a module; its ``data`` is replaced as it comes and goes."""

Arrival = Callable[[], None]
"""Lets the stream that is current when it is called read weights that were brought, all of them."""


@dataclass(frozen=True, slots=True)
class Block:
    """Weights that are needed together: those of a layer when it is called, others at once (``layer`` is unset)."""

    weights: tuple[Weight, ...]
    layer: torch.nn.Module | None = None
    inside: torch.nn.Module | None = None
    """The block that the layer is a part of: compiled code calls no hooks of its parts, so waits are at its door."""

    @property
    def door(self) -> torch.nn.Module | None:
        """The module whose call has to wait for the weights; ``None``: they are needed at once."""
        return self.inside or self.layer


class DeviceMemory(Protocol):
    """What differs between a card and the host."""

    def master(self, data: torch.Tensor) -> torch.Tensor:
        """Return the host copy of a weight, as good for transfers as there is room for."""

    def release(self, master: torch.Tensor) -> None:
        """Give back what a master took that nobody will ask for again."""

    def bring(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> Arrival:
        """Give every weight its values on the device, in the order of the blocks.

        A call of a block's door waits for its weights; others have to call what is returned.
        """

    def stream(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> Generator[Block, None, None]:
        """Yield each block with its values on the device until the next is asked for, which is on its way."""

    def absent(self, master: torch.Tensor) -> torch.Tensor:
        """Return what stands in for a weight that is not there: of its type and on the device, without a value."""

    @property
    def shortage(self) -> str | None:
        """What the host's memory lacks, in words for the owner of the machine; ``None``: nothing."""


class HostMemory:
    """Without a card the masters are the weights: nothing is copied."""

    shortage = None

    def master(self, data: torch.Tensor) -> torch.Tensor:
        """Return the weight itself."""
        return data

    def release(self, master: torch.Tensor) -> None:
        """Do nothing: it goes with the weight."""

    def bring(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> Arrival:
        """Point each weight at its master."""
        for block in blocks:
            for weight in block.weights:
                weight.data = masters[weight]
        return _nothing_to_wait_for

    def stream(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> Generator[Block, None, None]:
        """Point the weights of one block after the other at their masters."""
        for block in blocks:
            self.bring([block], masters)
            yield block

    def absent(self, master: torch.Tensor) -> torch.Tensor:
        """Return an empty tensor; whoever computes with it fails."""
        return master.new_empty(0)


class Master:
    """The host's copy of some weights, which are off the device at first. ``nbytes`` is what they take there."""

    def __init__(self, blocks: Sequence[Block], memory: DeviceMemory) -> None:
        self._memory = memory
        self._blocks = blocks
        self._arrival: Arrival = _nothing_to_wait_for
        self._masters: dict[Weight, torch.Tensor] = {}
        try:
            for weight in (weight for block in blocks for weight in block.weights):
                self._masters[weight] = memory.master(weight.data)
        except BaseException:  # the weights still have their values: whoever tries again finds all as it was
            self._give_back()
            raise
        self.nbytes = sum(master.nbytes for master in self._masters.values())
        self.evict()

    def bring(self, part: Sequence[Block] | None = None) -> None:
        """Put the weights on the device; with ``part`` those of some of the blocks."""
        self._arrival = self._memory.bring(self._blocks if part is None else part, self._masters)

    def evict(self, part: Sequence[Block] | None = None) -> None:
        """Take them off; nothing is copied back, for nothing ever changes them."""
        self._evict(self._masters if part is None else (weight for block in part for weight in block.weights))

    def release(self) -> None:
        """Give the host's copy back; the weights have no values from here on."""
        self.evict()
        self._give_back()

    def layers(self) -> Iterator[torch.nn.Module]:
        """Yield each layer where its weights were brought to; the current stream waits for them, as no door does."""
        self._arrival()
        for block in self._blocks:
            if block.layer is not None:
                yield block.layer

    def stream(self) -> Generator[torch.nn.Module, None, None]:
        """Yield each layer with its weights on the device until the next one is asked for, which is on its way.

        Nothing is left on the device, also when it is closed before its end.
        """
        passing = self._memory.stream(self._blocks, self._masters)
        try:
            for block in passing:
                if block.layer is not None:
                    yield block.layer
                self._evict(block.weights)
        finally:
            passing.close()
            self.evict()

    def _give_back(self) -> None:
        for master in self._masters.values():
            self._memory.release(master)
        self._masters.clear()

    def _evict(self, weights: Iterable[Weight]) -> None:
        for weight in weights:
            weight.data = self._memory.absent(self._masters[weight])


def blocks_of(module: torch.nn.Module, without: Set[Weight] = frozenset()) -> Iterator[Block]:
    """Yield a model's weights in order of use: first all that are in no list of layers, then layer by layer.

    A weight that is used in several places comes once; those in ``without`` do not come.
    """
    seen = set(without)
    layers = list(_layers(module))
    in_layers = {weight for layer in layers for weight in weights_of(layer)}
    yield Block(tuple(weight for weight in weights_of(module) if weight not in in_layers | seen))
    for layer in layers:
        yield Block(tuple(weight for weight in weights_of(layer) if weight not in seen), layer)
        seen.update(weights_of(layer))


def weights_of(module: torch.nn.Module) -> list[Weight]:
    """Return parameters and buffers, each once."""
    return list(dict.fromkeys((*module.parameters(), *module.buffers())))


def _layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the elements of the lists of layers that hang on the model or on a part of it."""
    for owner in (module, *module.children()):
        for child in owner.children():
            if isinstance(child, torch.nn.ModuleList):
                yield from child


def _nothing_to_wait_for() -> None:
    pass
