"""The way of weights to a card, on the recording one: what is in flight, what waits for what, what is pinned."""

import pytest
import torch

from tests.recording_device import RecordingCuda
from worker.pipelines.cuda_memory import CudaMemory
from worker.pipelines.device_memory import Block, Master, weights_of
from worker.pipelines.pinned import CHUNK_BYTES, RING_BYTES, SMALLEST_RING_BYTES, pinned_or_none

WIDTH = 64
LAYER_BYTES = 4 * WIDTH * WIDTH
PLENTY = 2 * CHUNK_BYTES + RING_BYTES


@pytest.fixture
def cuda():
    with RecordingCuda().recording() as cuda:
        yield cuda


class Model:
    """Layers that a card computes with, and what they put out."""

    def __init__(self, memory, count=12, width=WIDTH, door=None):
        torch.manual_seed(count)
        self.layers = [torch.nn.Linear(width, width, bias=False) for _ in range(count)]
        self.input = torch.ones(1, width)
        self.expected = [layer(self.input) for layer in self.layers]
        self.blocks = [Block(tuple(weights_of(layer)), layer, door) for layer in self.layers]
        self.master = Master(self.blocks, memory)

    @torch.no_grad()
    def outputs(self, layers):
        return [layer(self.input) for layer in layers]

    def is_away(self):
        return all(layer.weight.numel() == 0 for layer in self.layers)


@torch.no_grad()
def run(model, layers=None):
    found = model.outputs(model.master.stream() if layers is None else layers)
    assert all(map(torch.equal, found, model.expected))


class TestPassing:
    def test_two_layers_are_in_flight_however_many_pass_and_however_far_the_host_is_ahead(self, cuda):
        # Given layers of which one is smaller, and a host that waits for nothing
        model = Model(CudaMemory(cuda, PLENTY), count=40)
        before = cuda.memory().reserved
        # When they all pass
        run(model)
        # Then they took the room of two, and are gone
        assert cuda.allocator.allocations.count(LAYER_BYTES) == 2
        assert cuda.allocator.peak_active == cuda.allocator.peak_reserved == before + 2 * LAYER_BYTES
        assert model.is_away()

    def test_a_pass_on_another_stream_gets_the_memory_of_the_one_before(self, cuda):
        model, side = Model(CudaMemory(cuda, PLENTY)), cuda.stream()
        for _ in range(2):
            run(model)
            with cuda.on(side):
                run(model)
        assert cuda.allocator.peak_reserved == 2 * LAYER_BYTES

    def test_two_passes_at_once_do_not_meet(self, cuda):
        memory, side = CudaMemory(cuda, PLENTY), cuda.stream()
        here, beside = Model(memory), Model(memory, count=11)
        passing = beside.master.stream()
        for expected in beside.expected:
            with cuda.on(side):
                layer = next(passing)
                assert torch.equal(beside.outputs([layer])[0], expected)
            run(here)
        passing.close()

    def test_a_pass_that_is_left_half_way_overwrites_nothing_afterwards(self, cuda):
        # Given a pass with one layer on its way, which its caller leaves
        memory, side = CudaMemory(cuda, PLENTY), cuda.stream()
        model = Model(memory)
        with cuda.on(side):
            passing = model.master.stream()
            for _ in range(2):
                model.outputs([next(passing)])
        passing.close()
        assert model.is_away()
        # When the same memory has another owner, then it comes after all that was in flight
        run(Model(memory, count=3))
        assert cuda.allocator.peak_reserved == 2 * LAYER_BYTES

    def test_weights_without_a_copy_in_pinned_memory_pass_too(self, cuda):
        model = Model(CudaMemory(cuda, 0))
        run(model)
        assert cuda.allocator.peak_reserved == 2 * LAYER_BYTES


class TestBringing:
    def test_each_layer_waits_for_its_own_weights_only(self, cuda):
        model = Model(CudaMemory(cuda, PLENTY))
        model.master.bring()
        assert torch.equal(model.outputs(model.layers[:1])[0], model.expected[0])
        last = model.layers[-1].weight.data
        assert last.numpy()[0, 0] != last.numpy()[0, 0]  # its copy is not done: nobody waited for it
        run(model, model.layers)

    def test_an_eviction_during_the_copies_leaves_the_memory_to_nobody_before_they_end(self, cuda):
        model = Model(CudaMemory(cuda, PLENTY))
        model.master.bring()
        model.master.evict()
        others = [cuda.empty(WIDTH, WIDTH, dtype=torch.float32).zero_() for _ in model.layers]
        cuda.finish()
        assert not any(map(torch.any, others))

    def test_copies_into_memory_that_a_kernel_may_still_read_come_after_it(self, cuda):
        memory = CudaMemory(cuda, PLENTY)
        first, second = Model(memory), Model(memory)
        for model in (first, second):
            model.master.bring()
            run(model, model.layers)
            model.master.evict()
        assert cuda.allocator.peak_reserved <= 2 * first.master.nbytes

    def test_layers_that_another_stream_reads_where_they_are_have_arrived_and_stay_until_it_is_done(self, cuda):
        # Given layers whose doors nobody went through, as they are parts of a block
        memory = CudaMemory(cuda, PLENTY)
        model, side = Model(memory, door=torch.nn.Identity()), cuda.stream()
        model.master.bring()
        # When a side stream reads them and they leave at once, then all that comes to their place comes later
        with cuda.on(side):
            run(model, model.master.layers())
        model.master.evict()
        other = Model(memory, count=12)
        other.master.bring()
        run(other, other.layers)


class TestPinning:
    def test_where_there_is_room_every_master_is_pinned(self, cuda):
        memory = CudaMemory(cuda, PLENTY)
        model = Model(memory)
        model.master.bring()
        run(model, model.layers)
        assert cuda.pinning.peak == CHUNK_BYTES + RING_BYTES
        assert memory.shortage is None

    @pytest.mark.parametrize("sticks", [False, True])
    @pytest.mark.parametrize("most", [RING_BYTES, RING_BYTES + CHUNK_BYTES - 1])
    def test_a_refused_chunk_leaves_the_ring_and_is_said(self, most, sticks):
        with RecordingCuda(pin_at_most=most, refusals_stick=sticks).recording() as cuda:
            memory = CudaMemory(cuda, PLENTY)
            model = Model(memory)
            model.master.bring()
            run(model, model.layers)
            assert cuda.pinning.refusals == 1
            assert cuda.pinning.peak == RING_BYTES
            assert "refuses more: the rest passes through a pinned ring of 512 MiB" in memory.shortage

    def test_masters_that_were_pinned_before_a_refusal_stay_so(self):
        # Given a system that locks one chunk beside the ring, and weights that need two
        with RecordingCuda(pin_at_most=RING_BYTES + CHUNK_BYTES).recording() as cuda:
            memory = CudaMemory(cuda, PLENTY + CHUNK_BYTES)
            first, large = Model(memory), Model(memory, count=1, width=16384)
            model = Model(memory, count=3)
            for brought in (first, model):
                brought.master.bring()
                run(brought, brought.layers)
            assert large.master.nbytes == CHUNK_BYTES
            assert memory.shortage.startswith("The system pins 1.0 GiB of weights")

    @pytest.mark.parametrize("most", [RING_BYTES - 1, 40 * 2**20, SMALLEST_RING_BYTES])
    def test_the_ring_is_as_large_as_the_system_allows(self, most):
        with RecordingCuda(pin_at_most=most).recording() as cuda:
            model = Model(CudaMemory(cuda, PLENTY))
            run(model)
            assert SMALLEST_RING_BYTES <= cuda.pinning.peak <= most < 2 * cuda.pinning.peak

    def test_a_weight_larger_than_a_half_of_the_ring_goes_through_it_in_pieces(self):
        with RecordingCuda(pin_at_most=SMALLEST_RING_BYTES).recording() as cuda:
            run(Model(CudaMemory(cuda, PLENTY), count=3, width=2048))
            assert len(cuda.copies) == 3 * 4

    def test_without_any_pinned_memory_copies_wait_and_that_is_said(self):
        with RecordingCuda(pin_at_most=0).recording() as cuda:
            memory = CudaMemory(cuda, PLENTY)
            run(Model(memory))
            assert "copied from pageable memory" in memory.shortage

    def test_no_more_is_pinned_than_the_budget_says(self, cuda):
        memory = CudaMemory(cuda, RING_BYTES + CHUNK_BYTES - 1)
        run(Model(memory))
        assert cuda.pinning.peak == RING_BYTES
        assert memory.shortage is None

    def test_a_refusal_is_an_answer_not_an_error(self):
        assert pinned_or_none(RecordingCuda(pin_at_most=0), 1) is None
