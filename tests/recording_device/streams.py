"""Streams and events: work that is done as late as CUDA's rules allow, and clocks of what came before what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

HOST: Final = "host"


class Clock:
    """A vector clock: for each actor (a stream, the host) the number of its deeds that are certainly over."""

    def __init__(self) -> None:
        self._known: Counter[str] = Counter()

    def tick(self, actor: str) -> int:
        """Count one deed of the clock's owner and return its number."""
        self._known[actor] += 1
        return self._known[actor]

    def learn(self, other: Clock) -> None:
        """Know from now on what the other knows."""
        self._known |= other._known

    def knows(self, actor: str, deed: int) -> bool:
        """Whether a deed is certainly over."""
        return self._known[actor] >= deed

    def copy(self) -> Clock:
        """Return what is known now."""
        made = Clock()
        made.learn(self)
        return made


class Stream:
    """Implements ``worker.pipelines.cuda.Stream``."""

    def __init__(self, name: str, host: Clock) -> None:
        self.name = name
        self.clock = Clock()
        self._host = host
        self._work: list[Callable[[], None]] = []
        self._done = 0

    @property
    def given(self) -> int:
        """How many pieces of work the stream was given."""
        return len(self._work)

    def has_done(self, count: int) -> bool:
        """Whether the first ``count`` pieces are done."""
        return self._done >= count

    def give(self, work: Callable[[], None]) -> int:
        """Queue a piece of work; return its number on the clock. It comes after all that the host knows to be over."""
        self._work.append(work)
        self.clock.learn(self._host)
        return self.clock.tick(self.name)

    def advance(self, count: int | None = None) -> None:
        """Do the first ``count`` pieces of work, or all."""
        while self._done < (self.given if count is None else count):
            self._done += 1
            self._work[self._done - 1]()

    def wait_event(self, event: Event) -> None:
        """Do nothing more before the event is over; one that was never recorded is over."""
        if event.stream is not None:
            stream, count, clock = event.stream, event.count, event.clock
            self.give(lambda: stream.advance(count))
            self.clock.learn(clock)

    def wait_stream(self, stream: Stream) -> None:
        """Do nothing more before all is over that another stream has now."""
        event = Event(self._host, lambda: stream)
        event.record()
        self.wait_event(event)


class Event:
    """Implements ``worker.pipelines.cuda.Event``; ``current`` says on which stream it is recorded by default."""

    def __init__(self, host: Clock, current: Callable[[], Stream]) -> None:
        self._host = host
        self._current = current
        self.stream: Stream | None = None
        self.count = 0
        self.clock = Clock()

    def record(self, stream: Stream | None = None) -> None:
        """Mark the end of the work that the stream has now."""
        self.stream = stream or self._current()
        self.count, self.clock = self.stream.given, self.stream.clock.copy()

    @property
    def is_over(self) -> bool:
        """Whether the work before it is done."""
        return self.stream is None or self.stream.has_done(self.count)

    def synchronize(self) -> None:
        """Let the host wait."""
        if self.stream is not None:
            self.stream.advance(self.count)
            self._host.learn(self.clock)
