"""A worker's row says what the worker is now, whichever of its threads writes it."""

import threading

from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from worker.presence import Presence


class SlowWorkers(WorkerRepository):
    """Holds the first sign of life that is written in the background until it may go on."""

    def __init__(self, database):
        super().__init__(database)
        self.held, self.goes_on = threading.Event(), threading.Event()

    def beat(self, owner, state, trouble=None):
        if threading.current_thread().name == "presence" and not self.held.is_set():
            self.held.set()
            assert self.goes_on.wait(60)
        super().beat(owner, state, trouble)


def test_a_late_sign_of_life_does_not_undo_a_change(database):
    # Given a sign of life of an idle worker that is on its way to the database
    workers = SlowWorkers(database)
    presence = Presence(workers, "worker-1", Lane.GPU, heartbeat_seconds=3600)
    presence.join()
    with presence.during(WorkerState.BUSY):
        assert workers.held.wait(60)
    # When the worker finds out meanwhile that its card is broken
    change = threading.Thread(target=presence.become, args=(WorkerState.UNHEALTHY, "device: lost"))
    change.start()
    change.join(0.3)  # unless it waits for its turn, it is done by now
    workers.goes_on.set()
    change.join()
    # Then that stays what its row says
    row = workers.latest(Lane.GPU)
    assert (row.state, row.trouble) == (WorkerState.UNHEALTHY, "device: lost")
    presence.leave()
