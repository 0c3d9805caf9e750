"""The modulation table makes the same latents, to the last bit, with every pipeline of the demo family."""

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.acceleration import MODULATION_TABLE
from tests.contract.small_card import OPTIONS, SHAPE, SIDE, card, shared_bytes, store_on
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.device import SideStream, pick_device
from worker.pipelines.modulation import ModulationTable, modulation_blocks
from worker.pipelines.tables import ModulationTables

MODELS = ("demo", "demo-kontext", "demo-fill")


class Context(SilentContext):
    def __init__(self):
        self.accelerations = []

    def on_acceleration(self, acceleration):
        self.accelerations.append(acceleration)


@pytest.fixture(scope="module")
def store():
    return store_on(card(10**9))


def table_for(loaded):
    transformer = loaded.pipeline.transformer
    layers = [block.layer for block in modulation_blocks(transformer)]
    tables = ModulationTables(SideStream(pick_device("cpu")))
    return ModulationTable(
        loaded.pipeline,
        lambda conditioning: tables.get("x", transformer, conditioning, lambda: (layer for layer in layers)),
    )


def latents_of(loaded, steps=5, guidance=2.5, seed=3):
    inputs = {}
    if loaded.spec.model != "demo":
        inputs["image"] = Image.new("RGB", (SIDE, SIDE), "red")
    if loaded.spec.model == "demo-fill":
        inputs["mask_image"] = Image.new("L", (SIDE, SIDE), 255)
    if loaded.spec.model == "demo-kontext":
        inputs |= {"max_area": SIDE * SIDE, "_auto_resize": False}
    return loaded.pipeline(
        prompt="a red circle",
        width=SIDE,
        height=SIDE,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        max_sequence_length=24,
        output_type="latent",
        return_dict=False,
        **inputs,
    )[0]


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float32], ids=str)
def store_of_each_type(request):
    return store_on(card(10**9, dtype=request.param))


@pytest.mark.parametrize("model", MODELS)
def test_the_latents_are_equal_to_the_last_bit(store_of_each_type, model):
    # Given a pipeline with all of its weights on the device
    store = store_of_each_type
    loaded = store.load(CATALOG[model])
    placement = store.place(loaded, shape=SHAPE)
    with placement.encoding(), placement.denoising():
        # When its latents are made with and without a table
        plain = latents_of(loaded)
        table = table_for(loaded)
        with table.in_place():
            first = latents_of(loaded)
        with table.in_place():
            again = latents_of(loaded, seed=4)
        # Then no bit differs, also when the table serves a second image, and afterwards the plain way is as before
        assert torch.equal(plain, first)
        assert torch.equal(again, latents_of(loaded, seed=4))
        assert torch.equal(plain, latents_of(loaded))


def test_the_rows_are_read_from_the_same_memory_at_every_step(store):
    loaded = store.load(CATALOG["demo"])
    seen = set()
    placement = store.place(loaded, shape=SHAPE)
    with placement.encoding(), placement.denoising():
        transformer = loaded.pipeline.transformer
        table = table_for(loaded)
        with table.in_place():
            norm = transformer.transformer_blocks[0].norm1
            hook = norm.linear.register_forward_hook(lambda _, __, row: seen.add(row.data_ptr()))
            latents_of(loaded)
            hook.remove()
    assert len(seen) == 1


class TestOnACardThatNeedsIt:
    """A thousand bytes less than all the weights take."""

    @pytest.mark.parametrize("model", MODELS)
    def test_the_plan_uses_the_table_and_the_picture_is_the_same(self, store, model):
        context = Context()
        tight = store_on(card(shared_bytes() + CATALOG[model].component_bytes["transformer"] - 1000))
        options = {**OPTIONS[model], "num_images": 2}
        planned = FluxLocalGenerator(tight).generate("a red circle", context=context, model=model, **options)
        roomy = FluxLocalGenerator(store).generate("a red circle", model=model, **options)
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(planned, roomy, strict=True))
        assert context.accelerations == [MODULATION_TABLE]
        # And the modulation layers passed once, for both images, and are not there
        assert tight.residency.brought[f"{model}/modulation"] == 1
        assert f"{model}/modulation" not in tight.residency.resident()
        linear = tight.load(CATALOG[model]).pipeline.transformer.transformer_blocks[0].norm1.linear
        assert linear.weight.numel() == 0


def test_a_job_that_starts_from_a_picture_reads_the_rows_of_its_own_steps(store):
    # Given a job that begins in the middle of the schedule, on a card that needs the table
    tight = store_on(card(shared_bytes() + CATALOG["demo"].component_bytes["transformer"] - 1000))
    options = {
        "model": "demo",
        **OPTIONS["demo"],
        "num_inference_steps": 6,
        "image": Image.new("RGB", (SIDE, SIDE), "red"),
    }
    context = Context()
    # When it is made there and on a roomy one, then the pictures are equal
    planned = FluxLocalGenerator(tight).generate("a blue square", context=context, strength=0.5, **options)[0]
    roomy = FluxLocalGenerator(store).generate("a blue square", strength=0.5, **options)[0]
    assert context.accelerations == [MODULATION_TABLE]
    assert np.array_equal(np.asarray(planned), np.asarray(roomy))
