"""Claims, fencing and rescue on a real SQLite."""

import itertools
import threading
from datetime import timedelta

import pytest

from shared.db.jobs import JobFilter
from shared.domain.errors import CapacityError
from shared.domain.job import Claim, JobClass, JobError, JobImage, Lane, Timings
from shared.domain.route import Generator, simple_route
from shared.domain.status import JobStatus, Phase
from shared.ids import new_image_id
from tests.builders import new_job

LEASE = timedelta(seconds=30)


def claim_of(job, owner="w1"):
    return Claim(job_id=job.id, attempt=job.attempt, owner=owner)


def image(index=0):
    return JobImage(
        id=new_image_id(), index=index, seed=1, width=8, height=8, path=f"x/{index}.png",
        content_type="image/png", size_bytes=1, sha256="0" * 64, generator=Generator.LOCAL,
    )  # fmt: skip


class TestClaim:
    def test_class_goes_first_then_priority_then_age(self, jobs, claims):
        wanted = [
            (JobClass.INTERACTIVE, 5),
            (JobClass.INTERACTIVE, 9),
            (JobClass.NORMAL, -1),
            (JobClass.NORMAL, 0),
            (JobClass.NORMAL, 0),
            (JobClass.BACKGROUND, -100),
        ]
        added = [jobs.add(new_job(job_class=cls, priority=prio), 100) for cls, prio in reversed(wanted)]
        order = [claims.claim(Lane.GPU, "w1", LEASE).id for _ in wanted]
        expected = [added[5].id, added[4].id, added[3].id, added[1].id, added[2].id, added[0].id]
        assert order == expected

    def test_an_empty_queue_gives_nothing(self, claims):
        assert claims.claim(Lane.GPU, "w1", LEASE) is None

    def test_another_lane_is_left_alone(self, jobs, claims):
        jobs.add(new_job(route=simple_route("schnell", 1, generator=Generator.REMOTE)), 100)
        assert claims.claim(Lane.GPU, "w1", LEASE) is None

    def test_parallel_claims_never_share_a_job(self, jobs, claims):
        # Given forty jobs and eight claiming threads
        for _ in range(40):
            jobs.add(new_job(), 100)
        taken, lock = [], threading.Lock()

        def work(owner):
            while (job := claims.claim(Lane.GPU, owner, LEASE)) is not None:
                with lock:
                    taken.append(job.id)

        threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Then each job was taken exactly once
        assert len(taken) == 40
        assert len(set(taken)) == 40


class TestFencing:
    def test_a_lost_claim_can_write_nothing(self, jobs, claims, rescues):
        # Given a job that was rescued from w1 and claimed by w2
        jobs.add(new_job(), 100)
        stale = claim_of(claims.claim(Lane.GPU, "w1", LEASE))
        rescues.rescue_others(Lane.GPU, "w2")
        current = claim_of(claims.claim(Lane.GPU, "w2", LEASE), "w2")
        # When w1 comes back, then every one of its writes is refused
        error = JobError(code="x", message="x")
        assert not claims.heartbeat(stale, LEASE).held
        assert not claims.set_phase(stale, Phase.SAVING)
        assert not claims.succeed(stale, [image()], Timings(), [])
        assert not claims.fail(stale, error, Timings())
        assert not claims.cancel(stale, Timings())
        assert not claims.release(stale)
        # And w2 still holds the job
        assert claims.heartbeat(current, LEASE).held
        assert jobs.get(current.job_id).images == ()

    def test_an_end_is_final(self, jobs, claims):
        job = jobs.add(new_job(), 100)
        claim = claim_of(claims.claim(Lane.GPU, "w1", LEASE))
        assert claims.succeed(claim, [image(1), image(0)], Timings(load_seconds=1, run_seconds=2), ["note"])
        assert not claims.fail(claim, JobError(code="x", message="x"), Timings())
        assert jobs.request_cancel(job.id).status is JobStatus.SUCCEEDED
        done = jobs.get(job.id)
        assert [item.index for item in done.images] == [0, 1]
        assert (done.warnings, done.timings.run_seconds, done.owner, done.phase) == (("note",), 2, None, None)


class TestCancelAgainstTheEnd:
    @pytest.fixture
    def claim(self, jobs, claims):
        jobs.add(new_job(), 100)
        return claim_of(claims.claim(Lane.GPU, "w1", LEASE))

    def test_an_accepted_cancel_wins_over_a_later_end(self, jobs, claims, claim):
        jobs.request_cancel(claim.job_id)
        assert not claims.succeed(claim, [image()], Timings(), [])
        assert claims.cancel(claim, Timings())
        assert (jobs.get(claim.job_id).status, jobs.get(claim.job_id).images) == (JobStatus.CANCELLED, ())

    def test_an_end_wins_over_a_later_cancel(self, jobs, claims, claim):
        assert claims.succeed(claim, [image()], Timings(), [])
        after = jobs.request_cancel(claim.job_id)
        assert (after.status, after.cancel_requested_at) == (JobStatus.SUCCEEDED, None)
        assert not claims.cancel(claim, Timings())

    def test_both_at_once_give_exactly_one_end(self, jobs, claims):
        for _ in range(30):
            jobs.add(new_job(), 100)
            claim = claim_of(claims.claim(Lane.GPU, "w1", LEASE))
            start, published = threading.Barrier(2), []

            def publish(claim=claim, start=start, published=published):
                start.wait()
                published.append(claims.succeed(claim, [image()], Timings(), []) or claims.cancel(claim, Timings()))

            thread = threading.Thread(target=publish)
            thread.start()
            start.wait()
            answer = jobs.request_cancel(claim.job_id)
            thread.join()
            end = jobs.get(claim.job_id)
            assert published == [True]
            assert (end.status is JobStatus.CANCELLED) == (end.cancel_requested_at is not None) == (end.images == ())
            assert answer.is_terminal == (end.status is JobStatus.SUCCEEDED)

    def test_publishing_again_after_an_unsure_commit_says_that_it_is_done(self, jobs, claims, claim):
        for _ in range(2):
            assert claims.succeed(claim, [image()], Timings(), [])
        assert len(jobs.get(claim.job_id).images) == 1


class TestRescue:
    def test_a_job_that_kills_its_worker_three_times_is_failed(self, jobs, claims, rescues):
        job = jobs.add(new_job(), 100)
        for crash in itertools.count(1):
            if claims.claim(Lane.GPU, f"w{crash}", LEASE) is None:
                break
            assert rescues.rescue_others(Lane.GPU, "next") == [job.id]
        failed = jobs.get(job.id)
        assert (failed.status, failed.error.code, failed.crashes) == (JobStatus.FAILED, "worker_crashed", 3)

    def test_an_expired_lease_is_rescued_and_a_live_one_is_not(self, jobs, claims, rescues, clock):
        job = jobs.add(new_job(), 100)
        claims.claim(Lane.GPU, "w1", LEASE)
        assert rescues.expired() == frozenset()
        clock.now += LEASE
        (claim,) = rescues.expired()
        assert (claim.job_id, claim.attempt, claim.owner) == (job.id, 1, "w1")
        assert rescues.rescue_expired(claim)
        assert not rescues.rescue_expired(claim)
        assert jobs.get(job.id).status is JobStatus.QUEUED

    def test_a_lease_that_was_renewed_meanwhile_is_not_rescued(self, jobs, claims, rescues, clock):
        jobs.add(new_job(), 100)
        claims.claim(Lane.GPU, "w1", LEASE)
        clock.now += LEASE
        (claim,) = rescues.expired()
        claims.heartbeat(claim, LEASE)
        assert not rescues.rescue_expired(claim)

    def test_a_crash_keeps_its_reason(self, jobs, claims):
        job = jobs.add(new_job(), 100)
        error = JobError(code="worker_hung", message="No progress.")
        for _ in range(3):
            assert claims.crash(claim_of(claims.claim(Lane.GPU, "w1", LEASE)), error)
        failed = jobs.get(job.id)
        assert [(item.outcome, item.error.code) for item in failed.attempts] == [("rescue", "worker_hung")] * 3
        assert (failed.error.code, failed.crashes) == ("worker_crashed", 3)
        assert "No progress." in failed.error.message

    def test_only_crashes_in_a_row_put_the_device_in_doubt(self, jobs, claims, rescues):
        error = JobError(code="device_lost", message="x")
        seen = []
        for end in ("crash", "crash", "release", "crash", "crash"):
            jobs.add(new_job(), 100)
            claim = claim_of(claims.claim(Lane.GPU, "w1", LEASE))
            claims.crash(claim, error) if end == "crash" else claims.release(claim)
            seen.append(rescues.crashed_lately(Lane.GPU))
        assert seen == [False, True, False, False, True]

    def test_a_cancel_that_the_dead_worker_never_saw_is_honoured(self, jobs, claims, rescues):
        job = jobs.add(new_job(), 100)
        claims.claim(Lane.GPU, "w1", LEASE)
        jobs.request_cancel(job.id)
        rescues.rescue_others(Lane.GPU, "w2")
        assert jobs.get(job.id).status is JobStatus.CANCELLED

    def test_a_release_spends_no_crash(self, jobs, claims):
        job = jobs.add(new_job(), 100)
        claims.release(claim_of(claims.claim(Lane.GPU, "w1", LEASE)))
        again = claims.claim(Lane.GPU, "w2", LEASE)
        assert (again.id, again.attempt, again.crashes) == (job.id, 2, 0)


class TestRing:
    def test_a_job_is_rung_for_once_in_a_while_and_only_so_many(self, jobs, rings, clock):
        first = [jobs.add(new_job(), 100).id for _ in range(3)][:2]
        quiet = timedelta(seconds=10)
        assert [job_id for job_id, _ in rings.due_for_ring(Lane.GPU, 2, quiet)] == first
        assert rings.due_for_ring(Lane.GPU, 2, quiet) == []
        clock.now += quiet
        assert len(rings.due_for_ring(Lane.GPU, 2, quiet)) == 2
        assert rings.count_due(Lane.GPU) == 3


class TestList:
    def test_pages_hold_every_job_once_newest_first(self, jobs):
        added = sorted((jobs.add(new_job(), 100).id for _ in range(5)), reverse=True)
        seen, cursor = [], None
        while True:
            page = jobs.page(JobFilter(), 2, cursor)
            seen += [job.id for job in page.jobs]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == added

    def test_a_full_queue_stores_nothing(self, jobs):
        jobs.add(new_job(), 1)
        with pytest.raises(CapacityError):
            jobs.add(new_job(), 1)
        assert len(jobs.page(JobFilter(), 10, None).jobs) == 1

    def test_queue_positions_follow_the_claim_order(self, jobs, claims):
        added = [jobs.add(new_job(priority=priority), 100) for priority in (3, 1, 2)]
        positions = jobs.queue_positions(added)
        by_position = [job_id for job_id, _ in sorted(positions.items(), key=lambda item: item[1])]
        assert [claims.claim(Lane.GPU, "w", LEASE).id for _ in added] == by_position

    @pytest.mark.parametrize("asked", [1, 12])
    def test_a_position_is_the_same_alone_and_among_many(self, jobs, asked):
        added = [jobs.add(new_job(priority=-number % 3), 100) for number in range(12)]
        found = {}
        for first in range(0, len(added), asked):
            found |= jobs.queue_positions(added[first : first + asked])
        in_order = sorted(added, key=lambda job: (job.schedule.priority, job.created_at))
        assert [found[job.id] for job in in_order] == list(range(12))
