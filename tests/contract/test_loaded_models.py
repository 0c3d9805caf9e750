"""Host memory is bounded, too: models at several precisions, on a host with room for few of them."""

import weakref

import numpy as np
import pytest

from shared.catalog import CATALOG
from shared.domain.precision import Precision
from tests.contract.small_card import OPTIONS, card
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

ROOM_FOR_ONE = 13_000_000
"""Of which 75 % may be taken: an exact demo model is 7.8 MB in 16 bits, one in 4 bits 4.2, with encoders and VAE."""


def generator_on(host_bytes):
    return FluxLocalGenerator(PipelineStore(Weights(), card(10**9), cpu_offload="off", host_bytes=host_bytes))


def paint(generator, precision, model="demo"):
    return np.asarray(generator.generate("a red circle", model=model, precision=precision, **OPTIONS[model])[0])


@pytest.fixture
def generator():
    return generator_on(ROOM_FOR_ONE)


def test_a_model_that_comes_back_paints_the_same(generator):
    # Given what each precision paints where all stay
    roomy = generator_on(10**9)
    expected = {precision: paint(roomy, precision) for precision in Precision}
    # When jobs alternate where one model has room
    for precision in (*Precision, *Precision):
        assert np.array_equal(paint(generator, precision), expected[precision])
    # Then exact left for the others, and came again
    assert generator.store.residency.brought["demo"] == 2
    assert roomy.store.residency.brought["demo"] == 1


def test_what_is_dropped_is_gone_from_memory_and_from_the_account(generator):
    paint(generator, Precision.EXACT)
    loaded = generator.store.load(CATALOG["demo"])
    parts = [weakref.ref(loaded.pipeline.transformer), weakref.ref(loaded.pipeline.text_encoder_2)]
    shared = weakref.ref(loaded.pipeline.text_encoder)
    del loaded
    # When a model comes that has no room beside it
    paint(generator, Precision.COMPACT)
    # Then its own parts are gone, and nothing of it counts as resident
    assert [part() for part in parts] == [None, None]
    assert generator.resident() == {"demo:compact"}
    # And so is the small encoder: it was read again, for nobody had it in between
    assert shared() is None


def test_a_part_that_another_model_has_stays():
    # Given two exact models that share encoders and VAE, on a host with room for them and little more
    generator = generator_on(17_400_000)
    for model in ("demo", "demo-fill"):
        paint(generator, Precision.EXACT, model)
    encoder = generator.store.load(CATALOG["demo-fill"]).pipeline.text_encoder_2
    # When one of them has to leave
    paint(generator, Precision.COMPACT)
    assert generator.resident() == {"demo-fill", "demo:compact"}
    # Then the other keeps what they shared, where it was
    before = generator.store.residency.brought.copy()
    assert generator.store.load(CATALOG["demo-fill"]).pipeline.text_encoder_2 is encoder
    paint(generator, Precision.EXACT, "demo-fill")
    assert generator.store.residency.brought == before


def test_a_part_of_a_model_that_was_only_loaded_stays_too():
    # Given a model that was placed, and another that shares its encoders and was not placed yet
    generator = generator_on(17_400_000)
    paint(generator, Precision.EXACT)
    generator.store.load(CATALOG["demo-fill"])
    # When the first has to leave
    paint(generator, Precision.COMPACT)
    assert generator.resident() == {"demo:compact"}
    # Then the other paints as it does where all stay
    expected = paint(generator_on(10**9), Precision.EXACT, "demo-fill")
    assert np.array_equal(paint(generator, Precision.EXACT, "demo-fill"), expected)
