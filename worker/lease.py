"""Keeps claims alive while their jobs run, and hears through it of cancels and of a lost claim."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from shared.db.claims import ClaimRepository
from shared.domain.job import Claim
from worker.cancellation import StopReason, StopSignal
from worker.periodic import Periodic


class LeaseKeeper:
    """One thread for all claims of a process: a thread for each would cost a short job more than its own work."""

    def __init__(self, claims: ClaimRepository, lease: timedelta, heartbeat_seconds: float) -> None:
        self._claims = claims
        self._lease = lease
        self._changing = threading.Lock()
        self._held: dict[Claim, StopSignal] = {}
        self._pulse = Periodic("lease", heartbeat_seconds, self._renew_all)
        self._pulse.__enter__()

    @contextmanager
    def keep(self, claim: Claim, signal: StopSignal) -> Iterator[None]:
        """Renew the lease until the block ends, and set ``signal`` when the run has to stop."""
        with self._changing:
            self._held[claim] = signal
        try:
            yield
        finally:
            with self._changing:
                del self._held[claim]

    def close(self) -> None:
        """Renew nothing any more."""
        self._pulse.__exit__(None, None, None)

    def _renew_all(self) -> None:
        with self._changing:
            held = list(self._held.items())
        for claim, signal in held:
            beat = self._claims.heartbeat(claim, self._lease)
            if not beat.held:  # lost, or ended meanwhile, and then nobody listens to the signal
                signal.stop(StopReason.CLAIM_LOST)
            elif beat.cancel_requested:
                signal.stop(StopReason.USER_REQUEST)
