"""The life of the remote lane's prefork children."""

from __future__ import annotations

from shared.settings import OutsideSettings, WorkerSettings
from worker.remote import RemoteWorker
from worker.tasks import LaneProcess, LaneWorker, check_database


class RemoteProcess(LaneProcess):
    """The remote lane: some equal children, none of which needs torch."""

    def __init__(self, settings: WorkerSettings, outside: OutsideSettings) -> None:
        super().__init__(settings)
        self._outside = outside

    def _make_worker(self) -> LaneWorker:
        return RemoteWorker(self._settings, self._outside, self._shutdown)

    def _check_start(self) -> None:
        if not self._outside.uses_network:
            raise SystemExit("The remote worker has nothing to do: set FLUX_REMOTE_SPACE or FLUX_ENHANCER_URL.")
        check_database(self._settings)
