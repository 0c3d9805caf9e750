"""One thing the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: fine, worth knowing, or in the way."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence, and how bad it is; for a problem the sentence says what to do."""

    level: Level
    text: str


def ok(text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.OK, text)


def note(text: str) -> Finding:
    """Return a finding worth knowing."""
    return Finding(Level.NOTE, text)


def problem(text: str) -> Finding:
    """Return a finding that is in the way."""
    return Finding(Level.PROBLEM, text)
