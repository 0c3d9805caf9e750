"""One run of one job, as the generator sees it: reports, saves pictures, and stops when told to."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from PIL import Image

from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.domain.acceleration import Acceleration
from shared.domain.errors import StorageFailed
from shared.domain.job import Claim, Job, JobImage, Progress, Timings
from shared.domain.status import Phase
from shared.ids import new_image_id
from shared.storage.base import MediaStorage
from worker.cancellation import StopReason, StopSignal
from worker.pipelines.encode import encode_png


class JobRun:
    """The ``GenerationContext`` of one attempt. What it collects is published only by ``ClaimRepository``."""

    def __init__(
        self,
        job: Job,
        claim: Claim,
        *,
        claims: ClaimRepository,
        storage: MediaStorage,
        channel: ProgressChannel,
        signal: StopSignal,
    ) -> None:
        self._job = job
        self._claim = claim
        self._claims = claims
        self._storage = storage
        self._channel = channel
        self._signal = signal
        self._started = time.monotonic()
        self._phase = Phase.LOADING
        self._phase_began = self._started
        self._load_seconds = 0.0
        self.images: list[JobImage] = []
        self.warnings = list(job.warnings)
        self.accelerations: list[Acceleration] = []

    def on_phase(self, phase: Phase) -> None:
        """Record the phase in the row, so that it is seen without Redis too."""
        self._end_phase()
        self.raise_if_cancelled()
        if phase is not self._phase and not self._claims.set_phase(self._claim, phase):
            self._signal.stop(StopReason.CLAIM_LOST)
        self._phase = phase
        self._report(0)

    def on_step(self, step: int, total_steps: int) -> None:
        """Report the step; in the same round trip, hear whether somebody wants the job to stop."""
        self._report(step, total_steps)
        self.raise_if_cancelled()

    def on_image(self, index: int, image: Image.Image) -> None:
        """Write the picture durably; it is published with the others when the job succeeds."""
        seed = self._job.params.seed + index
        data = encode_png(image, self._parameters(seed))
        key = f"{self._job.id}/{self._claim.attempt}-{index}.png"
        try:
            self._storage.put(key, data)
        except OSError as error:
            raise StorageFailed(f"The picture could not be written: {error.strerror or error}.") from error
        self.images.append(
            JobImage(
                id=new_image_id(),
                index=index,
                seed=seed,
                width=image.width,
                height=image.height,
                path=key,
                content_type="image/png",
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )

    def warn(self, message: str) -> None:
        """Add a warning to the job's result, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def on_acceleration(self, acceleration: Acceleration) -> None:
        """Name it in the result, once."""
        if acceleration not in self.accelerations:
            self.accelerations.append(acceleration)

    def raise_if_cancelled(self) -> None:
        """Raise ``JobInterrupted`` when the run should stop."""
        self._signal.raise_if_stopped()

    def timings(self) -> Timings:
        """Return seconds spent loading, and in everything else, so far."""
        self._end_phase()
        total = time.monotonic() - self._started
        return Timings(load_seconds=round(self._load_seconds, 4), run_seconds=round(total - self._load_seconds, 4))

    def discard_images(self) -> None:
        """Delete the files of an attempt that publishes nothing."""
        for image in self.images:
            self._storage.delete(image.path)
        self.images.clear()

    def _end_phase(self) -> None:
        now = time.monotonic()
        if self._phase is Phase.LOADING:
            self._load_seconds += now - self._phase_began
        self._phase_began = now

    def _report(self, step: int, total_steps: int | None = None) -> None:
        progress = Progress(
            attempt=self._claim.attempt,
            phase=self._phase,
            step=step,
            total_steps=total_steps or self._job.params.num_inference_steps,
            image_index=len(self.images),
            num_images=self._job.params.num_images,
        )
        hinted = self._channel.report(self._job.id, progress)
        if hinted is None:  # Redis is away: the row knows too
            hinted = self._claims.cancel_requested(self._claim)
        if hinted:
            self._signal.stop(StopReason.USER_REQUEST)

    def _parameters(self, seed: int) -> dict[str, Any]:
        parameters = self._job.params.model_dump(mode="json", exclude={"num_images"})
        return {**parameters, "seed": seed, "model": self._job.model}
