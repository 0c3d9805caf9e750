"""Whether a job submitted now would run."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.services.room import Room
from shared.channel.progress import ProgressChannel
from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.schemas.server import ReadyRead


class HealthService:
    """Looks at each part on its own, so that the answer says which one is missing."""

    def __init__(
        self,
        database: Database,
        channel: ProgressChannel,
        workers: WorkerRepository,
        room: Room,
        *,
        uses_network: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._channel = channel
        self._workers = workers
        self._room = room
        self._uses_network = uses_network
        self._clock = clock

    def ready(self) -> ReadyRead:
        """Return the state of database, broker, storage and workers. The remote one is no part of being ready."""
        broker = "ok" if self._channel.ping() else "no answer"
        storage = self._room.trouble() or "ok"
        try:
            with self._database.read() as connection:
                connection.execute(text("SELECT 1"))
            worker, age = self._worker(Lane.GPU)
            remote = self._worker(Lane.REMOTE)[0] if self._uses_network else "off"
        except SQLAlchemyError as error:
            return ReadyRead(
                ready=False,
                database=str(error.__cause__ or error),
                broker=broker,
                storage=storage,
                worker="unknown",
                worker_heartbeat_age_seconds=None,
                remote_worker="unknown",
            )
        runs = worker in (WorkerState.WARMING, WorkerState.IDLE, WorkerState.BUSY)
        return ReadyRead(
            ready=broker == storage == "ok" and runs,
            database="ok",
            broker=broker,
            storage=storage,
            worker=worker,
            worker_heartbeat_age_seconds=age,
            loading=self._channel.loading() if broker == "ok" else None,
            remote_worker=remote,
        )

    def _worker(self, lane: Lane) -> tuple[str, float | None]:
        latest = self._workers.latest(lane)
        if latest is None:
            return "none has started yet", None
        now = self._clock()
        age = now - latest.heartbeat_at
        if latest.is_gone(now):
            state = "offline"
        else:
            state = f"{latest.state.value}: {latest.trouble}" if latest.trouble else latest.state.value
        return state, round(age.total_seconds(), 3)
