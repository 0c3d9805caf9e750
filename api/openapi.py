"""The OpenAPI document with the limits that only the settings know."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from shared.settings import ApiSettings


def document_limits(app: FastAPI, settings: ApiSettings) -> None:
    """Let ``app``'s document say how long a request may wait."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        for operations in document["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", ()):
                    if (parameter["in"], parameter["name"]) == ("query", "wait"):
                        _limit(parameter["schema"], settings.max_wait_seconds)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _limit(schema: dict[str, Any], largest: float) -> None:
    for branch in (schema, *schema.get("anyOf", ())):
        if branch.get("type") == "number":
            branch["maximum"] = largest
