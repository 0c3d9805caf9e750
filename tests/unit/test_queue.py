"""Idempotency keys, retries and the owner's hand on the queue, on a real SQLite."""

import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.db.jobs import KEY_LIFETIME, JobFilter
from shared.domain.errors import CapacityError, IdempotencyConflict, JobConflict, NotFound
from shared.domain.job import Claim, IdempotencyKey, JobClass, JobError, Lane
from shared.domain.status import JobStatus
from tests.builders import new_job
from worker.retries import retry_pause

LEASE = timedelta(seconds=30)


def claim_all(claims):
    taken = []
    while (job := claims.claim(Lane.GPU, "w1", LEASE)) is not None:
        taken.append(job.id)
    return taken


class TestIdempotencyKey:
    KEY = IdempotencyKey(key="k", body_sha256="a" * 64)

    def test_the_same_key_and_body_is_the_same_job(self, jobs):
        first, second = jobs.add_once(new_job(), 10, self.KEY), jobs.add_once(new_job(), 10, self.KEY)
        assert first.id == second.id
        assert len(jobs.page(JobFilter(), 10, None).jobs) == 1

    def test_another_body_is_refused(self, jobs):
        jobs.add_once(new_job(), 10, self.KEY)
        with pytest.raises(IdempotencyConflict):
            jobs.add_once(new_job(), 10, IdempotencyKey(key="k", body_sha256="b" * 64))

    def test_a_full_queue_still_answers_a_replay(self, jobs):
        first = jobs.add_once(new_job(), 1, self.KEY)
        assert jobs.add_once(new_job(), 1, self.KEY).id == first.id
        with pytest.raises(CapacityError):
            jobs.add_once(new_job(), 1, IdempotencyKey(key="other", body_sha256="a" * 64))

    def test_a_key_is_forgotten_after_a_day(self, jobs, clock):
        first = jobs.add_once(new_job(), 10, self.KEY)
        clock.now += KEY_LIFETIME + timedelta(seconds=1)
        assert jobs.add_once(new_job(), 10, self.KEY).id != first.id

    def test_parallel_duplicates_are_one_row(self, jobs):
        # Given twelve submits at once
        gate, ids = threading.Barrier(12), []

        def submit():
            gate.wait()
            ids.append(jobs.add_once(new_job(), 100, self.KEY).id)

        threads = [threading.Thread(target=submit) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Then all were told the same job
        assert len(ids) == 12
        assert len(set(ids)) == 1


class TestRetry:
    ERROR = JobError(code="storage_failed", message="disk full", retryable=True)

    def test_a_retried_job_waits_its_pause_and_keeps_the_attempt(self, jobs, claims, clock):
        job = jobs.add(new_job(), 10)
        claimed = claims.claim(Lane.GPU, "w1", LEASE)
        claim = Claim(job_id=job.id, attempt=1, owner="w1")
        assert claims.retry(claim, self.ERROR, timedelta(seconds=5))
        assert claims.claim(Lane.GPU, "w1", LEASE) is None
        clock.now += timedelta(seconds=5)
        again = claims.claim(Lane.GPU, "w1", LEASE)
        assert (claimed.errors, again.errors, again.attempt) == (0, 1, 2)
        first, second = again.attempts
        assert (first.outcome, first.error.code, first.error.retryable) == ("retry", "storage_failed", True)
        assert (second.outcome, second.ended_at) == (None, None)

    def test_the_pause_doubles_up_to_a_limit_and_ends_with_the_budget(self, jobs, claims, clock):
        job = jobs.add(new_job(), 10)
        pauses = []
        for _ in range(20):
            claimed = claims.claim(Lane.GPU, "w1", LEASE)
            pause = retry_pause(claimed, self.ERROR, max_attempts=10)
            if pause is None:
                break
            pauses.append(pause.total_seconds())
            claims.retry(Claim(job_id=job.id, attempt=claimed.attempt, owner="w1"), self.ERROR, pause)
            clock.now += pause
        assert len(pauses) == 9
        for number, pause in enumerate(pauses):
            base = min(5 * 2**number, 300)
            assert 0.8 * base <= pause <= 1.2 * base

    def test_a_final_error_is_never_tried_again(self, jobs, claims):
        jobs.add(new_job(), 10)
        job = claims.claim(Lane.GPU, "w1", LEASE)
        assert retry_pause(job, JobError(code="capability", message="no"), max_attempts=10) is None


class TestPauseAndHold:
    def test_a_paused_queue_gives_nothing_until_it_is_resumed(self, jobs, claims, rings, queue):
        job = jobs.add(new_job(), 10)
        queue.pause(Lane.GPU)
        queue.pause(Lane.GPU)
        assert claims.claim(Lane.GPU, "w1", LEASE) is None
        assert rings.count_due(Lane.GPU) == 0
        assert queue.state(Lane.GPU, 5).paused
        queue.resume(Lane.GPU)
        assert claim_all(claims) == [job.id]

    def test_a_held_job_is_passed_over(self, jobs, claims, queue):
        first, second = jobs.add(new_job(), 10), jobs.add(new_job(), 10)
        assert queue.hold(first.id).held
        assert claim_all(claims) == [second.id]
        queue.unhold(first.id)
        assert claim_all(claims) == [first.id]

    def test_only_a_waiting_job_can_be_changed(self, jobs, claims, queue):
        job = jobs.add(new_job(), 10)
        claims.claim(Lane.GPU, "w1", LEASE)
        for change in (queue.hold, queue.unhold, queue.move_to_front, lambda i: queue.reschedule(i, {"priority": 1})):
            with pytest.raises(JobConflict, match="is running"):
                change(job.id)
        with pytest.raises(NotFound):
            queue.hold("job_unknown")

    def test_cancelling_what_waits_leaves_the_running_job(self, jobs, claims, queue):
        running = jobs.add(new_job(), 10)
        claims.claim(Lane.GPU, "w1", LEASE)
        waiting = [jobs.add(new_job(), 10).id for _ in range(3)]
        assert queue.cancel_waiting(Lane.GPU) == 3
        assert {jobs.get(job_id).status for job_id in waiting} == {JobStatus.CANCELLED}
        assert jobs.get(running.id).status is JobStatus.RUNNING

    def test_the_state_shows_what_runs_and_what_is_next(self, jobs, claims, queue):
        added = [jobs.add(new_job(priority=priority), 10).id for priority in (0, 5, -5)]
        claims.claim(Lane.GPU, "w1", LEASE)
        state = queue.state(Lane.GPU, 5)
        assert [job.id for job in state.running] == [added[2]]
        assert [job.id for job in state.next] == [added[0], added[1]]
        assert state.counts == {JobStatus.RUNNING: 1, JobStatus.QUEUED: 2}


class TestTimes:
    def test_a_job_never_starts_before_its_time(self, jobs, claims, clock):
        job = jobs.add(new_job(not_before=clock.now + timedelta(hours=1)), 10)
        assert claims.claim(Lane.GPU, "w1", LEASE) is None
        clock.now += timedelta(hours=1)
        assert claim_all(claims) == [job.id]

    def test_a_late_job_is_failed_without_running(self, jobs, claims, queue, clock):
        job = jobs.add(new_job(deadline=clock.now + timedelta(minutes=1)), 10)
        assert queue.expire() == []
        clock.now += timedelta(minutes=1)
        assert claims.claim(Lane.GPU, "w1", LEASE) is None
        assert queue.expire() == [job.id]
        late = jobs.get(job.id)
        assert (late.status, late.error.code, late.attempt) == (JobStatus.FAILED, "deadline_passed", 0)

    def test_a_job_that_started_in_time_is_left_to_run(self, jobs, claims, queue, clock):
        job = jobs.add(new_job(deadline=clock.now + timedelta(minutes=1)), 10)
        claims.claim(Lane.GPU, "w1", LEASE)
        clock.now += timedelta(hours=1)
        assert queue.expire() == []
        assert jobs.get(job.id).status is JobStatus.RUNNING


class TestOrder:
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.sampled_from(JobClass), st.integers(-100, 100)), min_size=1, max_size=12), st.data())
    def test_the_claim_order_is_class_priority_age_whatever_is_moved(self, jobs, claims, queue, wanted, data):
        # Given jobs of any class and priority, one of which is moved to the front of its class
        chosen = data.draw(st.integers(0, len(wanted) - 1))
        added = [jobs.add(new_job(job_class=cls, priority=priority), 1000) for cls, priority in wanted]
        moved = queue.move_to_front(added[chosen].id)
        # When the queue is emptied
        order = claim_all(claims)
        # Then classes come one after the other, the moved job first of its class, the others by priority and age
        expected = sorted(
            added,
            key=lambda job: (
                job.schedule.job_class,
                job.id != moved.id,
                job.schedule.priority,
                job.created_at,
            ),
        )
        assert order == [job.id for job in expected]
        assert claims.claim(Lane.GPU, "w1", LEASE) is None
