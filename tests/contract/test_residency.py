"""Weights that come and go: order, counts, bytes and equality, with the demo family on cards of a few megabytes."""

import itertools

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError, OutOfMemory
from shared.domain.job import NextJob
from shared.domain.precision import ResidencyKey
from shared.planner.sizes import working_bytes
from tests.builders import params
from tests.contract.small_card import OPTIONS, ROOM_FOR_ALL, ROOM_FOR_ONE, SHAPE, SIDE, TRANSFORMER, card, store_on
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.device_memory import Block, HostMemory, blocks_of, weights_of
from worker.pipelines.pinned import CHUNK_BYTES, PackedChunks
from worker.pipelines.residency import Residency


def paint(generator, model, prompt="a red circle"):
    return np.asarray(generator.generate(prompt, model=model, **OPTIONS[model])[0])


class TestAccount:
    def linear(self, size):
        return torch.nn.Linear(size, 1, bias=False)  # 4 bytes per input

    def residency(self, usable, **sizes):
        made = Residency(HostMemory(), usable)
        modules = {name: self.linear(size) for name, size in sizes.items()}
        for name, module in modules.items():
            made.add(name, blocks_of(module))
        return made, modules

    def use(self, residency, *names, working=0):
        with residency.using(names, working):
            pass

    def test_nothing_is_on_the_device_until_it_is_used(self):
        residency, modules = self.residency(100, a=10)
        assert residency.resident() == ()
        with pytest.raises(RuntimeError):
            modules["a"](torch.ones(10))
        self.use(residency, "a")
        assert modules["a"](torch.ones(10)).shape == (1,)

    def test_the_least_recently_used_makes_room(self):
        # Given room for two, and two of which the first was used again
        residency, _ = self.residency(80, a=10, b=10, c=10)
        for name in ("a", "b", "a", "c"):
            self.use(residency, name)
        # When a third came, then the one not used for longest went
        assert residency.resident() == ("a", "c")
        assert residency.brought == {"a": 1, "b": 1, "c": 1}
        assert residency.brought_bytes == 120

    def test_what_is_in_use_stays_even_if_nothing_else_can_make_room(self):
        residency, _ = self.residency(80, a=10, b=10, c=10)
        with residency.using(["a", "b"], 0):
            residency.evict(["a"])
            with pytest.raises(OutOfMemory, match="needed at once"), residency.using(["c"], 0):
                pass
            assert residency.resident() == ("a", "b")
        self.use(residency, "c")
        assert residency.resident() == ("b", "c")

    def test_working_memory_counts_while_it_is_needed(self):
        residency, _ = self.residency(80, a=10, b=10)
        self.use(residency, "a", working=40)
        self.use(residency, "b", working=0)
        assert residency.resident() == ("a", "b")
        self.use(residency, "b", working=40)
        assert residency.resident() == ("b",)

    def test_a_prefetch_evicts_nothing(self):
        residency, _ = self.residency(80, a=10, b=10, c=10)
        self.use(residency, "a")
        assert residency.prefetch(["b"], 0)
        assert not residency.prefetch(["c"], 0)
        assert residency.resident() == ("a", "b")

    def test_what_is_removed_is_not_known_any_more_and_takes_no_room(self):
        residency, modules = self.residency(80, a=10, b=10)
        self.use(residency, "a", "b")
        residency.remove("a")
        assert residency.resident() == ("b",)
        assert residency.resident_bytes == 40
        assert modules["a"].weight.numel() == 0
        with pytest.raises(KeyError):
            self.use(residency, "a")

    def test_every_sequence_stays_within_the_budget(self):
        # Given every order in which five uses of four things can come
        sizes = {"a": 5, "b": 10, "c": 15, "d": 1}
        for names in itertools.product(sizes, repeat=5):
            residency, _ = self.residency(80, **sizes)
            for name in names:
                with residency.using([name], 12):
                    assert name in residency.resident()
                    assert residency.resident_bytes + 12 <= 80


class TestBlocks:
    def test_every_weight_of_a_transformer_is_in_one_block_and_layers_come_in_order(self):
        transformer = store_on(card(ROOM_FOR_ALL)).load(CATALOG["demo"]).pipeline.transformer
        blocks = list(blocks_of(transformer))
        listed = [weight for block in blocks for weight in block.weights]
        assert len(listed) == len({id(weight) for weight in listed}) == len(weights_of(transformer))
        layers = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        assert [block.layer for block in blocks] == [None, *layers]

    def test_a_weight_in_two_places_comes_once(self):
        encoder = store_on(card(ROOM_FOR_ALL)).load(CATALOG["demo"]).pipeline.text_encoder_2
        assert encoder.shared.weight is encoder.encoder.embed_tokens.weight
        listed = [weight for block in blocks_of(encoder) for weight in block.weights]
        assert sum(weight is encoder.shared.weight for weight in listed) == 1


@pytest.fixture(scope="module")
def reference():
    """What each model paints on a card with room for all."""
    generator = FluxLocalGenerator(store_on(card(ROOM_FOR_ALL)))
    return {model: paint(generator, model) for model in OPTIONS}


class TestMixedQueue:
    QUEUE = ("demo", "demo-kontext", "demo-fill", "demo", "demo", "demo-fill", "demo-kontext", "demo")

    def test_models_that_take_turns_paint_what_models_that_stay_paint(self, reference):
        # Given a card with room for one transformer
        store = store_on(card(ROOM_FOR_ONE))
        generator = FluxLocalGenerator(store)
        # When a mixed queue runs on it
        for model in self.QUEUE:
            assert np.array_equal(paint(generator, model), reference[model]), model
            assert [key.model for key in store.resident_keys()] == [model]
            assert generator.resident() == {model}
        # Then each switch moved one transformer, and the encoders and the VAE came once
        switches = 1 + sum(a != b for a, b in itertools.pairwise(self.QUEUE))
        brought = store.residency.brought
        assert sum(brought[model] for model in OPTIONS) == switches
        assert {count for name, count in brought.items() if name.startswith(("encoders", "vae"))} == {1}

    def test_with_room_for_all_each_comes_once(self, reference):
        store = store_on(card(ROOM_FOR_ALL))
        generator = FluxLocalGenerator(store)
        for model in self.QUEUE:
            assert np.array_equal(paint(generator, model), reference[model])
        assert set(store.residency.brought.values()) == {1}

    def test_encoders_and_model_take_turns_where_they_do_not_fit_together(self, reference):
        # Given room for the transformer or the encoders, not both
        sizes = CATALOG["demo"].component_bytes
        own_working = working_bytes(SIDE * SIDE, 24)
        store = store_on(card(sizes["transformer"] + sizes["vae"] + 100_000, own_working))
        generator = FluxLocalGenerator(store)
        # When a prompt is painted twice, then the second time nothing is encoded, so nothing moves
        for _ in range(2):
            assert np.array_equal(paint(generator, "demo"), reference["demo"])
            assert set(store.residency.brought.values()) == {1}
            assert not any(name.startswith("encoders") for name in store.residency.resident())
        # And a new prompt moves both
        paint(generator, "demo", "a blue square")
        brought = store.residency.brought
        assert brought["demo"] == max(count for name, count in brought.items() if name.startswith("encoders")) == 2

    def test_the_next_model_comes_early_where_it_has_room(self, reference):
        # Given room for two transformers, and a worker that was told what comes next
        store = store_on(card(ROOM_FOR_ALL - TRANSFORMER))
        generator = FluxLocalGenerator(store)
        for model in ("demo-fill", "demo"):
            generator.expect(lambda: None)
            paint(generator, model)
        store.residency.evict(["demo-fill", "demo-fill/modulation"])
        generator.expect(lambda: NextJob(residency="demo-fill", params=params(kind="fill")))
        # When a job of another model runs
        assert np.array_equal(paint(generator, "demo"), reference["demo"])
        # Then the next one's weights are there before its job
        assert generator.resident() == {"demo", "demo-fill"}

    def test_an_early_guest_evicts_nobody(self):
        store = store_on(card(ROOM_FOR_ONE))
        generator = FluxLocalGenerator(store)
        for model in ("demo-fill", "demo"):
            generator.expect(lambda: NextJob(residency="demo-fill", params=params(kind="fill")))
            paint(generator, model)
        assert generator.resident() == {"demo"}

    def test_masters_are_never_written_to(self):
        store = store_on(card(ROOM_FOR_ONE))
        pipelines = [store.load(CATALOG[model]).pipeline for model in OPTIONS]
        before = [weight.clone() for pipeline in pipelines for weight in weights_of(pipeline.transformer)]
        generator = FluxLocalGenerator(store)
        for model in self.QUEUE[:4]:
            paint(generator, model)
        after = []
        for model, pipeline in zip(OPTIONS, pipelines, strict=True):
            with store.place(store.load(CATALOG[model]), shape=SHAPE).denoising():
                after += [weight.clone() for weight in weights_of(pipeline.transformer)]
        assert all(map(torch.equal, before, after))

    def test_a_card_that_is_too_small_refuses_before_anything_is_loaded(self):
        store = store_on(card(100_000))
        with pytest.raises(CapabilityError, match="demo at precision exact needs"):
            paint(FluxLocalGenerator(store), "demo")
        assert store.residency.brought == {}

    def test_what_nobody_may_evict_is_not_evicted_by_another_plan(self):
        store = store_on(card(ROOM_FOR_ONE))
        placement = store.place(store.load(CATALOG["demo"]), shape=SHAPE)
        with placement.denoising():
            store.place(store.load(CATALOG["demo-fill"]), shape=SHAPE)
            assert ResidencyKey("demo") in store.resident_keys()


class TestPackedChunks:
    def test_tensors_lie_behind_each_other_aligned_and_equal(self):
        allocated = []

        def allocate(size):
            allocated.append(size)
            return torch.empty(size, dtype=torch.uint8)

        chunks = PackedChunks(3 * CHUNK_BYTES, allocate)
        originals = [torch.randn(7, 3), torch.arange(5), torch.randn(3).to(torch.bfloat16)]
        copies = [chunks.copy_of(original) for original in originals]
        assert allocated == [CHUNK_BYTES]
        assert all(map(torch.equal, originals, copies))
        assert all((copy.data_ptr() - copies[0].data_ptr()) % 256 == 0 for copy in copies)

    def test_a_buffer_is_free_for_others_when_all_of_its_copies_are_released(self):
        allocated = []

        def allocate(size):
            allocated.append(size)
            return torch.empty(size, dtype=torch.uint8)

        # Given a limit of one buffer, and two copies in it
        chunks = PackedChunks(CHUNK_BYTES, allocate)
        first, second = chunks.copy_of(torch.ones(3)), chunks.copy_of(torch.ones(5))
        # When one is released, and one that is no copy, then the next still goes behind them
        chunks.release(first)
        chunks.release(torch.ones(3))
        third = chunks.copy_of(torch.ones(7))
        assert allocated == [CHUNK_BYTES]
        # When all are, then the limit has room for another buffer
        chunks.release(second)
        chunks.release(third)
        assert torch.equal(chunks.copy_of(torch.ones(9)), torch.ones(9))
        assert allocated == [CHUNK_BYTES, CHUNK_BYTES]

    def test_beyond_the_limit_there_is_no_copy(self):
        assert (
            PackedChunks(CHUNK_BYTES - 1, lambda size: torch.empty(size, dtype=torch.uint8)).copy_of(torch.ones(1))
            is None
        )


def test_blocks_without_a_layer_are_needed_at_once():
    assert Block(()).layer is None
