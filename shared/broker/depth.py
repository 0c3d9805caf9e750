"""How many doorbells wait in the broker."""

from __future__ import annotations

import redis

from shared.broker.names import QUEUES
from shared.domain.job import Lane


def queue_depth(broker: redis.Redis, lane: Lane) -> int:
    """Return the number of messages in a lane's queue; kombu keeps each queue in one Redis list.

    Raises:
      redis.RedisError: the broker does not answer.
    """
    return broker.llen(QUEUES[lane])
