"""The parent process looks after its children in its own rhythm, not only when Celery's pool is told of a death."""

from types import SimpleNamespace

from kombu.asynchronous import Hub

from worker import child_watch
from worker.child_watch import ChildWatch


def test_it_is_among_the_steps_that_join_the_event_loop():
    worker = SimpleNamespace(steps=[])
    step = ChildWatch(worker)
    step.include(worker)
    assert worker.steps == [step]


def test_it_looks_again_and_again(monkeypatch):
    # Given a pool on an event loop whose time runs fast
    monkeypatch.setattr(child_watch, "INTERVAL_SECONDS", 0.001)
    looks, hub = [], Hub()
    worker = SimpleNamespace(pool=SimpleNamespace(maintain_pool=lambda: looks.append(1)))
    ChildWatch(worker).register_with_event_loop(worker, hub)
    # When the loop's timers fire
    while len(looks) < 3:
        hub.fire_timers()
    hub.close()
    # Then it looks each time
    assert len(looks) >= 3
