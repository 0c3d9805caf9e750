"""Prompt embeddings by what they depend on, so that a prompt is encoded once. Kept in host memory, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
import torch

from worker.pipelines.loader import LoadedPipeline

log = structlog.get_logger(__name__)


class PromptKey(NamedTuple):
    """Everything an embedding depends on; equal keys have equal embeddings."""

    encoders: str
    """Digest of text encoders and tokenizers, each with its format of weights."""
    max_sequence_length: int
    prompt: str


def prompt_key(loaded: LoadedPipeline, prompt: str) -> PromptKey:
    """Return what a FLUX pipeline's embeddings of a prompt depend on."""
    return PromptKey(loaded.encoders, loaded.spec.max_sequence_length, prompt)


@dataclass(frozen=True, slots=True)
class PromptEmbeds:
    """T5 states of shape (1, tokens, width), CLIP's pooled state of shape (1, width)."""

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.prompt_embeds.nbytes + self.pooled_prompt_embeds.nbytes

    def to(self, device: torch.device) -> PromptEmbeds:
        """Return the same values on a device."""
        return PromptEmbeds(self.prompt_embeds.to(device), self.pooled_prompt_embeds.to(device))


class PromptCache:
    """Least recently used goes first. 512 tokens of FLUX.1 are 4.2 MB in bfloat16."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[PromptKey, PromptEmbeds] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self._bytes

    def get(self, key: PromptKey, device: torch.device, encode: Callable[[], PromptEmbeds]) -> PromptEmbeds:
        """Return the embeddings on ``device``; ``encode`` is called only when they are not known yet."""
        known = self._entries.get(key)
        log.info("prompt", action="prompt_cache", hit=known is not None, cached_bytes=self._bytes)
        if known is not None:
            self._entries.move_to_end(key)
            return known.to(device)
        made = encode()
        self._keep(key, made.to(torch.device("cpu")))
        return made

    def peek(self, key: PromptKey) -> PromptEmbeds | None:
        """Return the embeddings in host memory if they are known."""
        return self._entries.get(key)

    def _keep(self, key: PromptKey, made: PromptEmbeds) -> None:
        if made.nbytes > self._max_bytes:
            return
        self._entries[key] = made
        self._bytes += made.nbytes
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.nbytes
