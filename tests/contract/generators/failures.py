"""Ways in which a model on this machine fails, provoked inside of one of its modules."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shared.domain.errors import NumericError, OutOfMemory
from tests.contract.generators.conformance import Failure


def out_of_memory(module: torch.nn.Module) -> Failure:
    """The device runs out of memory inside of ``module``."""

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    @contextmanager
    def provoke() -> Iterator[None]:
        with module.register_forward_pre_hook(fail):
            yield

    return Failure(name="out of memory", provoke=provoke, raises=OutOfMemory, retryable=True)


def not_a_number(module: torch.nn.Module) -> Failure:
    """``module`` puts out NaN."""

    def poison(_module: object, _inputs: object, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (output[0] * float("nan"), *output[1:])

    @contextmanager
    def provoke() -> Iterator[None]:
        with module.register_forward_hook(poison):
            yield

    return Failure(name="NaN", provoke=provoke, raises=NumericError, retryable=False)
