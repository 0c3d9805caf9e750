"""The Celery app that Flower looks through: ``celery -A api.flower flower``. It has no tasks and needs no torch."""

from __future__ import annotations

from shared.broker.app import make_celery
from shared.settings import CoreSettings

app = make_celery(CoreSettings().resolved_redis_url)
