"""One run of one job, as the generator sees it: reports, hands over pictures, and stops when told to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import Any

import structlog
from PIL import Image
from sqlalchemy.exc import OperationalError

from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.domain.acceleration import Acceleration
from shared.domain.job import Claim, Job, JobImage, Progress, Timings
from shared.domain.route import Enhancement
from shared.domain.status import Phase
from shared.storage.base import MediaStorage
from worker.budgets import RunWatch
from worker.cancellation import StopReason, StopSignal
from worker.generators.interface import PreviewSink
from worker.pictures import Making, store_picture
from worker.saver import Saver
from worker.surprises import find_surprise

log = structlog.get_logger(__name__)


class JobRun:
    """The ``GenerationContext`` of one attempt. What it collects is published only by ``Outcomes``."""

    def __init__(
        self,
        job: Job,
        claim: Claim,
        *,
        claims: ClaimRepository,
        storage: MediaStorage,
        channel: ProgressChannel,
        saver: Saver,
        signal: StopSignal,
        watch: RunWatch,
        previews: PreviewSink | None = None,
    ) -> None:
        self.job = job
        self.claim = claim
        self.signal = signal
        self.previews = previews
        self.warnings = list(job.warnings)
        self.enhancement: Enhancement | None = None
        """What an enhancer's leg made of the prompt."""
        self.source: Image.Image | None = None
        """The picture that is changed, once it is read."""
        self.accelerations: list[Acceleration] = list(job.accelerations)
        self._details: dict[str, Any] = {}
        self._claims = claims
        self._storage = storage
        self._channel = channel
        self._saver = saver
        self._watch = watch
        self._started = time.monotonic()
        self._phase = Phase.LOADING
        self._phase_began = self._started
        self._step = 0
        self._total_steps: int | None = None
        self._load_seconds = 0.0
        self._writes: list[Future[JobImage]] = []

    def on_phase(self, phase: Phase) -> None:
        """Record the phase in the row, so that it is seen without Redis too."""
        self._watch.on_phase(phase)
        self.raise_if_cancelled()
        if phase is self._phase:  # the claim began with it
            return
        try:
            self._enter(phase)
        except OperationalError as error:  # the row shows an old phase for a while; the work goes on
            log.warning("phase not recorded", action="phase_failed", phase=phase, error=str(error))
        self._report(0)

    def on_step(self, step: int, total_steps: int) -> None:
        """Report the step; in the same round trip, hear whether somebody wants the job to stop."""
        if slow := self._watch.on_step():
            log.warning("slow step", action="slow_step", step=step, reason=slow)
            self.warn(slow)
        self._report(step, total_steps)
        self.raise_if_cancelled()

    def on_queue(self, position: int, eta_seconds: float | None) -> None:
        """Report the place in another server's queue, and hear whether somebody wants the job to stop."""
        self._watch.on_wait()
        self._report(self._step, self._total_steps, remote_position=position, remote_eta_seconds=eta_seconds)
        self.raise_if_cancelled()

    def on_image(self, index: int, image: Image.Image) -> None:
        """Have the picture written at once, while the work goes on.

        Raises:
          StorageFailed: an earlier picture could not be written, so more work would be lost.
        """
        for write in self._writes:
            if write.done():
                write.result()
        making = Making(dict(self._details), tuple(self.accelerations))
        self._writes.append(self._saver.start(self._write, index, image, making))

    def warn(self, message: str) -> None:
        """Add a warning to the job's result, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def on_acceleration(self, acceleration: Acceleration) -> None:
        """Name it in the result, once."""
        if acceleration not in self.accelerations:
            self.accelerations.append(acceleration)

    def on_details(self, details: Mapping[str, Any]) -> None:
        """Keep them for the metadata of the pictures that follow."""
        self._details.update(details)

    def raise_if_cancelled(self) -> None:
        """Raise ``JobInterrupted`` when the run should stop."""
        self.signal.raise_if_stopped()

    def wait_for_saver(self) -> None:
        """The pixels are there; what is done with them has budgets of its own."""
        self._watch.rest()

    def begin_saving(self) -> None:
        """Enter the last phase. A shutdown no longer stops the run: what is left is short and costs no GPU time.

        Raises:
          JobInterrupted: the claim is lost, or somebody asked for a cancel.
        """
        self._enter(Phase.SAVING)
        self.signal.raise_if_asked()

    def saved_images(self) -> list[JobImage]:
        """Wait until every picture is durable, and return them in order.

        Raises:
          StorageFailed: one could not be written.
          JobInterrupted: the run was asked to stop meanwhile.
        """
        return [write.result() for write in self._writes]

    def finished_images(self) -> list[JobImage]:
        """Return the pictures of a failed attempt up to the first that is not durable; the others are discarded."""
        futures.wait(self._writes)
        whole = list(itertools.takewhile(lambda write: write.exception() is None, self._writes))
        self._discard(self._writes[len(whole) :])
        self._writes = whole
        return [write.result() for write in whole]

    def timings(self) -> Timings:
        """Return seconds spent loading, and in everything else, so far, the legs before this one included."""
        self._end_phase()
        before = self.job.timings if self.job.route.position > 0 else Timings()
        total = time.monotonic() - self._started
        return Timings(
            load_seconds=round((before.load_seconds or 0) + self._load_seconds, 4),
            run_seconds=round((before.run_seconds or 0) + total - self._load_seconds, 4),
        )

    def discard_images(self) -> None:
        """Delete the files of an attempt that publishes nothing, also those that are being written right now."""
        self._discard(self._writes)
        self._writes.clear()

    def _discard(self, writes: Sequence[Future[JobImage]]) -> None:
        for write in writes:
            if not write.cancel() and write.exception() is None:
                self._storage.delete(write.result().path)

    def _enter(self, phase: Phase) -> None:
        self._end_phase()
        self._phase = phase
        if not self._claims.set_phase(self.claim, phase):
            self.signal.stop(StopReason.CLAIM_LOST)

    def _end_phase(self) -> None:
        now = time.monotonic()
        if self._phase is Phase.LOADING:
            self._load_seconds += now - self._phase_began
        self._phase_began = now

    def _report(
        self,
        step: int,
        total_steps: int | None = None,
        *,
        remote_position: int | None = None,
        remote_eta_seconds: float | None = None,
    ) -> None:
        self._step, self._total_steps = step, total_steps
        progress = Progress(
            attempt=self.claim.attempt,
            phase=self._phase,
            step=step,
            total_steps=total_steps or self.job.leg_params.num_inference_steps,
            image_index=self.job.route.current.first + len(self._writes),
            num_images=self.job.params.num_images,
            remote_position=remote_position,
            remote_eta_seconds=remote_eta_seconds,
        )
        hinted = self._channel.report(self.job.id, progress)
        if hinted is None:  # Redis is away: the row knows too
            hinted = self._claims.cancel_requested(self.claim)
        if hinted:
            self.signal.stop(StopReason.USER_REQUEST)

    def _write(self, index: int, image: Image.Image, making: Making) -> JobImage:
        """Encode and store one picture; runs in the saver's thread."""
        self.signal.raise_if_asked()
        with self._watch.saving():
            if surprise := find_surprise(image, self.source, self.job.route.current.first + index):
                self.warn(surprise)
            return store_picture(self._storage, self.job, self.claim, index, image, making, self.warn)
