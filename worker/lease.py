"""Keeps a claim alive while a job runs, and hears through it of cancels and of a lost claim."""

from __future__ import annotations

from datetime import timedelta

from shared.db.claims import ClaimRepository
from shared.domain.job import Claim
from worker.cancellation import StopReason, StopSignal
from worker.periodic import Periodic


def keep_lease(
    claims: ClaimRepository, claim: Claim, signal: StopSignal, *, lease: timedelta, heartbeat_seconds: float
) -> Periodic:
    """Return a context manager that renews the lease and sets ``signal`` when the run has to stop."""

    def renew() -> None:
        beat = claims.heartbeat(claim, lease)
        if not beat.held:
            signal.stop(StopReason.CLAIM_LOST)
        elif beat.cancel_requested:
            signal.stop(StopReason.USER_REQUEST)

    return Periodic("lease", heartbeat_seconds, renew)
