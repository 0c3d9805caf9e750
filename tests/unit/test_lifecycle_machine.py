"""Any order of any calls, by honest and by stale workers, under any clock: every job keeps to the table of edges.

A Hypothesis state machine over the repositories alone, on a real SQLite and a real directory. Its model holds what
the table allows; the audit is the second judge. The same examples are tried in every run.
"""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from sqlalchemy import select

from shared.db.audit import audit
from shared.db.claims import ClaimRepository
from shared.db.engine import open_database
from shared.db.jobs import KEY_LIFETIME, JobRepository
from shared.db.migrate import migrate
from shared.db.models import JobRow
from shared.db.queue import QueueRepository
from shared.db.rescues import RescueRepository
from shared.domain.errors import IdempotencyConflict, JobConflict, RequestError
from shared.domain.job import MAX_CRASHES, Claim, IdempotencyKey, JobClass, JobError, JobImage, Lane, Timings
from shared.domain.status import TERMINAL_STATUSES, TRANSITIONS, Edge, JobStatus, Phase
from shared.ids import new_image_id
from shared.storage.local import LocalMediaStorage
from tests.builders import FakeClock, new_job

LEASE = timedelta(seconds=30)
OWNERS = ("w1", "w2", "w3")
ERROR = JobError(code="storage_failed", message="full", retryable=True)

owners = st.sampled_from(OWNERS)
minutes = st.none() | st.sampled_from((-60, 1, 60)).map(lambda number: timedelta(minutes=number))


@dataclass
class Expected:
    """What the model knows of one job."""

    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0
    status_seq: int = 1
    owner: str | None = None
    crashes: int = 0
    cancel_requested: bool = False
    held: bool = False
    not_before: object = None
    deadline: object = None
    lease_until: object = None
    saving: bool = False


class Lifecycle(RuleBasedStateMachine):
    jobs_made = Bundle("jobs_made")
    claims_made = Bundle("claims_made")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
        shutil.copy(TEMPLATE.path, self.folder / "flux-image.db")
        self.database = open_database(f"sqlite:///{self.folder / 'flux-image.db'}")
        self.storage = LocalMediaStorage(self.folder / "media")
        self.clock = FakeClock()
        self.jobs = JobRepository(self.database, self.clock)
        self.claims = ClaimRepository(self.database, self.clock)
        self.rescues = RescueRepository(self.database, self.clock)
        self.queue = QueueRepository(self.database, self.clock)
        self.expected: dict[str, Expected] = {}
        self.published: set[Claim] = set()
        self.keys: dict[str, tuple[str, str, object]] = {}
        self.paused = False

    def teardown(self):
        # Whatever happened, a round of the reconciler mends it, and every promise holds.
        self.rescue_expired()
        assert audit(self.database, self.folder / "media", self.clock) == []
        self.database.dispose()
        shutil.rmtree(self.folder)

    # The API's side

    @rule(
        target=jobs_made,
        cls=st.sampled_from(JobClass),
        model=st.sampled_from(("red", "blue")),
        not_before=minutes,
        deadline=minutes,
    )
    def submit(self, cls, model, not_before, deadline):
        now = self.clock.now
        times = {"not_before": not_before and now + not_before, "deadline": deadline and now + deadline}
        job = self.jobs.add(new_job(job_class=cls, model=model, **times), 1000)
        self.expected[job.id] = Expected(**times)
        return job.id

    @rule(target=jobs_made, key=st.sampled_from("ab"), body=st.sampled_from("12"))
    def submit_once(self, key, body):
        self.keys = {name: value for name, value in self.keys.items() if value[2] >= self.clock.now - KEY_LIFETIME}
        known = self.keys.get(key)
        try:
            job = self.jobs.add_once(new_job(), 1000, IdempotencyKey(key=key, body_sha256=body * 64))
        except IdempotencyConflict:
            assert known is not None
            assert known[0] != body
            return multiple()
        if known is not None:
            assert (known[0], known[1]) == (body, job.id)
            return multiple()
        self.keys[key] = (body, job.id, self.clock.now)
        self.expected[job.id] = Expected()
        return job.id

    @rule(job_id=jobs_made)
    def request_cancel(self, job_id):
        before = self.expected[job_id]
        after = self.jobs.request_cancel(job_id)
        if before.status is JobStatus.QUEUED:
            self.move(job_id, Edge.CANCEL, JobStatus.CANCELLED)
        elif before.status is JobStatus.RUNNING:
            before.cancel_requested = True
        assert after.status is before.status

    @rule(
        job_id=jobs_made,
        change=st.sampled_from(("hold", "unhold", "move_to_front", "sooner", "later")),
    )
    def change(self, job_id, change):
        job = self.expected[job_id]
        later = self.clock.now + timedelta(minutes=30)
        calls = {
            "hold": lambda: self.queue.hold(job_id),
            "unhold": lambda: self.queue.unhold(job_id),
            "move_to_front": lambda: self.queue.move_to_front(job_id),
            "sooner": lambda: self.queue.reschedule(job_id, {"not_before": None, "deadline": None}),
            "later": lambda: self.queue.reschedule(job_id, {"not_before": later, "priority": 3}),
        }
        if job.status is not JobStatus.QUEUED:
            with pytest.raises(JobConflict):
                calls[change]()
            return
        if change == "later" and job.deadline is not None and job.deadline < max(later, self.clock.now):
            with pytest.raises(RequestError, match="deadline"):
                calls[change]()
            return
        calls[change]()
        job.held = {"hold": True, "unhold": False}.get(change, job.held)
        if change == "sooner":
            job.not_before = job.deadline = None
        elif change == "later":
            job.not_before = later

    @rule()
    def pause(self):
        self.queue.pause(Lane.GPU)
        self.paused = True

    @rule()
    def resume(self):
        self.queue.resume(Lane.GPU)
        self.paused = False

    @rule()
    def cancel_waiting(self):
        waiting = self.of_status(JobStatus.QUEUED)
        assert self.queue.cancel_waiting(Lane.GPU) == len(waiting)
        for job_id in waiting:
            self.move(job_id, Edge.CANCEL, JobStatus.CANCELLED)

    @rule()
    def expire(self):
        late = {
            job_id
            for job_id in self.of_status(JobStatus.QUEUED)
            if (deadline := self.expected[job_id].deadline) and deadline <= self.clock.now
        }
        assert set(self.queue.expire()) == late
        for job_id in late:
            self.move(job_id, Edge.EXPIRE, JobStatus.FAILED)

    # The workers' side, the live and the stale ones

    @rule(target=claims_made, owner=owners, resident=st.frozensets(st.sampled_from(("red", "blue"))))
    def claim(self, owner, resident):
        if self.is_busy(owner, saving=False):
            return multiple()
        due = [job_id for job_id in self.of_status(JobStatus.QUEUED) if self.is_due(self.expected[job_id])]
        job = self.claims.claim(Lane.GPU, owner, LEASE, resident)
        if job is None:
            assert due == []
            return multiple()
        assert job.id in due
        expected = self.expected[job.id]
        assert job.attempt == expected.attempt + 1
        self.move(job.id, Edge.CLAIM, JobStatus.RUNNING)
        expected.attempt, expected.owner, expected.lease_until = job.attempt, owner, self.clock.now + LEASE
        return Claim(job_id=job.id, attempt=job.attempt, owner=owner)

    @rule(claim=claims_made)
    def heartbeat(self, claim):
        beat = self.claims.heartbeat(claim, LEASE)
        assert beat.held == self.holds(claim)
        if beat.held:
            assert beat.cancel_requested == self.expected[claim.job_id].cancel_requested
            self.expected[claim.job_id].lease_until = self.clock.now + LEASE

    @rule(claim=claims_made, phase=st.sampled_from(Phase))
    def set_phase(self, claim, phase):
        saving, held = phase is Phase.SAVING, self.holds(claim)
        if held and self.is_busy(claim.owner, saving=saving, besides=claim.job_id):
            return
        assert self.claims.set_phase(claim, phase) == held
        if held:
            self.expected[claim.job_id].saving = saving

    @rule(claim=claims_made)
    def succeed(self, claim):
        key = f"{claim.job_id}/{claim.attempt}-0.png"
        self.storage.put(key, key.encode())
        image = JobImage(
            id=new_image_id(), index=0, seed=1, width=8, height=8, path=key, content_type="image/png",
            size_bytes=len(key), sha256=hashlib.sha256(key.encode()).hexdigest(),
        )  # fmt: skip
        written = self.claims.succeed(claim, [image], Timings(), [])
        if claim in self.published:  # asked again after an answer that was lost on the way
            assert written
            return
        self.ends(claim, Edge.FINISH, JobStatus.SUCCEEDED, written)
        if written:
            self.published.add(claim)
        else:
            self.storage.delete(key)

    @rule(claim=claims_made)
    def fail(self, claim):
        self.ends(claim, Edge.FAIL, JobStatus.FAILED, self.claims.fail(claim, ERROR, Timings()))

    @rule(claim=claims_made)
    def stop(self, claim):
        self.ends(claim, Edge.CANCEL, JobStatus.CANCELLED, self.claims.cancel(claim, Timings()))

    @rule(claim=claims_made, pause=st.sampled_from((0, 300)))
    def retry(self, claim, pause):
        written = self.claims.retry(claim, ERROR, timedelta(seconds=pause))
        self.ends(claim, Edge.RETRY, self.back(claim), written)
        if written:
            self.expected[claim.job_id].not_before = self.clock.now + timedelta(seconds=pause)

    @rule(claim=claims_made)
    def release(self, claim):
        self.ends(claim, Edge.RELEASE, self.back(claim), self.claims.release(claim))

    @rule(owner=owners)
    def rescue_others(self, owner):
        dead = [job_id for job_id in self.of_status(JobStatus.RUNNING) if self.expected[job_id].owner != owner]
        assert sorted(self.rescues.rescue_others(Lane.GPU, owner)) == sorted(dead)
        self.crash(dead)

    @rule()
    def rescue_expired(self):
        silent = [
            job_id for job_id in self.of_status(JobStatus.RUNNING) if self.expected[job_id].lease_until < self.clock.now
        ]
        expired = self.rescues.expired()
        assert sorted(claim.job_id for claim in expired) == sorted(silent)
        assert all(self.rescues.rescue_expired(claim) for claim in expired)
        self.crash(silent)

    # The clock

    @rule(seconds=st.sampled_from((10, 31, 7200, -7200, 86_400)))
    def clock_jumps(self, seconds):
        self.clock.now += timedelta(seconds=seconds)

    # The judges

    @invariant()
    def rows_are_as_the_model_says(self):
        columns = (JobRow.id, JobRow.status, JobRow.attempt, JobRow.owner, JobRow.crashes, JobRow.status_seq)
        with self.database.read() as connection:
            rows = {row.id: row for row in connection.execute(select(*columns))}
        assert rows.keys() == self.expected.keys()
        for job_id, job in self.expected.items():
            row = rows[job_id]
            assert (row.status, row.attempt, row.owner, row.crashes) == (
                job.status, job.attempt, job.owner, job.crashes,
            )  # fmt: skip
            assert row.status_seq >= job.status_seq
            job.status_seq = row.status_seq

    @invariant()
    def the_audit_finds_nothing(self):
        # A silent owner is no fault before the next round of the reconciler, which teardown plays.
        found = audit(self.database, self.folder / "media", self.clock)
        assert [violation for violation in found if violation.invariant != "I6"] == []

    # The model

    def of_status(self, status):
        return [job_id for job_id, job in self.expected.items() if job.status is status]

    def is_due(self, job):
        in_time = (job.not_before is None or job.not_before <= self.clock.now) and (
            job.deadline is None or job.deadline > self.clock.now
        )
        return in_time and not job.held and not self.paused

    def is_busy(self, owner, *, saving, besides=None):
        """Whether a worker has a job before, or in, the phase ``saving``; it has at most one of each."""
        return any(
            (job.owner, job.saving) == (owner, saving) for job_id, job in self.expected.items() if job_id != besides
        )

    def holds(self, claim):
        job = self.expected[claim.job_id]
        return (job.status, job.attempt, job.owner) == (JobStatus.RUNNING, claim.attempt, claim.owner)

    def back(self, claim):
        return JobStatus.CANCELLED if self.expected[claim.job_id].cancel_requested else JobStatus.QUEUED

    def ends(self, claim, edge, status, written):
        undoes_a_cancel = edge is Edge.FINISH and self.expected[claim.job_id].cancel_requested
        assert written == (self.holds(claim) and not undoes_a_cancel)
        if written:
            self.move(claim.job_id, edge, status)

    def move(self, job_id, edge, status):
        job = self.expected[job_id]
        assert edge in TRANSITIONS[job.status][status]
        job.status, job.owner, job.lease_until, job.saving = status, None, None, False

    def crash(self, job_ids):
        for job_id in job_ids:
            job = self.expected[job_id]
            job.crashes += 1
            if job.cancel_requested:
                self.move(job_id, Edge.RESCUE, JobStatus.CANCELLED)
            else:
                self.move(job_id, Edge.RESCUE, JobStatus.FAILED if job.crashes >= MAX_CRASHES else JobStatus.QUEUED)


class TEMPLATE:
    """A migrated database to copy: migrating for each example would take most of the time."""

    path: Path


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory):
    TEMPLATE.path = tmp_path_factory.mktemp("template") / "flux-image.db"
    database = open_database(f"sqlite:///{TEMPLATE.path}")
    migrate(database)
    database.dispose()


def test_the_model_knows_every_status():
    assert {JobStatus.QUEUED, JobStatus.RUNNING} | TERMINAL_STATUSES == set(JobStatus)


TestLifecycle = pytest.mark.timeout(900)(Lifecycle.TestCase)  # 1,600 steps, most of them with an fsync
TestLifecycle.settings = settings(max_examples=40, stateful_step_count=40)
