"""What a route may ask for. Everything is made once, in the lifespan, and hangs on ``app.state``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from api.services.generators import GeneratorService
from api.services.grid import GridService
from api.services.health import HealthService
from api.services.models import ModelService
from api.services.queries import JobQueries
from api.services.queue import QueueService
from api.services.submission import SubmissionService
from api.services.uploads import UploadReader
from api.services.waiting import JobWatcher
from shared.channel.previews import PreviewChannel
from shared.settings import ApiSettings
from shared.storage.base import MediaStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services of one application."""

    settings: ApiSettings
    submission: SubmissionService
    uploads: UploadReader
    queries: JobQueries
    watcher: JobWatcher
    models: ModelService
    generators: GeneratorService
    grid: GridService
    queue: QueueService
    health: HealthService
    storage: MediaStorage
    previews: PreviewChannel


def services(request: Request) -> Services:
    """Return the services of the application that got this request."""
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(services)]
