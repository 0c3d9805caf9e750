"""A card for tests without one: it computes in host memory, obeys CUDA's rules, and records what it was given.

The rules, and where they are written:

1. A stream does its work in order; streams do not wait for each other, except by ``wait_event`` (CUDA C++ Programming
   Guide, "Streams" and "Events"). Here copies are done as late as that allows: when a kernel, an event's
   ``synchronize`` or a pageable copy has to wait for them. Until then their targets hold NaN, or what was there.
2. Two accesses to the same bytes, one of them a write, need an order (the same, "Explicit Synchronization"). Each
   access of each stream, and of the host to pinned memory, is checked with vector clocks (Lamport 1978; Fidge 1988);
   without an order there is a ``Race``, whether or not it did harm this time.
3. A copy from pinned memory returns at once; from pageable memory the caller waits ("Page-Locked Host Memory").
4. A block of the card belongs to the stream it was made on. When its tensor goes, the next tensor of that stream may
   have it at once; the uses of other streams count only if ``record_stream`` named them, and then the block is free
   when the work they had at that time is done (torch, ``c10/cuda/CUDACachingAllocator.cpp``, its opening note, and the
   documentation of ``torch.Tensor.record_stream``). Blocks are multiples of 512 bytes; here one fits one size only.
5. Where the driver has no more, or the process's share is used up, the allocator waits for such uses, gives its unused
   blocks back and tries again, then raises ``torch.OutOfMemoryError`` (the same note).
6. Locked memory may be refused at any byte, as ``torch.AcceleratorError``; under Windows' driver model one refusal is
   followed by others (public reports). ``pin_at_most`` and ``refusals_stick`` say when.
7. Other processes take and give memory of the card at any time: set ``others``.

What it cannot show: time, and what only a real driver knows. Memory of activations is not counted, that of weights is.
"""

from tests.recording_device.accesses import Race
from tests.recording_device.card import RecordingCuda, recording_card

__all__ = ["Race", "RecordingCuda", "recording_card"]
