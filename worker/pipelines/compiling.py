"""Regional compilation: the repeated blocks of a transformer as compiled functions, with the plain blocks as a way out.

diffusers' ``compile_repeated_blocks`` compiles each block's call with its hooks. Here only ``forward`` is compiled, so
that hooks stay plain Python: the wait for weights that are on their way to the card, and those of a step cache. Torch
does not look whether a hook was added to compiled code, and would leave it out.

Sizes are symbols from the first call on. So one set of code serves every size and every model of equal blocks, and a
picture does not depend on which sizes came before it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog
import torch
import torch._dynamo

from worker.pipelines.error_texts import Fault, fault_of

log = structlog.get_logger(__name__)

_MOST_VARIANTS: Final = 64
"""Per kind of block: with and without modulation table, dtypes, layouts. Torch's own limit of 8 is soon reached."""


class CompiledBlocks:
    """The blocks of one transformer, compiled when they are called first; after one failure all run uncompiled.

    ``backend`` is torch.compile's.
    """

    def __init__(self, transformer: Any, backend: str = "inductor") -> None:
        self.trouble: str | None = None
        """Why nothing is compiled any more."""
        self.calls = 0
        """How often a compiled block ran."""
        for block in repeated_blocks(transformer):
            block.forward = self._with_way_out(block.forward, backend)

    def _with_way_out(self, plain: Callable[..., Any], backend: str) -> Callable[..., Any]:
        compiler: Callable[..., Any] = torch.compile  # its overloads lack recompile_limit
        compiled = compiler(plain, backend=backend, dynamic=True, fullgraph=True, **variants(compiler))

        @functools.wraps(plain)
        def forward(*args: Any, joint_attention_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
            # An image-prompt adapter's weight would be part of the code, which every other weight made anew.
            if self.trouble is not None or joint_attention_kwargs:
                return plain(*args, joint_attention_kwargs=joint_attention_kwargs, **kwargs)
            try:
                result = compiled(*args, joint_attention_kwargs=None, **kwargs)  # some pipelines pass {}, some None
            except Exception as error:  # whatever a compiler throws; what is no fault of its is raised again here
                if fault_of(error) in (Fault.LOST, Fault.OUT_OF_MEMORY):
                    raise
                result = plain(*args, joint_attention_kwargs=None, **kwargs)
                log.exception("cannot compile; going on uncompiled", action="compile_failed")
                self.trouble = _in_words(error)
            else:
                self.calls += 1
            return result

        return forward


def variants(compiler: Callable[..., Any]) -> dict[str, int]:
    """Return what tells ``torch.compile`` how many variants to keep; a torch without the argument has it set for all.

    ``recompile_limit`` came after the first versions that this project runs with; torch._dynamo.config is older.
    """
    if "recompile_limit" in inspect.signature(compiler).parameters:
        return {"recompile_limit": _MOST_VARIANTS}
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_VARIANTS)
    return {}


def repeated_blocks(transformer: Any) -> Iterator[Any]:
    """Yield the modules that diffusers names as worth compiling."""
    for module in transformer.modules():
        if type(module).__name__ in transformer._repeated_blocks:
            yield module


def _in_words(error: Exception) -> str:
    """Return the kind of an error and the first paragraph of its message in one line."""
    first = str(error).strip().partition("\n\n")[0]
    return f"{type(error).__name__}: {' '.join(first.split())}"
