"""``python -m tests.upgrades.snapshot``: keep what this version's database looks like, for tests of later upgrades.

Run it once per release that has a new schema revision, and commit the file it writes. The rows are made by this
version's own repositories, one job for every way a job can stand. A picture's bytes are its own path, so that the
test can make the files again.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from shared.db.claims import ClaimRepository
from shared.db.engine import Database, open_database
from shared.db.jobs import JobRepository
from shared.db.migrate import head_revision, migrate
from shared.db.queue import QueueRepository
from shared.db.rescues import RescueRepository
from shared.db.workers import WorkerRepository
from shared.domain.job import Claim, IdempotencyKey, Job, JobClass, JobError, JobImage, JobInput, Lane, Timings
from shared.domain.params import InputRole
from shared.ids import new_image_id
from tests.builders import new_job, params

RELEASED = Path(__file__).parent / "released"
LEASE = timedelta(seconds=30)


def main() -> None:
    """Fill a database and write it as SQL, named after its revision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flux-image.db"
        database = open_database(f"sqlite:///{path}")
        migrate(database)
        fill(database)
        database.dispose()
        connection = sqlite3.connect(path)
        target = RELEASED / f"{head_revision()}.sql"
        target.write_text("\n".join(connection.iterdump()) + "\n")
        connection.close()
    sys.stdout.write(f"{target}\n")


def fill(database: Database) -> None:
    """Add one job for every way a job can stand, a key, a worker and a paused lane."""
    jobs, claims, queue = JobRepository(database), ClaimRepository(database), QueueRepository(database)
    workers = WorkerRepository(database)
    workers.register("wrk_released", Lane.GPU, "host", 1, heartbeat_seconds=5)
    workers.publish("wrk_released", {"device": "cpu"})

    def running(**changes: object) -> tuple[Job, Claim]:
        jobs.add(new_job(job_class=JobClass.INTERACTIVE, **changes), 100)
        job = claims.claim(Lane.GPU, "wrk_released", LEASE)
        assert job is not None
        return job, Claim(job_id=job.id, attempt=job.attempt, owner="wrk_released")

    job, claim = running(params=params(num_images=2))
    claims.succeed(
        claim, [stored_image(job, claim, index) for index in range(2)], Timings(run_seconds=1.5), ["a warning"]
    )
    source = _stored("upload/input-image.png")
    uploaded = JobInput(role=InputRole.IMAGE, width=8, height=8, **source)
    job, claim = running(params=params(kind="edit"), model="demo-kontext", inputs=(uploaded,))
    claims.succeed(claim, [stored_image(job, claim, 0)], Timings(run_seconds=1.5), [])
    _, claim = running()
    claims.fail(claim, JobError(code="numeric_error", message="NaN"), Timings())
    job, claim = running()
    jobs.request_cancel(job.id)
    claims.cancel(claim, Timings())
    _, claim = running()
    claims.retry(claim, JobError(code="storage_failed", message="full", retryable=True), timedelta(days=1000))
    crashed, _ = running()
    RescueRepository(database).rescue_others(Lane.GPU, "wrk_next")
    queue.hold(crashed.id)
    queue.hold(jobs.add(new_job(), 100).id)
    jobs.request_cancel(jobs.add(new_job(), 100).id)
    jobs.add_once(new_job(model="schnell"), 100, IdempotencyKey(key="released", body_sha256="a" * 64))
    queue.pause(Lane.REMOTE)
    running()


def stored_image(job: Job, claim: Claim, index: int) -> JobImage:
    return JobImage(
        id=new_image_id(),
        index=index,
        seed=index,
        width=8,
        height=8,
        content_type="image/png",
        **_stored(f"{job.id}/{claim.attempt}-{index}.png"),
    )


def _stored(path: str) -> dict[str, object]:
    data = path.encode()
    return {"path": path, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


if __name__ == "__main__":
    main()
