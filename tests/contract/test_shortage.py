"""A card that others use too, on the recording one: what is planned for, what is given up, and what comes back."""

import dataclasses

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.errors import OutOfMemory
from shared.planner import MARGIN_BYTES
from tests.contract.small_card import OPTIONS, ROOM_FOR_ALL, ROOM_FOR_ONE, SHAPE, WORKING, card, shared_bytes, store_on
from tests.recording_device import RecordingCuda
from tests.recording_device.card import DRIVER_BYTES
from worker.generators.climb import on_a_clear_device
from worker.generators.flux_local import FluxCalls, FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.generators.options import resolve_options
from worker.generators.painter import Painter
from worker.pipelines.device_memory import weights_of
from worker.pipelines.ladder import RETRY_SECONDS, Relief
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

TOTAL = 2**34


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Context(SilentContext):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


class Machine:
    """A worker on a card of which others leave ``weights_bytes`` for weights, and the margin."""

    def __init__(self, cuda, weights_bytes):
        self.cuda = cuda
        self.clock = Clock()
        self.leave(weights_bytes)
        device = dataclasses.replace(card(weights_bytes), cuda=cuda, total_bytes=TOTAL)
        self.store = PipelineStore(Weights(), device, cpu_offload="off", clock=self.clock)
        self.generator = FluxLocalGenerator(self.store)

    def leave(self, weights_bytes):
        """Have others take all of the card but room for so many bytes of weights, and what goes with them."""
        self.cuda.others = TOTAL - DRIVER_BYTES - MARGIN_BYTES - WORKING - weights_bytes

    def paint(self, model="demo", prompt="a red circle"):
        context = Context()
        picture = self.generator.generate(prompt, model=model, context=context, **OPTIONS[model])[0]
        return np.asarray(picture), context.warnings

    def resident(self, start):
        return any(name.startswith(start) for name in self.store.residency.resident())


@pytest.fixture
def cuda():
    with RecordingCuda(TOTAL).recording() as cuda:
        yield cuda


@pytest.fixture(scope="module")
def reference():
    generator = FluxLocalGenerator(store_on(card(ROOM_FOR_ALL)))
    return {
        model: np.asarray(generator.generate("a red circle", model=model, **OPTIONS[model])[0]) for model in OPTIONS
    }


class TestBudget:
    def test_the_plan_counts_with_what_others_leave(self, cuda):
        # Given a card that is large enough for all, and others that leave room for one model
        machine = Machine(cuda, ROOM_FOR_ONE)
        for model in OPTIONS:
            machine.paint(model)
        assert machine.generator.resident() == {"demo-fill"}

    def test_what_others_take_meanwhile_is_seen_after_a_while_and_so_is_what_they_give_back(self, cuda):
        machine = Machine(cuda, ROOM_FOR_ALL)
        machine.paint("demo")
        machine.leave(ROOM_FOR_ONE)
        machine.paint("demo-kontext")
        assert machine.generator.resident() == {"demo", "demo-kontext"}  # the margin was there for that
        # When some time has gone by, then the next job's plan is made for less
        machine.clock.now += RETRY_SECONDS
        machine.paint("demo-fill")
        assert machine.generator.resident() == {"demo-fill"}
        # And when the others have left, after a while, for more again
        machine.leave(ROOM_FOR_ALL)
        machine.clock.now += RETRY_SECONDS
        machine.paint("demo")
        assert machine.generator.resident() == {"demo-fill", "demo"}

    def test_a_job_that_fits_the_card_but_not_beside_others_can_be_tried_again(self, cuda):
        machine = Machine(cuda, 1000)
        with pytest.raises(OutOfMemory, match="Other programs have the rest of the card") as refused:
            machine.paint()
        assert refused.value.retryable
        machine.leave(ROOM_FOR_ONE)
        assert machine.paint()[1] == []

    def test_torch_never_gets_the_margin(self, cuda):
        machine = Machine(cuda, ROOM_FOR_ALL)
        machine.store.measure()
        assert cuda.allocator.most_reserved == cuda.memory().share - MARGIN_BYTES


class TestShortage:
    def test_weights_that_come_early_fail_no_job(self, cuda, reference):
        # Given a torch that gets less than was planned, so that the denoiser fits only without the encoders
        machine = Machine(cuda, ROOM_FOR_ALL)
        cuda.limit(sum(CATALOG["demo"].component_bytes.values()) - 1_000_000)
        picture, warnings = machine.paint()
        # Then it does not come while text is encoded, the encoders leave it their room, and the job says so
        assert np.array_equal(picture, reference["demo"])
        assert warnings == [f"out of memory: {Relief.ENCODERS_AWAY.value}"]

    def test_a_card_that_others_fill_fails_the_job_as_out_of_memory_and_is_tried_again(self, cuda, reference):
        machine = Machine(cuda, ROOM_FOR_ALL)
        cuda.others = TOTAL
        with pytest.raises(OutOfMemory, match="Everything was given up for it"):
            machine.paint()
        machine.leave(ROOM_FOR_ALL)
        picture, warnings = machine.paint()
        assert np.array_equal(picture, reference["demo"])
        assert warnings == []

    def test_a_job_whose_weights_came_slowly_for_want_of_pinned_memory_says_so(self):
        with RecordingCuda(TOTAL, pin_at_most=0).recording() as cuda:
            machine = Machine(cuda, ROOM_FOR_ALL)
            warnings = machine.paint()[1]
            assert warnings == [machine.store.shortage]
            assert "pageable" in machine.store.shortage
            # And one that moves none has nothing to say
            assert machine.paint()[1] == []

    def test_memory_that_is_lacking_while_an_adapter_is_put_in_is_climbed_for(self, cuda):
        # Given a guide whose adapter has room only without the encoders
        machine = Machine(cuda, ROOM_FOR_ALL)
        machine.paint()

        class Guide:
            attempts = 0

            def __init__(self, runs, _params):
                self.runs = runs

            def __enter__(self):
                Guide.attempts += 1
                if machine.resident("encoders"):
                    machine.store.residency.evict(machine.store.residency.resident()[:1])
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return self.runs, dict

            def __exit__(self, *_):
                pass

        params = resolve_options(CATALOG["demo"], "a red circle", {"model": "demo", **OPTIONS["demo"]})
        context = Context()
        Painter(machine.store).paint(FluxCalls(machine.store), CATALOG["demo"], params, {}, context, guide=Guide)
        assert Guide.attempts > 1
        assert context.warnings[0] == f"out of memory: {Relief.ENCODERS_AWAY.value}"

    def test_what_is_loaded_beside_other_models_gets_the_card_to_itself_when_it_must(self, cuda):
        machine = Machine(cuda, ROOM_FOR_ALL)
        machine.paint()
        free = cuda.memory().reserved
        cuda.limit(free)
        made = on_a_clear_device(machine.store, lambda: cuda.empty(free - 2**20, dtype=torch.uint8))
        assert made.nbytes == free - 2**20
        assert machine.store.residency.resident() == ()
        cuda.others = TOTAL
        with pytest.raises(OutOfMemory, match="with nothing else on it"):
            on_a_clear_device(machine.store, lambda: cuda.empty(TOTAL, dtype=torch.uint8))


class TestOrderOfCopies:
    """The first block waits for all that was given to the one stream of copies before it."""

    def order(self, machine):
        """Return whose weights were copied, in order; ``passing`` is what did not stay."""
        pipeline = machine.store.load(CATALOG["demo"]).pipeline
        owners = {
            weight.data_ptr(): name
            for name, module in pipeline.components.items()
            if isinstance(module, torch.nn.Module)
            for weight in weights_of(module)
        }
        transformer = pipeline.transformer
        modulation = [weight for name, weight in transformer.named_parameters() if "norm" in name and "linear" in name]
        owners |= {weight.data_ptr(): "modulation" for weight in modulation}
        owners |= {weight.data_ptr(): "modulation" for weight in weights_of(transformer.time_text_embed)}
        found = [owners.get(copy.start, "passing") for copy in machine.cuda.copies]
        return [name for name, before in zip(found, [None, *found], strict=False) if name != before]

    def test_encoders_that_the_job_needs_come_first_then_the_modulation_then_the_blocks(self, cuda):
        machine = Machine(cuda, ROOM_FOR_ALL)
        machine.paint()
        assert self.order(machine) == ["text_encoder", "text_encoder_2", "vae", "modulation", "transformer"]

    def test_a_table_is_made_before_the_blocks_set_out(self, cuda, reference):
        room = shared_bytes() + CATALOG["demo"].component_bytes["transformer"] - 300_000
        machine = Machine(cuda, room)
        picture, _ = machine.paint()
        assert np.array_equal(picture, reference["demo"])
        assert self.order(machine) == ["text_encoder", "text_encoder_2", "passing", "vae", "transformer"]
        assert machine.store.tables.made == 1

    def test_with_a_known_prompt_the_encoders_do_not_come_at_all(self, cuda):
        machine = Machine(cuda, ROOM_FOR_ALL)
        machine.paint()
        machine.store.residency.evict(machine.store.residency.resident())
        cuda.copies.clear()
        machine.paint()
        assert self.order(machine) == ["vae", "modulation", "transformer"]


def test_a_job_that_failed_before_its_model_was_taken_over_leaves_nothing_half_done(cuda):
    # Given a machine that cannot keep the VAE's weights, once
    machine = Machine(cuda, ROOM_FOR_ALL)
    loaded = machine.store.load(CATALOG["demo"])
    vae = weights_of(loaded.pipeline.vae)
    memory, real = machine.store.residency._memory, machine.store.residency._memory.master

    def failing(data):
        if data.data_ptr() == vae[-1].data_ptr():
            memory.master = real
            raise RuntimeError("no memory")
        return real(data)

    memory.master = failing
    with pytest.raises(RuntimeError, match="no memory"):
        machine.paint()
    # When the next job comes, then it is as if nothing had been
    assert machine.paint()[1] == []
    assert machine.store.place(loaded, SHAPE).plan is not None
