"""Jobs of several legs on a real SQLite: hand over, divert, and what every leg starts with."""

from datetime import timedelta

import pytest

from shared.db.audit import audit
from shared.db.stranded import MovedOn, StrandedRepository
from shared.domain.job import Claim, JobError, Lane, Timings
from shared.domain.params import JobKind
from shared.domain.route import Enhancement, Generator, GeneratorChoice, Leg, Route
from shared.domain.status import JobStatus
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job, params
from tests.factories import job_image, png_bytes

LEASE = timedelta(seconds=30)
LOCAL = Leg(generator=Generator.LOCAL, model="demo")
REMOTE = Leg(generator=Generator.REMOTE, model="schnell")
ENHANCE = Leg(generator=Generator.ENHANCER, model="nemo")
LOST_CARD = JobError(code="out_of_memory", message="the card is full")


def route(*legs, hybrid=True):
    """A route of legs with so many pictures each."""
    placed, first = [], 0
    for pattern, count in legs:
        placed.append(pattern.model_copy(update={"first": first, "count": count}))
        first += count
    return Route(legs=tuple(placed), alternatives=(LOCAL, REMOTE) if hybrid else ())


@pytest.fixture
def storage(tmp_path):
    return LocalMediaStorage(tmp_path / "media")


@pytest.fixture
def sound(database, tmp_path, storage, clock):
    """Asserts that no promise is broken."""
    return lambda: audit(database, tmp_path / "media", clock) == []


@pytest.fixture
def add(jobs):
    def add(*legs, generator=GeneratorChoice.MERGE, hybrid=True, **changes):
        wanted = params(num_images=sum(count for _, count in legs))
        return jobs.add(new_job(route=route(*legs, hybrid=hybrid), generator=generator, params=wanted, **changes), 100)

    return add


@pytest.fixture
def take(claims):
    def take(lane, owner="w1"):
        job = claims.claim(lane, owner, LEASE)
        return job, job and Claim(job_id=job.id, attempt=job.attempt, owner=owner)

    return take


@pytest.fixture
def paint(storage):
    """Store the first ``count`` pictures of the current leg and return their records."""

    def paint(job, count):
        leg, images = job.route.current, []
        for index in leg.indices[:count]:
            path = f"{job.id}/{job.attempt}-{index}.png"
            storage.put(path, png_bytes())
            images.append(job_image(path, png_bytes(), index, job.params.seed + index, leg.generator))
        return images

    return paint


def rescue_expired(rescues):
    return [claim.job_id for claim in rescues.expired() if rescues.rescue_expired(claim)]


class TestHandOver:
    def test_the_next_leg_waits_in_its_own_lane_and_the_pictures_so_far_are_published(
        self, jobs, claims, add, take, paint, sound
    ):
        # Given a job of two pictures here and two by the Space
        submitted = add((LOCAL, 2), (REMOTE, 2))
        assert submitted.lane is Lane.GPU
        job, claim = take(Lane.GPU)
        # When the first leg is handed over
        moved = claims.hand_over(claim, job.route.advanced(), Timings(run_seconds=1), ["note"], images=paint(job, 2))
        # Then the job waits in the other lane, with the first pictures to be seen already
        waiting = jobs.get(job.id)
        assert (moved, waiting.status, waiting.lane) == (True, JobStatus.QUEUED, Lane.REMOTE)
        assert [(image.index, image.generator) for image in waiting.images] == [(0, "local"), (1, "local")]
        assert waiting.started_at == job.started_at
        assert take(Lane.GPU) == (None, None)
        assert sound()
        # And the second leg ends it
        job, claim = take(Lane.REMOTE, "r1")
        assert claims.succeed(claim, paint(job, 2), Timings(), job.warnings)
        done = jobs.get(job.id)
        assert [(image.index, image.generator) for image in done.images][2:] == [(2, "remote"), (3, "remote")]
        assert [attempt.outcome for attempt in done.attempts] == ["hand over", "finish"]
        assert (done.warnings, done.timings.queue_wait_seconds) == (("note",), waiting.timings.queue_wait_seconds)
        assert sound()

    def test_a_lost_claim_hands_nothing_over(self, jobs, claims, rescues, add, take, paint):
        add((LOCAL, 1), (REMOTE, 1))
        job, stale = take(Lane.GPU)
        rescues.rescue_others(Lane.GPU, "w2")
        assert claims.hand_over(stale, job.route.advanced(), Timings(), [], images=paint(job, 1)) is False
        assert jobs.get(job.id).images == ()

    def test_a_cancel_that_came_first_wins_and_keeps_what_was_made(self, jobs, claims, add, take, paint, sound):
        add((LOCAL, 1), (REMOTE, 1))
        job, claim = take(Lane.GPU)
        jobs.request_cancel(job.id)
        assert claims.hand_over(claim, job.route.advanced(), Timings(), [], images=paint(job, 1))
        ended = jobs.get(job.id)
        assert (ended.status, len(ended.images), ended.owner) == (JobStatus.CANCELLED, 1, None)
        assert sound()

    def test_handing_over_again_after_a_lost_answer_is_safe(self, jobs, claims, add, take, paint):
        add((LOCAL, 1), (REMOTE, 1))
        job, claim = take(Lane.GPU)
        images = paint(job, 1)
        for _ in range(2):
            assert claims.hand_over(claim, job.route.advanced(), Timings(), [], images=images)
        assert len(jobs.get(job.id).images) == 1

    def test_a_cancel_between_two_legs_keeps_what_was_published(self, jobs, claims, add, take, paint, sound):
        add((LOCAL, 1), (REMOTE, 1))
        job, claim = take(Lane.GPU)
        claims.hand_over(claim, job.route.advanced(), Timings(), [], images=paint(job, 1))
        ended = jobs.request_cancel(job.id)
        assert (ended.status, len(ended.images)) == (JobStatus.CANCELLED, 1)
        assert sound()

    def test_a_crash_in_the_second_leg_repeats_only_that_leg(self, claims, rescues, add, take, paint, clock, sound):
        add((LOCAL, 1), (REMOTE, 1), hybrid=False)
        job, claim = take(Lane.GPU)
        claims.hand_over(claim, job.route.advanced(), Timings(), [], images=paint(job, 1))
        take(Lane.REMOTE, "r1")
        clock.now += LEASE
        assert rescue_expired(rescues) == [job.id]
        again, _ = take(Lane.REMOTE, "r2")
        assert (again.attempt, again.crashes, again.leg_params.seed, again.leg_params.num_images) == (3, 1, 2, 1)
        assert len(again.images) == 1
        assert sound()

    def test_a_leg_starts_with_fresh_budgets(self, jobs, claims, rescues, add, take):
        add((LOCAL, 1), (REMOTE, 1))
        for _ in range(2):
            take(Lane.GPU)
            rescues.rescue_others(Lane.GPU, "other")
        job, claim = take(Lane.GPU)
        claims.retry(claim, LOST_CARD, timedelta(0))
        job, claim = take(Lane.GPU)
        assert (job.crashes, job.errors) == (2, 1)
        claims.hand_over(claim, job.route.advanced(), Timings(), [])
        waiting = jobs.get(job.id)
        assert (waiting.crashes, waiting.errors, len(waiting.attempts)) == (0, 0, 4)

    def test_a_deadline_is_about_the_start_and_not_about_a_later_leg(self, jobs, claims, queue, add, take, clock):
        late = add((LOCAL, 1), (REMOTE, 1), deadline=clock.now + timedelta(seconds=60))
        job, claim = take(Lane.GPU)
        claims.hand_over(claim, job.route.advanced(), Timings(), [])
        clock.now += timedelta(seconds=120)
        assert queue.expire() == []
        assert take(Lane.REMOTE)[0].id == late.id

    def test_an_enhanced_prompt_is_kept_beside_the_original(self, jobs, claims, add, take):
        add((ENHANCE, 0), (LOCAL, 1))
        job, claim = take(Lane.REMOTE)
        made = Enhancement(by="nemo", prompt="a red circle, softly lit")
        claims.hand_over(claim, job.route.advanced(), Timings(), [], enhancement=made)
        waiting = jobs.get(job.id)
        assert waiting.enhancement == made
        assert (waiting.params.prompt, waiting.prompt) == ("a red circle", "a red circle, softly lit")


class TestDivert:
    def test_the_other_side_makes_what_is_missing(self, jobs, claims, add, take, paint, sound):
        # Given four pictures of which the card made one before it failed
        add((LOCAL, 4), generator=GeneratorChoice.FALLBACK)
        job, claim = take(Lane.GPU)
        diverted = job.route.diverted(finished=1)
        claims.hand_over(claim, diverted, Timings(), [], images=paint(job, 1), error=LOST_CARD)
        assert sound()
        # When the Space makes the rest
        job, claim = take(Lane.REMOTE)
        assert claims.succeed(claim, paint(job, 3), Timings(), [])
        # Then each picture says who made it, and the attempts say why
        done = jobs.get(job.id)
        assert [image.generator for image in done.images] == ["local", "remote", "remote", "remote"]
        assert [(item.outcome, item.error and item.error.code) for item in done.attempts] == [
            ("divert", "out_of_memory"),
            ("finish", None),
        ]
        assert sound()

    def test_a_job_that_kills_its_worker_goes_to_the_other_side_once(self, jobs, rescues, add, take, clock, sound):
        add((LOCAL, 1), generator=GeneratorChoice.FALLBACK)
        for _ in range(3):
            take(Lane.GPU)
            rescues.rescue_others(Lane.GPU, "other")
        job = jobs.get(take(Lane.REMOTE)[0].id)
        assert (job.lane, job.crashes, "remote makes the rest" in job.warnings[0]) == (Lane.REMOTE, 0, True)
        for _ in range(3):
            clock.now += LEASE
            rescue_expired(rescues)
            take(Lane.REMOTE)
        assert (jobs.get(job.id).status, jobs.get(job.id).error.code) == (JobStatus.FAILED, "worker_crashed")
        assert sound()

    def test_a_prompt_that_kills_the_enhancer_is_painted_as_it_is(self, jobs, rescues, add, take, clock, sound):
        job = add((ENHANCE, 0), (LOCAL, 1), generator=GeneratorChoice.LOCAL, hybrid=False)
        for _ in range(3):
            take(Lane.REMOTE)
            clock.now += LEASE
            rescue_expired(rescues)
        waiting = jobs.get(job.id)
        assert (waiting.status, waiting.lane, waiting.enhancement) == (JobStatus.QUEUED, Lane.GPU, None)
        assert "the prompt was not enhanced: The worker died 3 times" in waiting.warnings[0]
        assert sound()


class TestStranded:
    def test_jobs_of_a_dead_lane_go_where_their_route_allows(self, jobs, add, database, clock):
        # Given one job that may go to the other side, one that may not, and one that came just now
        may = add((LOCAL, 1), generator=GeneratorChoice.FALLBACK)
        may_not = add((LOCAL, 1), generator=GeneratorChoice.LOCAL, hybrid=False)
        since = clock()
        young = add((LOCAL, 1), generator=GeneratorChoice.FALLBACK)
        # When the lane is found dead
        moved = StrandedRepository(database, clock).move_on(Lane.GPU, since, "no GPU worker is alive", {Lane.REMOTE})
        # Then only the first one moves
        assert moved == [MovedOn(may.id, JobKind.GENERATE, Lane.REMOTE)]
        assert jobs.get(may.id).warnings == ("generator local gave up (no GPU worker is alive); remote makes the rest",)
        assert {jobs.get(job.id).lane for job in (may_not, young)} == {Lane.GPU}
        # And only once
        assert StrandedRepository(database, clock).move_on(Lane.REMOTE, clock(), "no worker", set(Lane)) == []

    def test_an_enhancement_that_nobody_can_make_is_skipped(self, jobs, add, database, clock, sound):
        job = add((ENHANCE, 0), (LOCAL, 1), generator=GeneratorChoice.LOCAL, hybrid=False)
        moved = StrandedRepository(database, clock).move_on(
            Lane.REMOTE, clock(), "no worker of the remote lane is alive", set()
        )
        assert moved == [MovedOn(job.id, JobKind.GENERATE, Lane.GPU)]
        assert "was not enhanced: no worker" in jobs.get(job.id).warnings[0]
        assert sound()

    def test_a_job_stays_where_nobody_else_could_run_it_either(self, jobs, add, database, clock):
        job = add((LOCAL, 1), generator=GeneratorChoice.FALLBACK)
        assert StrandedRepository(database, clock).move_on(Lane.GPU, clock(), "no worker", set()) == []
        assert jobs.get(job.id).warnings == ()

    def test_a_paused_or_held_job_stays(self, jobs, queue, add, database, clock):
        held = add((LOCAL, 1), generator=GeneratorChoice.FALLBACK)
        queue.hold(held.id)
        stranded = StrandedRepository(database, clock)
        assert stranded.move_on(Lane.GPU, clock(), "no worker", set(Lane)) == []
        queue.unhold(held.id)
        queue.pause(Lane.GPU)
        assert stranded.move_on(Lane.GPU, clock(), "no worker", set(Lane)) == []
