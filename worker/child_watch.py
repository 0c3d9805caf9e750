"""Seeing at once that a prefork child has died.

Celery's pool looks for dead children when a pipe of one closes. The kernel closes it a moment before the child can be
waited for; a look in that moment finds nobody, and the next one comes with a timer of five seconds
(``AsynPool._event_process_exit`` and ``timers``, Celery 5.7.0). In one kill out of four a job waited that long.
"""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps

INTERVAL_SECONDS: Final = 0.25


class ChildWatch(bootsteps.StartStopStep):
    """A step of the parent process: looks after its children a few times a second."""

    requires = ("celery.worker.components:Pool",)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Have the pool replace whoever is gone; it costs one system call a look."""
        hub.call_repeatedly(INTERVAL_SECONDS, worker.pool.maintain_pool)
