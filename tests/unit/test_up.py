"""What `flux-image up` says while the stack starts."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from cli.host.up import wait_until_ready

LOADING = {"model": "schnell", "done_bytes": 12_300_000_000, "total_bytes": 33_700_000_000, "seconds_left": 40.4}


@contextmanager
def answering(*states):
    """A server that gives each of these answers to ``GET /health/ready`` once, in turn."""
    left = list(states)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state = left.pop(0)
            body = json.dumps(state).encode()
            self.send_response(200 if state["ready"] else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def state(worker, ready=False, loading=None):
    return {"ready": ready, "worker": worker, "broker": "ok", "loading": loading}


def wait_through(*states):
    """Return what was said while the API gave these answers, and what was told for good."""
    said, told = [], []
    with answering(*states, state("idle", ready=True)) as url:
        supervisor = SimpleNamespace(tick=lambda: True)
        assert wait_until_ready(SimpleNamespace(api_url=url), supervisor, said.append, told.append)
    return said, told


def test_how_far_the_first_model_is_read_is_said_in_bytes_and_seconds():
    said, told = wait_through(state("starting", loading=LOADING))
    assert said == ["starting ... worker: starting, reads schnell: 12.3 of 33.7 GB, 40 s left, broker: ok"]
    assert told == []


def test_before_there_is_a_rate_no_seconds_are_promised():
    said, _ = wait_through(state("starting", loading={**LOADING, "seconds_left": None}))
    assert said == ["starting ... worker: starting, reads schnell: 12.3 of 33.7 GB, broker: ok"]


def test_why_a_worker_does_not_start_is_told_once_for_each_reason():
    first, second = "unhealthy: ImportError: [cuda] is missing", "unhealthy: another"
    _, told = wait_through(state(first), state(first), state(second))
    assert told == ["worker is unhealthy: ImportError: [cuda] is missing", "worker is unhealthy: another"]
