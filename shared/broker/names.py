"""Names on the wire: queues per lane, one task per kind so that Flower reads well."""

from __future__ import annotations

from typing import Final

from shared.domain.job import Lane
from shared.domain.params import JobKind

QUEUES: Final[dict[Lane, str]] = {Lane.GPU: "gpu", Lane.REMOTE: "remote"}
TASKS: Final[dict[JobKind, str]] = {kind: kind.value for kind in JobKind}
