"""Random faults for the soak: each is one short blow against a running rig, after which somebody tidies up."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta

import psutil
import redis
from kombu.exceptions import OperationalError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from shared.broker.app import make_ringing_celery
from shared.broker.publish import publish_job
from shared.db.models import JobRow
from shared.domain.job import Lane
from shared.domain.params import JobKind
from shared.domain.status import JobStatus
from tests.chaos import points
from tests.chaos.clock import set_offset
from tests.chaos.rig import BUSY_SECONDS, LEASE_SECONDS, Rig

CRASH_POINTS = (
    "before claim",
    "claimed",
    "loading",
    "denoising",
    "decoding",
    "before file",
    "half file",
    "file written",
    "before commit",
    "committed",
)


class Nemesis:
    """Strikes a rig; the same dice give the same faults in the same order."""

    def __init__(self, rig: Rig, dice: random.Random) -> None:
        self._rig = rig
        self._dice = dice
        self._celery = make_ringing_celery(rig.broker_url)
        self.faults: Mapping[str, Callable[[], None]] = {
            "child killed at a named point": self._arm_kill,
            "child killed anywhere": self._kill_child,
            "child frozen beyond its lease": self._freeze_child,
            "worker killed": rig.worker.kill,
            "worker told to stop": lambda: self._signal(rig.worker.pid, signal.SIGTERM),
            "API killed": rig.api.kill,
            "broker killed": rig.kill_broker,
            "broker frozen": self._freeze_broker,
            "broker wiped": lambda: self._tell_broker("FLUSHALL"),
            "connections cut": lambda: self._tell_broker("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
            "rung for nothing": self._ring_for_nothing,
            "database locked": self._lock_database,
            "disk full for one file": lambda: rig.points.arm("before file", points.DISK_FULL),
            "card full for one job": lambda: rig.points.arm("denoising", points.OUT_OF_MEMORY),
            "clock jumped": self._move_clock,
        }

    def strike(self) -> str:
        """Do one fault and return its name."""
        name = self._dice.choice(list(self.faults))
        self.faults[name]()
        return name

    def close(self) -> None:
        set_offset(self._rig.data_dir, timedelta(0))
        self._rig.points.disarm_all()
        self._celery.close()

    def _arm_kill(self) -> None:
        self._rig.points.arm(self._dice.choice(CRASH_POINTS))

    def _kill_child(self) -> None:
        for child in self._children():
            self._signal(child.pid, signal.SIGKILL)

    def _freeze_child(self) -> None:
        children = self._children()
        for child in children:
            self._signal(child.pid, signal.SIGSTOP)
        _pause(LEASE_SECONDS * self._dice.uniform(0.5, 1.5))
        for child in children:
            if child.is_running():
                self._signal(child.pid, signal.SIGCONT)

    def _freeze_broker(self) -> None:
        pid = self._rig.broker_pid
        self._signal(pid, signal.SIGSTOP)
        _pause(self._dice.uniform(0.5, 4))
        self._signal(pid, signal.SIGCONT)

    def _tell_broker(self, *command: str) -> None:
        with suppress(redis.RedisError), self._rig.redis() as broker:
            broker.execute_command(*command)

    def _ring_for_nothing(self) -> None:
        with self._rig.database.read() as connection:
            known = connection.scalars(select(JobRow.id).order_by(JobRow.id.desc()).limit(20)).all()
        with suppress(OperationalError):
            for job_id in (*known, "job_unknown"):
                publish_job(self._celery, job_id, JobKind.GENERATE, Lane.GPU)

    def _lock_database(self) -> None:
        with suppress(SQLAlchemyError), self._rig.database.write():
            _pause(BUSY_SECONDS * self._dice.uniform(0.3, 2))

    def _move_clock(self) -> None:
        set_offset(self._rig.data_dir, timedelta(hours=self._dice.choice((-2, 0, 2))))

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._rig.worker.pid).children()
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def supervised(rig: Rig) -> Iterator[None]:
    """Start again whatever is dead, five times a second, as `flux-image up` would."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            if not rig.broker.is_running():
                rig.kill_broker()
                rig.start_broker()
            for part in (rig.api, rig.worker):
                if not part.is_alive:
                    part.start()

    thread = threading.Thread(target=watch, name="supervisor")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cancel_one(rig: Rig, dice: random.Random) -> None:
    """Ask for the end of some job that is waiting or running; either end is right for it then."""
    with rig.database.read() as connection:
        open_jobs = connection.execute(
            select(JobRow.id, JobRow.params).where(JobRow.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)))
        ).all()
    if open_jobs:
        chosen = dice.choice(open_jobs)
        right = rig.history.explained.get(chosen.params["seed"], (JobStatus.SUCCEEDED,))
        rig.history.explained[chosen.params["seed"]] = (*right, JobStatus.CANCELLED)
        rig.jobs.request_cancel(chosen.id)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
