"""The HTTP front under test with everything real around it, except that no worker process runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import func, select
from starlette.types import Message, Receive

from api.main import create_app
from shared.clock import utc_now
from shared.db.claims import ClaimRepository
from shared.db.engine import Database, open_database
from shared.db.jobs import JobRepository
from shared.db.models import JobRow
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Claim, Job, JobError, Lane, Timings
from shared.domain.status import Phase
from shared.settings import ApiSettings, OutsideSettings
from shared.storage.local import LocalMediaStorage
from tests.factories import demo_report, job_image, png_bytes

LEASE = timedelta(seconds=30)


class StandInWorker:
    """Plays the worker's part through the worker's own repositories, one step at a time, with no process."""

    def __init__(
        self,
        database: Database,
        storage: LocalMediaStorage,
        owner: str = "wrk_stand_in",
        lane: Lane = Lane.GPU,
        report: BaseModel | None = None,
    ) -> None:
        self._database = database
        self._storage = storage
        self._owner = owner
        self._report = report or demo_report()
        self.lane = lane
        self.claims = ClaimRepository(database)
        self.workers = WorkerRepository(database)

    def join(self, state: WorkerState = WorkerState.IDLE) -> None:
        self.workers.register(self._owner, self.lane, "host", os.getpid(), heartbeat_seconds=5)
        self.publish(self._report)
        self.workers.beat(self._owner, state)

    def publish(self, report: BaseModel) -> None:
        self.workers.publish(self._owner, report.model_dump(mode="json"))

    def beat(self, state: WorkerState, ago: timedelta = timedelta(0)) -> None:
        WorkerRepository(self._database, clock=lambda: utc_now() - ago).beat(self._owner, state)

    def leave(self) -> None:
        self.workers.leave(self._owner)

    def start(self) -> tuple[Job, Claim]:
        job = self.claims.claim(self.lane, self._owner, LEASE)
        assert job is not None, "no job waits"
        return job, Claim(job_id=job.id, attempt=job.attempt, owner=self._owner)

    def enter(self, claim: Claim, phase: Phase) -> None:
        assert self.claims.set_phase(claim, phase)

    def finish(self, job: Job, claim: Claim) -> bytes:
        """Publish the pictures of the current leg, hand over or succeed; return the first picture's bytes."""
        size = job.params.width, job.params.height
        data, images = png_bytes(*size), []
        leg, timings = job.route.current, Timings(load_seconds=0.5, run_seconds=1.5)
        for index in leg.indices:
            path = f"{job.id}/{claim.attempt}-{index}.png"
            self._storage.put(path, data)
            images.append(job_image(path, data, index, job.params.seed + index, leg.generator))
        if job.route.is_last:
            assert self.claims.succeed(claim, images, timings, job.warnings)
        else:
            assert self.claims.hand_over(claim, job.route.advanced(), timings, job.warnings, images=images)
        return data

    def fail(self, claim: Claim, error: JobError) -> None:
        assert self.claims.fail(claim, error, Timings())

    def stop(self, claim: Claim) -> None:
        assert self.claims.cancel(claim, Timings())

    def run_one(self) -> bytes:
        """Claim the next job and finish it."""
        return self.finish(*self.start())


@dataclass(kw_only=True)
class Server:
    """One started application and what stands behind it."""

    app: FastAPI
    client: TestClient
    settings: ApiSettings
    database: Database
    broker: redis.Redis
    jobs: JobRepository
    storage: LocalMediaStorage
    worker: StandInWorker

    def count_jobs(self) -> int:
        with self.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(JobRow)) or 0

    def media_files(self) -> list[Path]:
        return [path for path in self.settings.media_dir.rglob("*") if path.is_file()]

    def assert_nothing_left(self) -> None:
        assert self.count_jobs() == 0
        assert list(self.settings.media_dir.rglob("*")) == []

    def call_as_written(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        receive: Receive | None = None,
        server: tuple[str, int] = ("testserver", 80),
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request whose path and headers no client tidied up; return status, headers and body."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        named = {"Host": "testserver", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),  # as uvicorn does it
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "server": server,
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }
        self.client.portal.call(self.app, scope, receive or nothing, send)
        start, *rest = sent
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], answered, b"".join(message.get("body", b"") for message in rest)


@contextmanager
def serving(settings: ApiSettings, outside: OutsideSettings | None = None) -> Iterator[Server]:
    """Start the application on a migrated database; stop it and close all handles at the end."""
    database = open_database(settings.resolved_database_url)
    broker = redis.Redis.from_url(settings.resolved_redis_url)
    storage = LocalMediaStorage(settings.media_dir)
    app = create_app(settings, outside or OutsideSettings(_env_file=None))
    try:
        with TestClient(app) as client:
            yield Server(
                app=app,
                client=client,
                settings=settings,
                database=database,
                broker=broker,
                jobs=JobRepository(database),
                storage=storage,
                worker=StandInWorker(database, storage),
            )
    finally:
        broker.close()
        database.dispose()
