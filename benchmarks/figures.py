"""The arithmetic of the benchmarks: percentiles, and the cost of the disk taken out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that the project promised to stay at or below, or at or above."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_json(self) -> Figures:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "limit": self.limit,
            "unit": self.unit,
            "met": self.is_met,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` percent do not exceed (nearest rank): always one measured.

    Raises:
      ValueError: there are no values, or ``share`` is not in (0, 100].
    """
    if not values:
        raise ValueError("no values")
    if not 0 < share <= 100:
        raise ValueError(f"{share} is not a share in percent")
    rank = math.ceil(share / 100 * len(values))
    return sorted(values)[rank - 1]


def median(values: Sequence[float]) -> float:
    """Return the 50th percentile."""
    return percentile(values, 50)


def summary(values: Sequence[float]) -> Figures:
    """Return count, smallest, p50, p99 and largest."""
    return {
        "count": len(values),
        "min": round(min(values), 3),
        "p50": round(median(values), 3),
        "p99": round(percentile(values, 99), 3),
        "max": round(max(values), 3),
    }


def minus_commits(value: float, commits: int, commit_times: Sequence[float]) -> float:
    """Return ``value`` without the disk's part: ``commits`` times the median FULL commit of the same run."""
    return value - commits * median(commit_times)
