"""Weights that come and go: order, counts, bytes and equality, with the demo family on cards of a few megabytes."""

import itertools

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError, OutOfMemory
from shared.domain.job import NextJob
from shared.domain.precision import ResidencyKey
from shared.planner.sizes import decoding_bytes
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

    def test_what_the_plan_does_not_need_leaves_first_then_what_the_job_needs_last(self):
        # Given four things, the oldest of them the one that the job needs most
        residency, _ = self.residency(160, model=10, encoder=10, other=10, nobody=10)
        for name in ("model", "nobody", "encoder", "other"):
            self.use(residency, name)
        residency.begin(["encoder", "other", "model"], 0)
        left = []
        # When ever more room is needed
        for working in (40, 80, 120):
            with residency.using([], working):
                left.append({"model", "encoder", "other", "nobody"} - {*residency.resident()})
        # Then they go in the order of the plan, whenever they were used last
        assert left == [{"nobody"}, {"nobody", "encoder"}, {"nobody", "encoder", "other"}]

    def layers(self, *sizes):
        model = torch.nn.Module()
        model.layers = torch.nn.ModuleList(self.linear(size) for size in sizes)
        return model

    def test_what_the_job_needs_again_leaves_from_its_end_and_no_more_than_must(self):
        # Given a model of four layers of 40 bytes, which may leave one by one
        residency, model = Residency(HostMemory(), 200, part_bytes=40), self.layers(10, 10, 10, 10)
        residency.add("model", blocks_of(model))
        self.use(residency, "model")
        residency.begin(["model"], 0)
        # When room for one and a half of them is needed
        with residency.using([], 100):
            # Then the last two are away
            assert [layer.weight.numel() for layer in model.layers] == [10, 10, 0, 0]
            assert residency.resident_bytes == 80
            assert residency.resident() == ("model",)
            assert not residency.holds(["model"])
        # And only they come back
        self.use(residency, "model")
        assert residency.holds(["model"])
        assert residency.brought == {"model": 2}
        assert residency.brought_bytes == 160 + 80

    def test_what_no_plan_needs_leaves_whole(self):
        residency = Residency(HostMemory(), 200, part_bytes=40)
        residency.add("model", blocks_of(self.layers(10, 10, 10, 10)))
        self.use(residency, "model")
        with residency.using([], 100):
            assert residency.resident() == ()

    def test_a_copy_that_fails_half_way_is_accounted_for_and_can_be_taken_back(self):
        # Given memory that ends at the third of four layers
        class Short(HostMemory):
            asked = 0

            def bring(self, blocks, masters):
                self.asked += 1
                if self.asked == 3:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                super().bring(blocks, masters)

        residency = Residency(Short(), 200, part_bytes=40)
        residency.add("model", blocks_of(self.layers(10, 10, 10, 10)))
        with pytest.raises(torch.OutOfMemoryError):
            self.use(residency, "model")
        # Then the two that came are known, and leave when told
        assert (residency.resident(), residency.resident_bytes, residency.brought_bytes) == (("model",), 80, 80)
        residency.evict(["model"])
        assert (residency.resident(), residency.resident_bytes) == ((), 0)

    def test_what_comes_early_for_another_job_leaves_room_for_every_phase_of_this_one(self):
        residency, _ = self.residency(120, a=10, b=10)
        residency.begin(["a"], 60)
        with residency.using(["a"], 20):
            assert not residency.prefetch_for_another(["b"])
            residency.begin(["a"], 40)
            assert residency.prefetch_for_another(["b"])

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
        # Given too little room for the transformer beside the encoders' work, and for all encoders beside a decode
        sizes = CATALOG["demo"].component_bytes
        own_working = decoding_bytes(SIDE * SIDE)
        store = store_on(card(sizes["transformer"] + sizes["vae"] + 100_000, own_working))
        generator = FluxLocalGenerator(store)
        large, small = (store.load(CATALOG["demo"]).digests[name][:12] for name in ("text_encoder_2", "text_encoder"))
        # When a prompt is painted twice, then the second time nothing is encoded, so nothing moves
        for _ in range(2):
            assert np.array_equal(paint(generator, "demo"), reference["demo"])
            assert set(store.residency.brought.values()) == {1}
            assert f"encoders:text_encoder_2:{large}" not in store.residency.resident()
        # And a new prompt moves what had left, and no more: the model and the large encoder
        paint(generator, "demo", "a blue square")
        brought = store.residency.brought
        assert brought["demo"] == brought[f"encoders:text_encoder_2:{large}"] == 2
        assert brought[f"encoders:text_encoder:{small}"] == 1

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
            store.residency.evict(store.residency.resident())  # alone, a model has room for its modulation layers
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
