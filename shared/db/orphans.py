"""Which stored files belong to nothing: what a crash leaves behind between writing a file and its row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, select

from shared.db.models import ImageRow, InputRow, JobRow
from shared.domain.status import TERMINAL_STATUSES

ORPHAN_AGE: Final = timedelta(hours=1)
"""A younger file may be an upload whose row is about to be written."""


def find_orphans(connection: Connection, keys: Iterable[str]) -> list[str]:
    """Return those of these media keys that no row names.

    Files of a job that is not over are left out: its pictures get their rows when it succeeds.
    """
    named = {row.path for table in (ImageRow, InputRow) for row in connection.execute(select(table.path))}
    going_on = {row.id for row in connection.execute(select(JobRow.id).where(JobRow.status.not_in(TERMINAL_STATUSES)))}
    return [key for key in keys if key not in named and key.partition("/")[0] not in going_on]
