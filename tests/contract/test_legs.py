"""The runner on jobs of several legs: what it hands over, to whom, and what a failure leads to."""

import json

import pytest
from PIL import Image

from shared.domain.errors import NumericError, OutOfMemory, QuotaExceeded, StorageFailed
from shared.domain.job import Lane
from shared.domain.route import Generator, GeneratorChoice, Leg, Route
from shared.domain.status import JobStatus, Phase
from tests.builders import new_job, params
from tests.contract.conftest import LEASE
from tests.contract.scripted import paint, run_to_its_end
from tests.language_model import serving_language_model
from worker.enhancers.openai_chat import OpenAIChatEnhancer
from worker.enhancing import max_words
from worker.runner import RunnerLimits

LOCAL = Leg(generator=Generator.LOCAL, model="demo")
REMOTE = Leg(generator=Generator.REMOTE, model="schnell", changes={"num_inference_steps": 2})


def of(leg, first, count):
    return leg.model_copy(update={"first": first, "count": count})


MERGE = Route(legs=(of(LOCAL, 0, 2), of(REMOTE, 2, 1)), alternatives=(LOCAL, REMOTE))
FALLBACK = Route(legs=(of(LOCAL, 0, 3),), alternatives=(LOCAL, REMOTE))
ENHANCED = Route(legs=(Leg(generator=Generator.ENHANCER, model="nemo"), of(LOCAL, 0, 1)))


@pytest.fixture(scope="module")
def language_model():
    with serving_language_model() as running:
        yield running


@pytest.fixture
def rings():
    return []


@pytest.fixture
def run(make_runner, rings):
    """Run the next job of a lane with a generator that follows ``script``."""

    def run(script, lane=Lane.GPU, **changes):
        runner = make_runner(script, owner=f"w_{lane}", lane=lane, ring=lambda *ring: rings.append(ring), **changes)
        return run_to_its_end(runner)

    return run


@pytest.fixture
def add(jobs):
    def add(route, count, generator=GeneratorChoice.FALLBACK):
        return jobs.add(new_job(route=route, generator=generator, params=params(num_images=count, seed=40)), 10)

    return add


def fail_after(done, error):
    def script(context):
        paint(context, done)
        raise error

    return script


class TestMerge:
    def test_each_side_makes_its_share_and_says_so(self, run, add, jobs, storage, rings):
        # Given two pictures to be made here and one by the Space
        job = add(MERGE, 3, GeneratorChoice.MERGE)
        # When the GPU's worker has run
        run(lambda context: paint(context, 2))
        # Then the job waits for the other lane, whose doorbell was rung
        waiting = jobs.get(job.id)
        assert (waiting.status, waiting.lane, len(waiting.images)) == (JobStatus.QUEUED, Lane.REMOTE, 2)
        assert rings == [(job.id, job.kind, Lane.REMOTE)]
        # And the last leg ends it; indices and seeds go on where the first leg stopped
        run(paint, Lane.REMOTE)
        done = jobs.get(job.id)
        assert done.status is JobStatus.SUCCEEDED
        assert [(image.index, image.seed, image.generator) for image in done.images] == [
            (0, 40, "local"), (1, 41, "local"), (2, 42, "remote"),
        ]  # fmt: skip
        # And each file tells with which parameters it was made
        with Image.open(storage.local_path(done.images[2].path)) as picture:
            inside = json.loads(picture.text["flux-image"])
        assert (inside["generator"], inside["model"], inside["seed"], inside["num_inference_steps"]) == (
            "remote", "schnell", 42, 2,
        )  # fmt: skip

    def test_times_add_up_over_the_legs(self, run, add, jobs):
        job = add(MERGE, 3, GeneratorChoice.MERGE)
        run(lambda context: paint(context, 2))
        first = jobs.get(job.id).timings
        run(paint, Lane.REMOTE)
        assert jobs.get(job.id).timings.run_seconds > first.run_seconds
        assert jobs.get(job.id).timings.queue_wait_seconds == first.queue_wait_seconds

    def test_the_generator_is_asked_for_its_share_only(self, run, add):
        add(MERGE, 3, GeneratorChoice.MERGE)
        run(lambda context: paint(context, 2))
        seen = {}

        def script(context):
            seen.update(context.job.leg_params.model_dump())
            paint(context)

        run(script, Lane.REMOTE)
        assert (seen["seed"], seen["num_images"], seen["num_inference_steps"]) == (42, 1, 2)


class TestFallback:
    def test_the_other_side_goes_on_where_this_one_stopped(self, run, add, jobs, storage):
        # Given a card that fails for good after the first of three pictures
        job = add(FALLBACK, 3)
        line = run(fail_after(1, NumericError("not finite")))
        assert jobs.get(job.id).lane is Lane.REMOTE, line
        run(lambda context: paint(context, 2), Lane.REMOTE)
        # Then the result is whole, says who made what, and why
        done = jobs.get(job.id)
        assert [image.generator for image in done.images] == ["local", "remote", "remote"]
        assert done.warnings == ("generator local gave up (not finite); remote makes the rest",)
        assert [item.outcome for item in done.attempts] == ["divert", "finish"]
        assert len(list(storage.local_path(done.id).iterdir())) == 3

    def test_an_error_that_may_go_away_is_tried_here_first(self, run, add, jobs):
        job = add(FALLBACK, 3)
        run(fail_after(1, OutOfMemory("the card is full")))
        waiting = jobs.get(job.id)
        assert (waiting.lane, waiting.errors, waiting.images) == (Lane.GPU, 1, ())

    def test_a_side_that_is_away_is_not_waited_for(self, run, add, jobs):
        # Given a job whose Space goes first, and has no quota for an hour
        route = Route(legs=(of(REMOTE, 0, 1),), alternatives=(LOCAL, REMOTE))
        job = add(route, 1)
        run(fail_after(0, QuotaExceeded("no quota", retry_after_seconds=3600)), Lane.REMOTE)
        # Then this machine does it now
        waiting = jobs.get(job.id)
        assert (waiting.lane, waiting.schedule.not_before) == (Lane.GPU, None)

    def test_without_another_side_a_quota_is_waited_for(self, run, add, jobs):
        route = Route(legs=(of(REMOTE, 0, 1),))
        job = add(route, 1, GeneratorChoice.REMOTE)
        run(fail_after(0, QuotaExceeded("no quota", retry_after_seconds=3600)), Lane.REMOTE)
        waiting = jobs.get(job.id)
        assert (waiting.status, waiting.errors) == (JobStatus.QUEUED, 0)
        assert waiting.schedule.not_before > waiting.created_at

    def test_the_way_out_is_taken_once(self, run, add, jobs):
        job = add(FALLBACK, 3)
        run(fail_after(0, NumericError("not finite")))
        run(fail_after(0, NumericError("nor here")), Lane.REMOTE)
        failed = jobs.get(job.id)
        assert (failed.status, failed.error.message) == (JobStatus.FAILED, "nor here")

    def test_a_full_disk_is_no_reason_to_send_a_prompt_away(self, run, add, jobs):
        job = add(FALLBACK, 3)
        run(fail_after(0, StorageFailed("no room")), limits=RunnerLimits(LEASE, 0.02, max_attempts=1))
        assert jobs.get(job.id).lane is Lane.GPU

    def test_a_cancel_wins_over_the_other_side(self, run, add, jobs):
        job = add(FALLBACK, 3)

        def script(context):
            jobs.request_cancel(job.id)
            raise NumericError("not finite")

        run(script)
        assert jobs.get(job.id).status is JobStatus.CANCELLED


class TestEnhance:
    def test_the_generator_gets_the_enhanced_words_and_both_are_kept(self, run, add, jobs, language_model, rings):
        # Given a job whose prompt is to be enhanced
        job = add(ENHANCED, 1, GeneratorChoice.LOCAL)
        enhancer = OpenAIChatEnhancer(language_model.url, "nemo", None, 30)
        # When the remote lane has asked the language model, holding no GPU
        run(None, Lane.REMOTE, enhancer=enhancer)
        assert rings == [(job.id, job.kind, Lane.GPU)]
        # Then the card paints what came back
        prompts = []
        run(lambda context: (prompts.append(context.job.prompt), paint(context)))
        done = jobs.get(job.id)
        assert prompts == ["a red circle, softly lit, oil on canvas"]
        assert (done.params.prompt, done.prompt, done.enhancement.by) == ("a red circle", prompts[0], "nemo")

    @pytest.mark.parametrize("model", ["empty", "broken", "chatty"])
    def test_a_failure_of_it_is_a_warning(self, run, add, jobs, language_model, model):
        job = add(ENHANCED, 1, GeneratorChoice.LOCAL)
        run(None, Lane.REMOTE, enhancer=OpenAIChatEnhancer(language_model.url, model, None, 30))
        run(paint)
        done = jobs.get(job.id)
        assert (done.status, done.enhancement, done.prompt) == (JobStatus.SUCCEEDED, None, "a red circle")
        assert done.warnings[0].startswith("the prompt was not enhanced: ")

    def test_words_that_come_back_as_they_were_are_a_warning(self, run, add, jobs, language_model):
        job = add(ENHANCED, 1, GeneratorChoice.LOCAL)
        run(None, Lane.REMOTE, enhancer=OpenAIChatEnhancer(language_model.url, "echo", None, 30))
        run(paint)
        done = jobs.get(job.id)
        assert done.enhancement is None
        assert done.warnings == ("the prompt was not enhanced: echo gave it back as it was",)

    def test_even_a_bug_in_it_fails_no_job(self, run, add, jobs):
        job = add(ENHANCED, 1, GeneratorChoice.LOCAL)
        run(None, Lane.REMOTE, enhancer="no enhancer at all")
        waiting = jobs.get(job.id)
        assert (waiting.status, waiting.lane) == (JobStatus.QUEUED, Lane.GPU)
        assert "AttributeError" in waiting.warnings[0]

    def test_a_worker_that_knows_no_language_model_says_so(self, run, add, jobs):
        job = add(ENHANCED, 1, GeneratorChoice.LOCAL)
        run(None, Lane.REMOTE)
        assert "FLUX_ENHANCER_URL" in jobs.get(job.id).warnings[0]

    @pytest.mark.parametrize(("model", "words"), [("demo", 16), ("schnell", 170), ("dev", 200)])
    def test_the_words_are_as_many_as_the_painting_model_reads(self, jobs, model, words):
        route = Route(legs=(ENHANCED.legs[0], Leg(generator=Generator.LOCAL, model=model, count=1)))
        assert max_words(jobs.add(new_job(route=route), 10)) == words

    def test_the_phase_is_seen(self, run, add, jobs):
        job = add(ENHANCED, 1, GeneratorChoice.LOCAL)
        seen = []

        class Enhancer:
            def enhance(self, *_):
                seen.append(jobs.get(job.id).phase)
                raise AssertionError("seen enough")

        run(None, Lane.REMOTE, enhancer=Enhancer())
        assert seen == [Phase.ENHANCING]
