"""Out of memory inside a module of the pipeline: what is given up, in which order, and what stays as it was."""

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.acceleration import MODULATION_TABLE, TILED_DECODE
from shared.domain.errors import OutOfMemory
from shared.domain.precision import Precision, ResidencyKey
from shared.planner import Shape
from tests.contract.small_card import card, store_on
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.ladder import RETRY_JOBS, RETRY_SECONDS, JobShape, Ladder, Relief, Rung

LARGE = {"model": "demo", "width": 256, "height": 256, "num_inference_steps": 1, "seed": 7}
SMALL = {**LARGE, "width": 128, "height": 128}


class Hungry(torch.nn.Module):
    """Stands in for a module: raises torch's own error while ``is_full()``, else computes as the real one."""

    def __init__(self, real, is_full):
        super().__init__()
        self.real = real
        self.is_full = is_full
        self.refusals = 0

    def forward(self, inputs, *rest, **options):
        if self.is_full(inputs):
            self.refusals += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.40 GiB")
        return self.real(inputs, *rest, **options)


class Context(SilentContext):
    def __init__(self):
        self.warnings, self.accelerations = [], []

    def warn(self, message):
        self.warnings.append(message)

    def on_acceleration(self, acceleration):
        self.accelerations.append(acceleration)


@pytest.fixture
def store():
    return store_on(card(10**9, dtype=torch.float32))


@pytest.fixture
def generator(store):
    return FluxLocalGenerator(store)


def paint(generator, **options):
    context = Context()
    picture = generator.generate("a red circle", context=context, **options)[0]
    return np.asarray(picture), context


def pipeline_of(store):
    return store.load(CATALOG["demo"]).pipeline


def make_hungry(store, is_full):
    transformer = pipeline_of(store).transformer
    transformer.proj_out = Hungry(transformer.proj_out, is_full)
    return transformer.proj_out


def on_device(store, start):
    return any(name.startswith(start) for name in store.residency.resident())


def test_without_the_encoders_it_fits_and_the_next_job_starts_there(store, generator):
    # Given a picture, and from now on too little memory while the encoders are there
    reference, _ = paint(generator, **SMALL)
    hungry = make_hungry(store, lambda _: on_device(store, "encoders"))
    # When it is painted again
    picture, context = paint(generator, **SMALL)
    # Then nothing but time was lost, and the job says what was given up
    assert np.array_equal(picture, reference)
    assert hungry.refusals == 1
    assert context.warnings == [f"out of memory: {Relief.ENCODERS_AWAY.value}"]
    assert context.accelerations == []
    # And the next job of the shape does not run into it again, though a new prompt brings the encoders back
    generator.generate("a blue square", **SMALL)
    assert hungry.refusals == 1


def test_a_model_on_its_own_with_a_table_paints_the_same(store, generator):
    # Given too little memory while the modulation layers are there, or any other model
    reference, _ = paint(generator, **SMALL)
    generator.warm("demo-fill")
    make_hungry(store, lambda _: on_device(store, "demo/modulation") or on_device(store, "demo-fill"))
    picture, context = paint(generator, **SMALL)
    # Then the smallest plan gets through, and no bit differs
    assert np.array_equal(picture, reference)
    assert context.accelerations == [MODULATION_TABLE]
    assert len(context.warnings) == 2
    assert generator.resident() == {"demo"}


def test_a_decode_that_never_fits_is_done_in_tiles_and_named_as_lossy(store, generator):
    # Given a decoder that has no room for a picture as large as this one
    reference, _ = paint(generator, **LARGE)
    vae = pipeline_of(store).vae
    vae.decoder = Hungry(vae.decoder, lambda latents: latents.shape[-1] > 16)
    picture, context = paint(generator, **LARGE)
    # Then it is decoded in tiles in the end, close to the plain one, and the result says so
    assert picture.shape == reference.shape
    assert np.abs(picture.astype(int) - reference).mean() < 16
    assert TILED_DECODE in context.accelerations
    assert not TILED_DECODE.lossless
    assert Relief.TILED_DECODE.value in context.warnings[-1]
    # And a smaller job does not inherit it
    assert paint(generator, **SMALL)[1].warnings == []


def test_when_nothing_helps_only_this_job_fails(store, generator):
    reference, _ = paint(generator, **SMALL)
    hungry = make_hungry(store, lambda _: True)
    with pytest.raises(OutOfMemory, match="Everything was given up for it") as caught:
        paint(generator, **SMALL)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert hungry.refusals == 1 + len(Relief)
    # Then the next one, with memory again, is as if nothing had happened
    hungry.is_full = lambda _: False
    picture, context = paint(generator, **SMALL)
    assert np.array_equal(picture, reference)
    assert context.warnings == []


@pytest.mark.parametrize(
    ("precision", "order"),
    [
        (Precision.EXACT, [Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN, Relief.TILED_DECODE]),
        (Precision.BALANCED, [Relief.TILED_DECODE, Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN]),
    ],
)
def test_exact_jobs_give_up_pixels_last(precision, order):
    ladder, job = Ladder(), JobShape(ResidencyKey("schnell", precision), Shape())
    rung, climbed = ladder.first(job), []
    while (rung := ladder.above(job, rung)) is not None:
        climbed.append(rung.reliefs[-1])
    assert climbed == order


def test_images_that_exist_are_not_made_again(store, generator):
    # Given memory that runs out at the second of three images
    calls = []
    hungry = make_hungry(store, lambda _: calls.append(1) or len(calls) == 2)
    images = generator.generate("a red circle", **{**SMALL, "num_images": 3})
    assert (len(images), hungry.refusals, len(calls)) == (3, 1, 4)


class TestForgetting:
    JOB = JobShape(ResidencyKey("schnell"), Shape())
    TWO = Rung((Relief.ENCODERS_AWAY, Relief.SMALLEST_PLAN))
    ONE = Rung((Relief.ENCODERS_AWAY,))

    def ladder(self):
        self.now = 0.0
        ladder = Ladder(lambda: self.now)
        ladder.remember(self.JOB, self.TWO)
        return ladder

    def test_for_some_jobs_they_start_where_the_last_one_got_through_then_one_tries_with_less(self):
        ladder = self.ladder()
        assert [ladder.first(self.JOB) for _ in range(RETRY_JOBS)] == [self.TWO] * RETRY_JOBS
        assert ladder.first(self.JOB) == self.ONE

    def test_after_some_minutes_too(self):
        ladder = self.ladder()
        self.now = RETRY_SECONDS - 1
        assert ladder.first(self.JOB) == self.TWO
        self.now = RETRY_SECONDS
        assert ladder.first(self.JOB) == self.ONE

    def test_a_try_that_fails_is_not_repeated_by_the_next_job(self):
        ladder = self.ladder()
        self.now = RETRY_SECONDS
        ladder.first(self.JOB)
        ladder.remember(self.JOB, self.TWO)
        assert ladder.first(self.JOB) == self.TWO

    def test_tries_that_succeed_lead_back_to_where_nothing_is_given_up(self):
        ladder = self.ladder()
        for rung in (self.ONE, Rung()):
            self.now += RETRY_SECONDS
            assert ladder.first(self.JOB) == rung
            ladder.remember(self.JOB, rung)
        self.now += RETRY_SECONDS
        assert ladder.first(self.JOB) == Rung()
