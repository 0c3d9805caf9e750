"""Getting ready for the next job beside the running one: its prompt's embeddings, its modulation table.

Nothing depends on it: what was not foreseen, or foreseen wrongly, is made when the job comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from shared.domain.job import NextJob
from shared.domain.model import ModelFamily
from shared.domain.params import EditParams, JobParams
from shared.domain.precision import ResidencyKey
from shared.planner import Shape
from worker.pipelines.device import free_cached_memory, is_out_of_memory
from worker.pipelines.loader import LoadedPipeline
from worker.pipelines.placement import Placement, Unmanaged
from worker.pipelines.prompt_cache import prompt_key
from worker.pipelines.store import PipelineStore
from worker.pipelines.tables import Preparation


class EncodesPrompts(Protocol):
    """The part of ``PipelineCalls`` that is used here."""

    def encode(self, loaded: LoadedPipeline, placement: Placement | Unmanaged, params: Any) -> dict[str, Any]:
        """Return the prompt as arguments of the call; it is cached."""


class Ahead:
    """Follows one running job. Does something only where the next one will read a modulation table."""

    def __init__(
        self,
        store: PipelineStore,
        calls: EncodesPrompts,
        running: LoadedPipeline,
        placement: Placement | Unmanaged,
        expected: NextJob | None,
    ) -> None:
        self._store = store
        self._calls = calls
        self._placement = placement
        self._expected = expected
        self._next = _known(store, running, expected)
        self._table: Preparation | None = None

    def encode(self) -> None:
        """Encode the next prompt while the encoders are there for the running job's."""
        if self._next is None or self._expected is None or not self._placement.holds_encoders:
            return
        if self._needs_table(self._expected) and not self._store.prompts.peek(prompt_key(self._next, self._prompt)):
            with self._harmless():
                self._calls.encode(self._next, self._placement, self._expected.params)

    def begin(self) -> None:
        """Start the next table, or start it again, while the running job's first image is denoised."""
        self.close()
        if self._next is None or self._expected is None or not self._needs_table(self._expected):
            return
        embeds = self._store.prompts.peek(prompt_key(self._next, self._prompt))
        if embeds is not None:
            device = self._store.device.torch_device
            with self._harmless():
                self._table = self._store.prepare_table(
                    self._next, self._expected.params, lambda: embeds.pooled_prompt_embeds.to(device)
                )

    def step_done(self, share: float) -> None:
        """Go on as far as the running image has come: ``share`` of its steps, 0..1."""
        if self._table is not None:
            with self._harmless():
                self._table.advance(share)

    def close(self) -> None:
        """Leave off."""
        if self._table is not None:
            self._table.close()
            self._table = None

    @property
    def _prompt(self) -> str:
        return "" if self._expected is None else self._expected.params.prompt

    def _needs_table(self, expected: NextJob) -> bool:
        """Whether the next job's plan has a table, and there is room to make it now."""
        if not self._placement.has_room:
            return False
        return self._store.needs_table(
            ResidencyKey.parse(expected.residency), _shape(expected.params), self._placement.table_bytes
        )

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Give up rather than take memory from the running job."""
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.close()
            self._next = None
            free_cached_memory(self._store.device)


def _known(store: PipelineStore, running: LoadedPipeline, expected: NextJob | None) -> LoadedPipeline | None:
    """Return the next job's pipeline if it was used before and reads prompts as the running one does."""
    found = None if expected is None else store.known(ResidencyKey.parse(expected.residency))
    if found is None or not found.spec.family is running.spec.family is ModelFamily.FLUX:
        return None
    return found if found.encoders == running.encoders else None


def _shape(params: JobParams) -> Shape:
    """Return the shape of a job whose source picture, if any, is as large as its result."""
    pixels = params.width * params.height
    return Shape(pixels, pixels if isinstance(params, EditParams) else 0)
