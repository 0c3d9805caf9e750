"""`python -m tests.space.server`: everything in one process on a free port, which is printed first."""

import asyncio
import socket

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from tests.space.spaces import Log, dev, fill, kontext, schnell, shapes

TOKEN = "hf_of_the_owner"
_STAGES = {"building": "BUILDING", "paused": "PAUSED", "sleeping": "SLEEPING", "broken": "RUNTIME_ERROR"}


def make_app():
    app, log = FastAPI(), Log()
    add_control(app, log)
    add_hub(app)
    add_bad_hosts(app, log)
    spaces = {
        "schnell": schnell(log),
        "private": schnell(log, "private"),
        "full": schnell(log, "full", max_size=1),
        "dev": dev(log),
        "kontext": kontext(log),
        "fill": fill(log),
        "shapes": shapes(),
    }
    for name, blocks in spaces.items():
        gr.mount_gradio_app(app, blocks, f"/{name}")

    @app.middleware("http")
    async def guard(request: Request, call_next):
        if request.url.path.endswith("/cancel"):
            log.cancels.append(request.url.path)
        if "x-hf-authorization" in request.headers:
            log.visits.append(["token", request.url.path])
        if request.url.path.startswith("/private/") and not _knows_token(request, "x-hf-authorization"):
            return JSONResponse({"detail": "Not authenticated"}, 401)
        return await call_next(request)

    return app


def add_control(app, log):
    @app.get("/log")
    def read():
        return {"calls": log.calls, "cancels": log.cancels, "closed": log.closed, "visits": log.visits}

    @app.post("/advance")
    def advance(count: int = 1):
        for _ in range(count):
            log.gate.release()

    @app.post("/mood")
    def feel(mood: str = ""):
        log.mood = mood

    @app.post("/reset")
    def reset():
        log.reset()


def add_hub(app):
    """The one answer of the Hub that matters here, in its form."""

    @app.get("/api/spaces/{owner}/{name}")
    def space(owner: str, name: str, request: Request):
        if name == "missing" or (name == "private" and not _knows_token(request, "authorization")):
            return JSONResponse({"error": "not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        if name == "busy":
            return JSONResponse({"error": "rate limit"}, 429)
        return {
            "id": f"{owner}/{name}",
            "private": name == "private",
            "host": f"{request.base_url}{name}",
            "runtime": {"stage": _STAGES.get(name, "RUNNING"), "hardware": {"current": "zero-a10g"}},
            "tags": [],
            "siblings": [],
        }


def add_bad_hosts(app, log):
    @app.get("/sleeping")
    def wake():
        log.visits.append(["wake", "/sleeping"])
        return Response("waking up")

    @app.get("/down/{path:path}")
    def down(path: str):
        return Response("starting", 503)

    @app.get("/forbidden/{path:path}")
    def forbidden(path: str):
        return Response("no", 403)

    @app.get("/website/{path:path}")
    def website(path: str):
        return HTMLResponse("<h1>No Gradio here</h1>")

    @app.get("/moved/{path:path}")
    def moved(path: str):
        return Response(status_code=301, headers={"location": f"/schnell/{path}"})

    @app.get("/ancient/config")
    def ancient():
        return {"version": "3.30.0", "components": [], "dependencies": []}

    @app.get("/silent/{path:path}")
    async def silent(path: str, request: Request):
        while not await request.is_disconnected():
            await asyncio.sleep(0.1)


def _knows_token(request, header):
    return request.headers.get(header) == f"Bearer {TOKEN}"


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)  # before the port is told: whoever reads it calls at once
    config = uvicorn.Config(make_app(), log_level="warning", timeout_graceful_shutdown=1)
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
