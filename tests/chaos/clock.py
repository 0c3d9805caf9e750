"""A wall clock that a test can make jump, for all processes of one data directory at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from shared.clock import Clock, utc_now


def _file(data_dir: Path) -> Path:
    return data_dir / "clock-offset-seconds"


def set_offset(data_dir: Path, offset: timedelta) -> None:
    draft = _file(data_dir).with_suffix(".new")
    draft.write_text(str(offset.total_seconds()))
    draft.rename(_file(data_dir))


def jumping_clock(data_dir: Path) -> Clock:
    """Return the real time plus what the test last asked for."""

    def now() -> datetime:
        try:
            offset = float(_file(data_dir).read_text())
        except FileNotFoundError:
            offset = 0.0
        return utc_now() + timedelta(seconds=offset)

    return now
