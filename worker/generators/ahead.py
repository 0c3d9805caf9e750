"""Getting ready for the next job beside the running one: its weights, its prompt's embeddings, its modulation table.

Nothing depends on it: what was not foreseen, or foreseen wrongly, is made when the job comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

from shared.domain.errors import OutOfMemory
from shared.domain.job import NextJob
from shared.domain.model import ModelFamily
from shared.domain.params import EditParams, JobParams
from shared.domain.precision import ResidencyKey
from shared.planner import Shape
from worker.generators.interface import Foresight
from worker.pipelines.device import free_cached_memory
from worker.pipelines.error_texts import is_out_of_memory
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
    """Follows one running job; asks for the next one only where there is room to get ready for it."""

    def __init__(
        self,
        store: PipelineStore,
        calls: EncodesPrompts,
        running: LoadedPipeline,
        placement: Placement | Unmanaged,
        foresight: Foresight,
    ) -> None:
        self._store = store
        self._calls = calls
        self._running = running
        self._placement = placement
        self._foresight = foresight
        self._table: Preparation | None = None

    def bring(self) -> None:
        """Bring the next model's weights beside the running one's."""
        if self._placement.has_room and self._expected is not None:
            self._store.prefetch(self._expected.residency)

    def encode(self) -> None:
        """Encode the next prompt while the encoders are there for the running job's."""
        if not self._placement.holds_encoders or (found := self._next_with_table()) is None:
            return
        pipeline, expected = found
        if not self._store.prompts.peek(prompt_key(pipeline, expected.params.prompt)):
            with self._harmless():
                self._calls.encode(pipeline, self._placement, expected.params)

    def begin(self) -> None:
        """Start the next table, or start it again, while the running job's first image is denoised."""
        self.close()
        if (found := self._next_with_table()) is None:
            return
        pipeline, expected = found
        embeds = self._store.prompts.peek(prompt_key(pipeline, expected.params.prompt))
        if embeds is not None:
            device = self._store.device.torch_device
            with self._harmless():
                self._table = self._store.prepare_table(
                    pipeline, expected.params, lambda: embeds.pooled_prompt_embeds.to(device)
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

    @cached_property
    def _expected(self) -> NextJob | None:
        return self._foresight()

    @cached_property
    def _next(self) -> LoadedPipeline | None:
        """The next job's pipeline if it was used before and reads prompts as the running one does."""
        found = None if self._expected is None else self._store.known(ResidencyKey.parse(self._expected.residency))
        if found is None or not found.spec.family is self._running.spec.family is ModelFamily.FLUX:
            return None
        return found if found.encoders == self._running.encoders else None

    def _next_with_table(self) -> tuple[LoadedPipeline, NextJob] | None:
        """Return the next job and its pipeline if its plan has a table, and there is room to make it now."""
        if not self._placement.has_room or self._expected is None or self._next is None:
            return None
        key, shape = ResidencyKey.parse(self._expected.residency), _shape(self._expected.params)
        needs = self._store.needs_table(key, shape, self._placement.table_bytes)
        return (self._next, self._expected) if needs else None

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Give up rather than take memory from the running job."""
        try:
            yield
        except (RuntimeError, OutOfMemory) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            self.close()
            self._next = None
            free_cached_memory(self._store.device)


def _shape(params: JobParams) -> Shape:
    """Return the shape of a job whose source picture, if any, is as large as its result."""
    pixels = params.width * params.height
    return Shape(pixels, pixels if isinstance(params, EditParams) else 0)
