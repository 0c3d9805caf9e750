"""What every generator promises. An adapter joins by a subclass of `GeneratorConformance` with a fixture `subject`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.domain.errors import CapabilityError, ServiceError
from shared.domain.prompt_config import PromptConfig
from shared.domain.status import Phase
from worker.cancellation import JobInterrupted, StopReason
from worker.generators.interface import ImageGeneratorInterface, SilentContext


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A way to make the generator fail: while ``provoke()`` is entered, ``generate`` raises ``raises``."""

    name: str
    provoke: Callable[[], AbstractContextManager[object]]
    raises: type[ServiceError]
    retryable: bool


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One adapter, and what the suite must know to try it."""

    generator: ImageGeneratorInterface
    options: dict[str, Any]
    """A small and quick job: width, height, seed and at least two steps; ``model`` where there is a choice."""
    unsupported: Sequence[dict[str, Any]] = ()
    """Options, each of which it cannot do."""
    failures: Sequence[Failure] = ()
    is_deterministic: bool = True
    """The same seed gives the same pixels."""

    def generate(self, prompt: str = "a red circle", **changes: Any) -> list[Image.Image]:
        return self.generator.generate(prompt, **{**self.options, **changes})


class RecordingContext(SilentContext):
    """Remembers what it is told, and stops the work where it is asked to."""

    def __init__(self, *, stop_at_step: int | None = None, stop_at_once: bool = False) -> None:
        self.phases: list[Phase] = []
        self.steps: list[tuple[int, int]] = []
        self.images: list[tuple[int, Image.Image]] = []
        self.warnings: list[str] = []
        self.has_stopped = False
        self._stop_at_step = stop_at_step
        self._stop_at_once = stop_at_once

    def on_phase(self, phase: Phase) -> None:
        self.phases.append(phase)
        self.raise_if_cancelled()

    def on_step(self, step: int, total_steps: int) -> None:
        self.steps.append((step, total_steps))
        if self._stop_at_step is not None and step >= self._stop_at_step:
            self._stop()

    def on_image(self, index: int, image: Image.Image) -> None:
        self.images.append((index, image.copy()))

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def raise_if_cancelled(self) -> None:
        if self._stop_at_once or self.has_stopped:
            self._stop()

    def _stop(self) -> None:
        self.has_stopped = True
        raise JobInterrupted(StopReason.USER_REQUEST)


def same(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second))


class GeneratorConformance:
    """Subclass it as ``Test...`` and give it a fixture ``subject`` that returns a ``Subject``."""

    def test_the_result_is_a_list_of_rgb_pictures_of_the_count_and_size_asked_for(self, subject: Subject) -> None:
        images = subject.generate(num_images=2)
        size = (subject.options["width"], subject.options["height"])
        assert isinstance(images, list)
        assert [(type(image), image.mode, image.size) for image in images] == [(Image.Image, "RGB", size)] * 2

    def test_each_picture_is_handed_over_in_order_and_is_the_one_returned(self, subject: Subject) -> None:
        context = RecordingContext()
        images = subject.generate(num_images=2, context=context)
        assert [index for index, _ in context.images] == [0, 1]
        assert all(same(image, handed) for image, (_, handed) in zip(images, context.images, strict=True))

    def test_steps_are_told_in_order_and_never_beyond_their_total(self, subject: Subject) -> None:
        context = RecordingContext()
        subject.generate(context=context)
        steps = [step for step, _ in context.steps]
        assert steps == sorted(steps)
        assert all(1 <= step <= total for step, total in context.steps)

    def test_the_same_seed_gives_the_same_picture_whatever_ran_before(self, subject: Subject) -> None:
        self._needs_determinism(subject)
        first = subject.generate()[0]
        subject.generate("something else", seed=subject.options["seed"] + 9)
        assert same(first, subject.generate()[0])

    def test_image_i_is_that_of_seed_plus_i(self, subject: Subject) -> None:
        self._needs_determinism(subject)
        second = subject.generate(num_images=2)[1]
        assert same(second, subject.generate(seed=subject.options["seed"] + 1)[0])

    def test_prompt_and_seed_matter(self, subject: Subject) -> None:
        base = subject.generate()[0]
        assert not same(base, subject.generate("a blue square")[0])
        assert not same(base, subject.generate(seed=subject.options["seed"] + 1)[0])

    def test_a_cancel_stops_before_the_next_step(self, subject: Subject) -> None:
        # Given a job of two pictures that somebody stops at its first step
        context = RecordingContext(stop_at_step=1)
        # When it runs
        with pytest.raises(JobInterrupted) as stopped:
            subject.generate(num_images=2, context=context)
        # Then nothing was done after that step
        assert stopped.value.reason is StopReason.USER_REQUEST
        assert len(context.steps) == 1
        assert context.images == []

    def test_a_job_that_is_cancelled_already_does_no_step(self, subject: Subject) -> None:
        context = RecordingContext(stop_at_once=True)
        with pytest.raises(JobInterrupted):
            subject.generate(context=context)
        assert (context.steps, context.images) == ([], [])

    def test_after_a_cancel_all_is_as_before(self, subject: Subject) -> None:
        self._needs_determinism(subject)
        before = subject.generate()[0]
        with pytest.raises(JobInterrupted):
            subject.generate("a blue square", context=RecordingContext(stop_at_step=1))
        assert same(before, subject.generate()[0])

    def test_what_it_cannot_do_is_refused_before_any_work(self, subject: Subject) -> None:
        if not subject.unsupported:
            pytest.skip("it can do everything")
        for options in subject.unsupported:
            context = RecordingContext()
            with pytest.raises(CapabilityError) as refused:
                subject.generate(context=context, **options)
            assert refused.value.code == "capability"
            assert refused.value.details["field"] in options
            assert "limit" in refused.value.details
            assert (context.steps, context.images) == ([], [])

    def test_its_failures_are_our_errors_and_leave_nothing_behind(self, subject: Subject) -> None:
        assert subject.failures, "name at least one way to make it fail"
        before = subject.generate()[0]
        for failure in subject.failures:
            with failure.provoke(), pytest.raises(failure.raises) as failed:
                subject.generate("a blue square")
            assert (failed.value.retryable, failure.name) == (failure.retryable, failure.name)
            assert failed.value.message
            after = subject.generate()[0]
            assert same(before, after) or not subject.is_deterministic, failure.name

    def test_it_works_from_a_prompt_config_and_warns_once(self, subject: Subject) -> None:
        context = RecordingContext()
        changes = {name: value for name, value in subject.options.items() if name != "seed"}
        config = PromptConfig("a red circle", seed=subject.options["seed"])
        images = subject.generator.generate_from(config, context=context, **changes)
        assert [image.mode for image in images] == ["RGB"]
        assert len([warning for warning in context.warnings if "PromptConfig" in warning]) == 1
        assert same(images[0], subject.generate()[0]) or not subject.is_deterministic

    def _needs_determinism(self, subject: Subject) -> None:
        if not subject.is_deterministic:
            pytest.skip("it promises no determinism")
