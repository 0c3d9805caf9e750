"""The real API with a clock that jumps: ``uvicorn --factory tests.chaos.api_root:make_app``."""

from __future__ import annotations

from fastapi import FastAPI

from api.main import create_app
from shared.settings import ApiSettings
from tests.chaos.clock import jumping_clock


def make_app() -> FastAPI:
    settings = ApiSettings()
    return create_app(settings, clock=jumping_clock(settings.data_dir))
