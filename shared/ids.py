"""Sortable public ids: a prefix that says what it is, and a ULID."""

from __future__ import annotations

from ulid import ULID


def new_job_id() -> str:
    """Return a fresh ``job_...`` id; later ids sort after earlier ones (by millisecond)."""
    return f"job_{ULID()}"


def new_image_id() -> str:
    """Return a fresh ``img_...`` id."""
    return f"img_{ULID()}"


def new_owner_id() -> str:
    """Return a fresh id for one worker process; a respawned child gets another one."""
    return f"wrk_{ULID()}"
