"""Previews: what they show, when they come, and that they change no bit of the pictures."""

import threading

import numpy as np
import pytest
from PIL import Image

from shared.catalog import CATALOG
from shared.channel.previews import PreviewChannel
from shared.domain.status import JobStatus
from tests.builders import new_job
from tests.contract.scripted import paint, run_to_its_end
from tests.contract.small_card import MASK, RED
from tests.stack import wait_for
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights
from worker.previews import PreviewSender

STEPS = 6
OPTIONS = {"width": 128, "height": 192, "num_inference_steps": STEPS, "seed": 7}
SOURCES = {
    "demo": {},
    "demo from a picture": {"image": RED, "strength": 0.9},
    "demo-kontext": {"image": RED},
    "demo-fill": {"image": RED, "mask": MASK},
}


class Gallery:
    """Keeps what is offered."""

    def __init__(self, due=lambda: True):
        self.is_due = due
        self.shown = []

    def offer(self, render):
        self.shown.append(render())


class Watching(SilentContext):
    def __init__(self, previews=None):
        self.previews = previews
        self.steps = 0

    def on_step(self, step, total_steps):
        self.steps += 1


@pytest.fixture(scope="module")
def generator():
    return FluxLocalGenerator(PipelineStore(Weights(), pick_device("cpu")))


@pytest.mark.parametrize("case", SOURCES)
def test_previews_come_to_look_like_the_picture_and_change_no_bit_of_it(generator, case):
    # Given a job whose every preview is wanted, and the same job without
    options = {"model": case.split()[0], **OPTIONS, **SOURCES[case]}
    gallery, plain = Gallery(), Watching()
    watched = generator.generate("a red circle on a blue background", context=Watching(gallery), **options)[0]
    unwatched = generator.generate("a red circle on a blue background", context=plain, **options)[0]
    # Then the pictures are equal, and there is one preview per step but the first
    assert np.array_equal(np.asarray(watched), np.asarray(unwatched))
    assert len(gallery.shown) == plain.steps - 1
    # And they come closer to the picture, one pixel for 8 x 8 of its own
    final = np.asarray(watched.resize((16, 24), Image.Resampling.BOX)).astype(int)
    distances = [np.abs(np.asarray(shown).astype(int) - final).mean() for shown in gallery.shown]
    assert gallery.shown[0].size == (16, 24)
    assert distances[-1] < distances[0]
    assert distances[-1] < 12


def test_none_is_made_while_none_is_due(generator):
    answers = iter([False, True] * STEPS)
    gallery = Gallery(lambda: next(answers))
    generator.generate("a red circle", context=Watching(gallery), model="demo", **OPTIONS)
    assert len(gallery.shown) == (STEPS - 1) // 2


def test_the_first_preview_of_each_image_is_its_own(generator):
    # Given two images, of which the second is also made alone
    both, alone = Gallery(), Gallery()
    generator.generate("a red circle", context=Watching(both), model="demo", num_images=2, **OPTIONS)
    generator.generate(
        "a red circle", context=Watching(alone), model="demo", **{**OPTIONS, "seed": OPTIONS["seed"] + 1}
    )
    # Then its previews know nothing of the first one's latents
    pairs = zip(both.shown[STEPS - 1 :], alone.shown, strict=True)
    assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)


class TestOnTheirWay:
    @pytest.fixture
    def shown(self, broker_url):
        shown = PreviewChannel(broker_url)
        yield shown
        shown.close()

    def sender(self, broker_url, interval=0.001):
        return PreviewSender(PreviewChannel(broker_url), interval)

    def test_the_latest_is_there_while_the_job_runs_and_gone_when_it_has_ended(
        self, make_runner, jobs, broker_url, shown
    ):
        job = jobs.add(new_job(), 10)
        seen = []

        def script(context):
            for colour in ("red", "blue"):
                wait_for(context.previews.is_due, "a preview is due")
                context.previews.offer(lambda colour=colour: Image.new("RGB", (8, 8), colour))
            wait_for(context.previews.is_due, "the last one is sent")
            seen.append(shown.get(job.id, 1))
            paint(context)

        run_to_its_end(make_runner(script, previews=self.sender(broker_url)))
        assert seen[0].startswith(b"RIFF")
        assert jobs.get(job.id).status is JobStatus.SUCCEEDED
        assert shown.get(job.id, 1) is None

    def test_one_that_is_still_sent_when_the_job_ends_leaves_nothing(self, make_runner, jobs, broker_url, shown):
        job = jobs.add(new_job(), 10)
        reached = threading.Event()

        def slow():
            reached.set()
            wait_for(lambda: jobs.get(job.id).phase != "loading", "the job goes on")
            return Image.new("RGB", (8, 8))

        def script(context):
            context.previews.offer(slow)
            assert reached.wait(30)
            paint(context)

        run_to_its_end(make_runner(script, previews=self.sender(broker_url)))
        assert shown.get(job.id, 1) is None

    def test_none_is_due_before_the_interval_is_over_or_while_one_is_sent(self, make_runner, jobs, broker_url):
        jobs.add(new_job(), 10)
        gate = threading.Event()
        due = []

        def script(context):
            due.append(context.previews.is_due())
            context.previews.offer(lambda: gate.wait(30) and Image.new("RGB", (8, 8)))
            due.append(context.previews.is_due())
            gate.set()
            context.previews._sending.result()
            due.append(context.previews.is_due())
            paint(context)

        run_to_its_end(make_runner(script, previews=self.sender(broker_url, interval=3600)))
        assert due == [True, False, False]

    def test_one_that_fails_harms_nobody(self, make_runner, jobs, broker_url):
        job = jobs.add(new_job(), 10)

        def script(context):
            context.previews.offer(lambda: 1 / 0)
            wait_for(lambda: context.previews._sending.done(), "it has failed")
            paint(context)

        run_to_its_end(make_runner(script, previews=self.sender(broker_url)))
        assert jobs.get(job.id).status is JobStatus.SUCCEEDED

    def test_without_redis_there_is_none_and_no_harm(self, make_runner, jobs):
        job = jobs.add(new_job(), 10)

        def script(context):
            context.previews.offer(lambda: Image.new("RGB", (8, 8)))
            paint(context)

        run_to_its_end(make_runner(script, previews=self.sender("redis://127.0.0.1:1")))
        assert jobs.get(job.id).status is JobStatus.SUCCEEDED
        assert PreviewChannel("redis://127.0.0.1:1").get(job.id, 1) is None

    def test_a_worker_without_previews_makes_none(self, make_runner, jobs):
        jobs.add(new_job(), 10)
        seen = []
        run_to_its_end(make_runner(lambda context: seen.append(context.previews) or paint(context)))
        assert seen == [None]


def test_stable_diffusion_has_none(generator):
    loaded = type("Loaded", (), {"spec": CATALOG["sd15"]})()
    assert generator.store.latent_rgb(loaded, None) is None
