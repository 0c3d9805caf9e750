"""One good request of each kind."""

from __future__ import annotations

from tests.endpoints.server import Server
from tests.factories import mask_bytes, png_bytes

PROMPT = "a small red circle in the top left on a blue background"


def submit(server: Server, kind: str, **fields: object):
    if kind == "generate":
        return server.client.post("/api/generate", json={"prompt": PROMPT, **fields})
    files = {"file": ("photo.png", png_bytes())}
    if kind == "fill":
        files = {"image": ("photo.png", png_bytes()), "mask": ("mask.png", mask_bytes())}
    return server.client.post(f"/api/{kind}", data={"prompt": PROMPT, **fields}, files=files)
