"""The recording card keeps the rules that its package states: what is legal works, what is not is seen."""

import gc

import pytest
import torch

from tests.recording_device import Race, RecordingCuda

MIB = 2**20


@pytest.fixture
def cuda():
    with RecordingCuda().recording() as cuda:
        yield cuda


def pinned(cuda, *values):
    made = cuda.pinned(4 * len(values)).view(torch.float32)
    made.copy_(torch.tensor(values))
    return made


class TestOrder:
    def test_a_copy_is_done_when_a_kernel_has_to_wait_for_it_not_before(self, cuda):
        copies, target, event = cuda.stream(), cuda.empty(2, dtype=torch.float32), cuda.event()
        copies.wait_stream(cuda.current_stream())
        with cuda.on(copies):
            cuda.copy(target, pinned(cuda, 1.0, 2.0))
            event.record()
        assert target.data.numpy()[0] != 1.0
        cuda.current_stream().wait_event(event)
        assert (target + 1).tolist() == [2.0, 3.0]

    def test_reading_what_another_stream_copies_without_waiting_is_a_race(self, cuda):
        target = cuda.empty(2, dtype=torch.float32)
        with cuda.on(cuda.stream()):
            cuda.copy(target, pinned(cuda, 1.0, 2.0))
        with pytest.raises(Race, match="computing reads 8 bytes that stream 1 writes"):
            target + 1

    def test_so_is_overwriting_what_another_stream_may_still_read(self, cuda):
        target = cuda.empty(2, dtype=torch.float32)
        target.zero_()
        with cuda.on(cuda.stream()), pytest.raises(Race, match="stream 1 writes"):
            cuda.copy(target, pinned(cuda, 1.0, 2.0))

    def test_parts_that_do_not_overlap_need_no_order(self, cuda):
        target = cuda.empty(4, dtype=torch.float32)
        target[:2].zero_()
        with cuda.on(cuda.stream()):
            cuda.copy(target[2:], pinned(cuda, 1.0, 2.0))

    def test_the_host_may_not_refill_pinned_memory_that_is_still_copied_from(self, cuda):
        source, target, event = pinned(cuda, 1.0, 2.0), cuda.empty(2, dtype=torch.float32), cuda.event()
        cuda.copy(target, source)
        event.record()
        with pytest.raises(Race, match="host writes"):
            source.zero_()
        event.synchronize()
        source.zero_()
        assert target.tolist() == [1.0, 2.0]

    def test_order_is_passed_on_from_stream_to_stream(self, cuda):
        first, second, target = cuda.stream(), cuda.stream(), cuda.empty(2, dtype=torch.float32)
        with cuda.on(first):
            cuda.copy(target, pinned(cuda, 1.0, 2.0))
        second.wait_stream(first)
        cuda.current_stream().wait_stream(second)
        assert (target + 0).tolist() == [1.0, 2.0]


class TestAllocator:
    def test_the_next_tensor_of_the_stream_has_the_block_at_once_those_of_others_do_not(self, cuda):
        first = cuda.empty(MIB, dtype=torch.uint8)
        address = first.data_ptr()
        del first
        with cuda.on(cuda.stream()):
            other = cuda.empty(MIB, dtype=torch.uint8)
        again = cuda.empty(MIB, dtype=torch.uint8)
        assert (again.data_ptr(), other.data_ptr() == address) == (address, False)
        assert cuda.memory().reserved == 2 * MIB

    def test_a_recorded_use_keeps_the_block_until_it_is_over(self, cuda):
        copies, target, source = cuda.stream(), cuda.empty(MIB, dtype=torch.uint8), cuda.pinned(MIB)
        with cuda.on(copies):
            cuda.copy(target, source)
        cuda.keep_for(target, copies)
        address = target.data_ptr()
        del target
        second = cuda.empty(MIB, dtype=torch.uint8)
        assert second.data_ptr() != address
        assert (cuda.memory().active, cuda.memory().reserved) == (2 * MIB, 2 * MIB)
        cuda.finish()
        third = cuda.empty(MIB, dtype=torch.uint8)
        third.zero_()
        assert third.data_ptr() == address

    def test_a_use_that_nobody_recorded_meets_the_next_owner(self, cuda):
        target, source = cuda.empty(MIB, dtype=torch.uint8), cuda.pinned(MIB)
        with cuda.on(cuda.stream()):
            cuda.copy(target, source)
        del target
        with pytest.raises(Race):
            cuda.empty(MIB, dtype=torch.uint8).zero_()

    def test_when_the_card_is_full_unused_blocks_go_back_before_it_refuses(self):
        cuda = RecordingCuda(total=4 * MIB)
        assert cuda.memory().obtainable == 3 * MIB
        first = cuda.empty(2 * MIB, dtype=torch.uint8)
        del first
        second = cuda.empty(3 * MIB, dtype=torch.uint8)
        with pytest.raises(torch.OutOfMemoryError):
            cuda.empty(1, dtype=torch.uint8)
        del second
        cuda.others = 2 * MIB
        cuda.free_cache()
        with pytest.raises(torch.OutOfMemoryError):
            cuda.empty(2 * MIB, dtype=torch.uint8)

    def test_the_process_s_share_is_a_limit_of_its_own(self):
        cuda = RecordingCuda()
        cuda.limit(MIB)
        with pytest.raises(torch.OutOfMemoryError):
            cuda.empty(MIB + 1, dtype=torch.uint8)


class TestPinning:
    def test_it_is_refused_at_a_byte_and_possible_again_when_some_was_given_back(self):
        cuda = RecordingCuda(pin_at_most=MIB)
        first = cuda.pinned(MIB)
        with pytest.raises(torch.AcceleratorError, match="out of memory"):
            cuda.pinned(1)
        del first
        gc.collect()
        assert cuda.pinned(MIB).nbytes == MIB

    def test_where_refusals_stick_nothing_is_pinned_after_one(self):
        cuda = RecordingCuda(pin_at_most=MIB, refusals_stick=True)
        with pytest.raises(torch.AcceleratorError):
            cuda.pinned(MIB + 1)
        with pytest.raises(torch.AcceleratorError):
            cuda.pinned(1)

    def test_a_copy_from_pageable_memory_that_does_not_wait_is_a_fault_of_the_caller(self, cuda):
        target = cuda.empty(2, dtype=torch.float32)
        with pytest.raises(AssertionError, match="pageable"):
            cuda.copy(target, torch.ones(2))
        cuda.copy(target, torch.ones(2), wait=True)
        assert target.tolist() == [1.0, 1.0]
