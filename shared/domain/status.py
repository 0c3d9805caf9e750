"""A job's life as data: the five statuses, who may move a job along which edge, and the phases of a run."""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands. Retry, rescue and release are edges back to ``QUEUED``, not statuses."""

    QUEUED = "queued"
    """Its row is committed; it waits for a worker. Nothing in Redis is needed to keep it."""

    RUNNING = "running"
    """A worker holds it under a lease. If that worker dies, the row is rescued back to ``QUEUED``."""

    SUCCEEDED = "succeeded"
    """Every picture is durable on disk and was published in one transaction. Never changes again."""

    FAILED = "failed"
    """It ended in a stated error. A manual retry makes a new job."""

    CANCELLED = "cancelled"
    """Someone asked for it to stop before it was done."""


class Phase(StrEnum):
    """What a running job is doing right now."""

    ENHANCING = "enhancing"
    LOADING = "loading"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    SAVING = "saving"


class Edge(StrEnum):
    """Every way a job moves, named; the README's diagram is drawn from ``TRANSITIONS``."""

    CLAIM = "claim"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"
    """It was still waiting at its deadline."""
    RETRY = "retry"
    RELEASE = "release"
    RESCUE = "rescue"
    HAND_OVER = "hand over"
    """A leg of the route is done; the next one waits in its own lane."""
    DIVERT = "divert"
    """A leg failed or cannot start; the other generator takes over, or the route goes on without it."""


_PUT_BACK = frozenset({Edge.RETRY, Edge.RELEASE, Edge.RESCUE, Edge.HAND_OVER, Edge.DIVERT})
"""The job waits again, or is cancelled where somebody had asked for that."""

TRANSITIONS: dict[JobStatus, dict[JobStatus, frozenset[Edge]]] = {
    JobStatus.QUEUED: {
        JobStatus.RUNNING: frozenset({Edge.CLAIM}),
        JobStatus.FAILED: frozenset({Edge.EXPIRE}),
        JobStatus.CANCELLED: frozenset({Edge.CANCEL}),
        JobStatus.QUEUED: frozenset({Edge.DIVERT}),
    },
    JobStatus.RUNNING: {
        JobStatus.SUCCEEDED: frozenset({Edge.FINISH}),
        JobStatus.FAILED: frozenset({Edge.FAIL, Edge.RESCUE}),
        JobStatus.CANCELLED: frozenset({Edge.CANCEL, *_PUT_BACK}),
        JobStatus.QUEUED: _PUT_BACK,
    },
    JobStatus.SUCCEEDED: {},
    JobStatus.FAILED: {},
    JobStatus.CANCELLED: {},
}

TERMINAL_STATUSES = frozenset(status for status, following in TRANSITIONS.items() if not following)


def state_diagram() -> str:
    """Return the lifecycle as a mermaid ``stateDiagram-v2``, one line per edge of ``TRANSITIONS``."""
    lines = ["stateDiagram-v2", "    [*] --> queued: submit"]
    for status, following in TRANSITIONS.items():
        for target, edges in following.items():
            lines.append(f"    {status} --> {target}: {', '.join(sorted(edges))}")
        if not following:
            lines.append(f"    {status} --> [*]")
    return "\n".join(lines)
