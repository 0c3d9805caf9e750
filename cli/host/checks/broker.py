"""The broker: does it answer, and would it ever throw doorbells away."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from cli.host.checks.finding import Finding, note, ok, problem
from shared.broker.urls import redis_url
from shared.settings import CoreSettings


def check(settings: CoreSettings) -> Iterator[Finding]:
    """Yield what was found about the broker."""
    if settings.redis_url is None and not settings.embedded_broker_socket.exists():
        yield note("embedded broker: not running (it starts with `flux-image up`)")
        return
    url = redis_url(settings.resolved_redis_url)
    with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True) as client:
        try:
            server = client.info("server")
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        except redis.RedisError as error:
            yield problem(f"the broker does not answer: {error}")
            return
    name = "Valkey" if "valkey_version" in server else "Redis"
    yield ok(f"{name} {server.get('valkey_version', server.get('redis_version'))} answers")
    if policy != "noeviction":
        yield problem(f"maxmemory-policy is {policy}: a full broker would evict its queues; set noeviction")
