"""The same path on a card; skipped, with a reason, where torch sees none."""

import dataclasses

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.report import SpeedReport
from tests.contract.small_card import ROOM_FOR_ONE, card
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.attention import choose_attention
from worker.pipelines.device import pick_device
from worker.pipelines.speed import Speed, choose_compile
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

OPTIONS = {"model": "demo", "width": 128, "height": 128, "seed": 7}


@pytest.fixture(scope="module", params=["off", "on"], ids=["resident", "cpu_offload"])
def generator(request):
    return FluxLocalGenerator(PipelineStore(Weights(), pick_device("cuda"), cpu_offload=request.param))


def test_pictures_are_made_in_bfloat16_on_the_card(generator):
    images = generator.generate("a red circle", **OPTIONS, num_images=2)
    assert [image.size for image in images] == [(128, 128)] * 2
    assert not np.array_equal(np.asarray(images[0]), np.asarray(images[1]))


def test_the_same_seed_gives_the_same_picture(generator):
    first, second = (generator.generate("a red circle", **OPTIONS)[0] for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_switching_between_pipelines_changes_no_picture(generator):
    before = generator.generate("a red circle", **OPTIONS)[0]
    generator.generate("make it green", **{**OPTIONS, "model": "demo-kontext"}, image=before)
    after = generator.generate("a red circle", **OPTIONS)[0]
    assert np.array_equal(np.asarray(before), np.asarray(after))


def test_compiled_blocks_wait_for_weights_that_are_on_their_way():
    # Given a card with room for one model, compiled code, and two models that take turns
    device = dataclasses.replace(pick_device("cuda"), total_bytes=card(ROOM_FOR_ONE).total_bytes)
    speed = Speed(SpeedReport(compile=choose_compile("on", device), attention=choose_attention("auto", device)))
    store = PipelineStore(Weights(), device, cpu_offload="off", speed=speed)
    taking_turns = FluxLocalGenerator(store)
    small = {**OPTIONS, "width": 64, "height": 64}
    before = taking_turns.generate("a red circle", **small)[0]
    # When one comes back after the other, twice
    for _ in range(2):
        taking_turns.generate("make it green", **{**small, "model": "demo-kontext"}, image=before)
        after = taking_turns.generate("a red circle", **small)[0]
        # Then its picture is the same
        assert np.array_equal(np.asarray(before), np.asarray(after))
    assert speed.warning(store.load(CATALOG["demo"]).pipeline.transformer) is None
    assert store.residency.brought["demo"] == 3
