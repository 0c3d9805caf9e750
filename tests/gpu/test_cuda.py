"""The same path on a card; skipped, with a reason, where torch sees none."""

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.errors import OutOfMemory
from shared.domain.job import NextJob
from shared.domain.report import SpeedReport
from shared.settings import WorkerSettings
from tests.contract.small_card import OPTIONS as SMALL
from tests.contract.small_card import ROOM_FOR_ONE, card, shared_bytes, store_on
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.generators.options import resolve_options
from worker.pipelines.attention import choose_attention
from worker.pipelines.device import pick_device
from worker.pipelines.device_errors import device_faults
from worker.pipelines.resident import make_store
from worker.pipelines.speed import Speed, choose_compile
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

MODELS = ("demo", "demo-kontext", "demo-fill")
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


def test_the_next_job_s_table_is_made_beside_the_running_one_and_no_bit_differs():
    # Given a card that needs modulation tables, and one that has room for everything
    largest = max(CATALOG[model].component_bytes["transformer"] for model in MODELS)
    tight = FluxLocalGenerator(store_on(card(shared_bytes() + largest - 200_000, kind="cuda")))
    roomy = FluxLocalGenerator(store_on(card(10**9, kind="cuda")))
    jobs = [{"model": model, **SMALL[model], "num_inference_steps": 4} for model in MODELS]
    for options in jobs:
        tight.generate("warm", **options)
    before = tight.store.tables.prepared
    # When each job hears of the next one, then its picture is the same as with all layers in place
    for options, following in itertools.pairwise([*jobs, *jobs]):
        params = resolve_options(CATALOG[following["model"]], "a red circle", following)
        foreseen = NextJob(residency=following["model"], params=params)
        tight.expect(lambda foreseen=foreseen: foreseen)
        made, plain = (generator.generate("a red circle", **options)[0] for generator in (tight, roomy))
        assert np.array_equal(np.asarray(made), np.asarray(plain))
    assert tight.store.tables.prepared - before >= len(jobs) - 1


def test_previews_are_copied_beside_the_next_step_and_change_no_bit(generator):
    class Watched(SilentContext):
        def __init__(self):
            self.previews, self.renders = self, []

        def is_due(self):
            return True

        def offer(self, render):
            self.renders.append(render)

    watched = Watched()
    plain = generator.generate("a red circle", **OPTIONS)[0]
    seen = generator.generate("a red circle", context=watched, **OPTIONS)[0]
    assert np.array_equal(np.asarray(plain), np.asarray(seen))
    assert [render().size for render in watched.renders] == [(16, 16)] * len(watched.renders) != []


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


def test_what_is_tried_at_start_is_measured_and_said(tmp_path):
    store = make_store(WorkerSettings(_env_file=None, data_dir=tmp_path, device="cuda"))
    speed = store.speed.report
    assert speed.link.reason.startswith("measured at start: 256 MiB of pinned memory")
    assert store.device.link_gb_per_second == speed.link.gb_per_second
    assert store.device.has_fp8 is (speed.balanced.value == "fp8")
    assert speed.attention.value in ("native", "_native_cudnn", "_flash_3")


def test_a_lack_of_memory_leaves_the_card_usable():
    device = pick_device("cuda")
    with pytest.raises(OutOfMemory), device_faults(device.check):
        torch.empty(2**50, dtype=torch.uint8, device=device.torch_device)
    device.check()


LOSE_THE_CARD = """
import torch
from worker.pipelines.device import pick_device
from worker.pipelines.device_errors import device_faults

device = pick_device("cuda")
with device_faults(device.check):
    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].cpu()
"""


def test_a_kernel_that_asserts_loses_the_card_for_the_process():
    # In a process of its own, since that one is of no use afterwards
    ended = subprocess.run([sys.executable, "-c", LOSE_THE_CARD], capture_output=True, text=True, timeout=120)
    assert "DeviceLost: The device failed: CUDA error: device-side assert triggered" in ended.stderr
