"""Jobs and parameters for tests; every value can be overridden by name."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event

from shared.domain.job import NewJob, Schedule
from shared.domain.params import PARAMS_ADAPTER
from shared.domain.route import simple_route
from shared.ids import new_job_id


def params(**changes: Any):
    values = {
        "kind": "generate",
        "prompt": "a red circle",
        "num_inference_steps": 4,
        "guidance_scale": 0.0,
        "width": 256,
        "height": 256,
        "seed": 1,
        **changes,
    }
    return PARAMS_ADAPTER.validate_python(values)


SCHEDULE_FIELDS = ("job_class", "priority", "not_before", "deadline")


def new_job(**changes: Any) -> NewJob:
    schedule = Schedule(**{name: changes.pop(name) for name in SCHEDULE_FIELDS if name in changes})
    asked = changes.setdefault("params", params())
    changes.setdefault("route", simple_route(changes.setdefault("model", "demo"), asked.num_images))
    return NewJob(**{"id": new_job_id(), "schedule": schedule, **changes})


class FakeClock:
    """A clock that moves by a microsecond each time it is read, and further when a test says so."""

    def __init__(self):
        self.now = datetime(2026, 11, 21, tzinfo=UTC)

    def __call__(self):
        self.now += timedelta(microseconds=1)
        return self.now


def make_impatient(database) -> None:
    """Let a locked database say so after 20 ms instead of its usual ten seconds."""
    database.dispose()
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=20"))
