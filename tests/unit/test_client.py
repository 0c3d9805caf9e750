"""The Python client against a server that is away, slow, full, or cut off in the middle of an answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from cli.client import FluxImageClient, FluxImageError, ServerUnreachable
from cli.retrying import Retrying, RetryPolicy, retry_after_seconds
from shared.schemas.jobs import ImageRead, JobRead
from tests.stack import free_port

JOB = JobRead.model_config["json_schema_extra"]["examples"][0]
PICTURE = ImageRead.model_validate(JOB["images"][0])
QUICK = RetryPolicy(total_seconds=20, first_pause_seconds=0.01, longest_pause_seconds=0.05)
BRIEF = RetryPolicy(total_seconds=0.05, first_pause_seconds=0.01, longest_pause_seconds=0.01)


@dataclass
class Answer:
    """One answer of the scripted server; ``cut`` leaves out the last bytes that its length promises."""

    status: int = 200
    body: bytes = json.dumps(JOB).encode()
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


RESET = "reset"
"""Instead of an answer: the connection ends."""


def refusal(status: int, **headers: str) -> Answer:
    error = {"error": {"code": "busy", "message": "Not now.", "details": {}}}
    return Answer(status, json.dumps(error).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


@dataclass
class Served:
    url: str
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def serving(*script: Answer | str, port: int = 0) -> Iterator[Served]:
    """Answer by the script, and with the last of it for ever."""
    answers = list(script)

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            served.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            served.paths.append(f"{self.command} {self.path}")
            served.keys.append(self.headers.get("Idempotency-Key"))
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if not isinstance(answer, Answer):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: -10 if answer.cut else None])
            self.close_connection = answer.cut

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self.handle_one
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client(served: Served, retries: RetryPolicy = QUICK) -> FluxImageClient:
    return FluxImageClient(served.url, retries=retries)


CALLS: dict[str, Callable[[FluxImageClient], object]] = {
    "job": lambda asking: asking.job("job_1"),
    "download": lambda asking: asking.download(PICTURE),
    "submit": lambda asking: asking.generate("a red circle"),
    "cancel": lambda asking: asking.cancel("job_1"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(RESET, id="reset"),
        pytest.param(Answer(cut=True), id="cut off"),
        pytest.param(refusal(429, Retry_After="0"), id="queue full"),
        pytest.param(refusal(503), id="a part is away"),
        pytest.param(Answer(502, b"<html>"), id="a proxy without its server"),
    ],
)
def test_every_call_outlives_trouble_that_goes_away(call: str, trouble: Answer | str):
    with serving(trouble, trouble, Answer()) as served, client(served) as asking:
        # when
        CALLS[call](asking)

        # then: it was asked again, for the same thing
        assert len(served.paths) == 3
        assert len(set(served.paths)) == 1


def test_every_try_of_one_submit_has_one_key_and_each_submit_its_own():
    with serving(RESET, Answer(cut=True), Answer()) as served, client(served) as asking:
        # when
        asking.generate("a red circle")
        asking.generate("a red circle")

        # then
        first, second = served.keys[:3], served.keys[3:]
        assert len(set(first)) == len(set(second)) == 1
        assert None not in served.keys
        assert set(first).isdisjoint(second)


def test_a_key_of_the_caller_is_sent_as_it_is():
    with serving(Answer()) as served, client(served) as asking:
        asking.generate("a red circle", idempotency_key="mine")
        assert served.keys == ["mine"]


def test_a_server_that_is_not_there_yet_is_waited_for():
    # given: a port where nobody listens, and a call that has been refused
    port, refused = free_port(), threading.Event()
    found: list[JobRead] = []
    policy_pause = RetryPolicy.pause_seconds

    class Told(RetryPolicy):
        def pause_seconds(self, failures: int, draw: float) -> float:
            refused.set()
            return policy_pause(self, failures, draw)

    asking = FluxImageClient(f"http://127.0.0.1:{port}", retries=Told(total_seconds=20, first_pause_seconds=0.01))
    thread = threading.Thread(target=lambda: found.append(asking.job("job_1")))
    thread.start()
    assert refused.wait(10)

    # when
    with serving(Answer(), port=port):
        thread.join(20)

    # then
    assert [job.id for job in found] == [JOB["id"]]
    asking.close()


def test_wait_goes_on_after_the_server_was_away():
    running = Answer(body=json.dumps({**JOB, "status": "running"}).encode())
    with serving(running, RESET, refusal(503), RESET, Answer()) as served, client(served) as asking:
        assert asking.wait(JOB["id"]).status == "succeeded"
        assert len(served.paths) == 5


def test_wait_ends_in_time_however_long_the_server_is_away():
    with serving(RESET) as served, client(served) as asking, pytest.raises(TimeoutError, match=JOB["id"]):
        asking.wait(JOB["id"], timeout_seconds=0.05)


def test_a_server_that_stays_away_is_named_in_words():
    with serving(RESET) as served:
        asking = FluxImageClient(served.url.replace("//", "//me:secret@"), retries=BRIEF)
        with asking, pytest.raises(ServerUnreachable) as unreachable:
            asking.job("job_1")
    assert served.url in str(unreachable.value)
    assert "secret" not in str(unreachable.value)
    assert "Is the server running?" in str(unreachable.value)


def test_a_server_that_stays_full_is_believed_at_last():
    with serving(refusal(429)) as served, client(served, BRIEF) as asking, pytest.raises(FluxImageError) as full:
        asking.generate("a red circle")
    assert (full.value.status_code, full.value.code) == (429, "busy")


@pytest.mark.parametrize("status", [404, 409, 410, 413, 422, 500, 507])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status: int):
    with serving(refusal(status)) as served, client(served) as asking:
        with pytest.raises(FluxImageError):
            asking.generate("a red circle")
        assert len(served.paths) == 1


def test_a_state_that_is_not_ready_is_an_answer():
    ready = {
        "ready": False, "database": "ok", "broker": "no answer", "storage": "ok", "worker": "idle",
        "worker_heartbeat_age_seconds": None, "remote_worker": "off",
    }  # fmt: skip
    with serving(Answer(503, json.dumps(ready).encode())) as served, client(served) as asking:
        assert asking.ready().broker == "no answer"
        assert len(served.paths) == 1


def test_a_picture_is_never_half_written(tmp_path):
    with serving(Answer(body=b"0" * 1000, cut=True)) as served, client(served, BRIEF) as asking:
        with pytest.raises(ServerUnreachable):
            asking.save(PICTURE, tmp_path / "a.png")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("base", "told", "asked"),
    [
        ("", "/api/images/img_1", "/api/images/img_1"),
        ("/flux", "/flux/api/images/img_1", "/flux/api/images/img_1"),
        ("/flux/", "/flux/api/images/img_1", "/flux/api/images/img_1"),
        # a proxy that cuts its prefix off and does not tell the server
        ("/flux", "/api/images/img_1", "/flux/api/images/img_1"),
        ("/flux", "/fluxus/1", "/flux/fluxus/1"),
    ],
)
def test_behind_a_proxy_an_address_has_its_prefix_once(base: str, told: str, asked: str):
    picture = PICTURE.model_copy(update={"url": told})
    with serving(Answer(body=b"png")) as served, FluxImageClient(served.url + base, retries=QUICK) as asking:
        assert asking.download(picture) == b"png"
    assert served.paths == [f"GET {asked}"]


def test_none_in_a_form_means_left_out(tmp_path):
    # given
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")

    # when
    with serving(Answer()) as served, client(served) as asking:
        asking.edit(picture, "make it green", seed=None, num_images=2)

    # then
    assert b"num_images" in served.bodies[0]
    assert b"seed" not in served.bodies[0]


class Clockwork:
    """A clock that only sleeping moves, and a server that answers by a script; remembers the pauses."""

    def __init__(self, *script: httpx2.Response | Exception) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self._script = list(script)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def send(self) -> httpx2.Response:
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, policy: RetryPolicy, draw: float = 0.0) -> httpx2.Response:
        retrying = Retrying(policy, clock=lambda: self.now, sleep=self.sleep, draw=lambda: draw)
        return retrying.call(self.send)


def later(status: int = 503, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers={name.replace("_", "-"): text for name, text in headers.items()})


class TestPauses:
    POLICY = RetryPolicy(total_seconds=100, first_pause_seconds=1, longest_pause_seconds=10)

    def test_they_double_up_to_the_longest_and_the_time_ends(self):
        time = Clockwork(later())
        assert time.run(self.POLICY).status_code == 503
        assert time.pauses[:6] == [1, 2, 4, 8, 10, 10]
        assert 85 <= time.now <= 100

    def test_chance_cuts_them_by_up_to_a_half(self):
        time = Clockwork(later(), later(), later(200))
        time.run(self.POLICY, draw=0.5)
        assert time.pauses == [0.75, 1.5]

    @pytest.mark.parametrize("status", [429, 503])
    def test_what_the_server_asks_for_is_waited_for(self, status: int):
        time = Clockwork(later(status, Retry_After="30"), later(200))
        assert time.run(self.POLICY).status_code == 200
        assert 30 <= time.now <= 32

    def test_a_pause_beyond_the_time_is_not_begun(self):
        time = Clockwork(later(429, Retry_After="101"))
        assert time.run(self.POLICY).status_code == 429
        assert time.pauses == []

    def test_the_last_error_is_raised_when_no_answer_ever_came(self):
        with pytest.raises(httpx2.ConnectError):
            Clockwork(httpx2.ConnectError("refused")).run(self.POLICY)

    def test_a_mistake_of_the_caller_is_not_tried_again(self):
        time = Clockwork(httpx2.UnsupportedProtocol("ftp"))
        with pytest.raises(httpx2.UnsupportedProtocol):
            time.run(self.POLICY)
        assert time.pauses == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Sat, 28 Nov 2026 12:00:30 GMT", "Date": "Sat, 28 Nov 2026 12:00:00 GMT"}, 30),
        ({"Retry-After": "Sat, 28 Nov 2026 12:00:00 GMT", "Date": "Sat, 28 Nov 2026 12:00:30 GMT"}, 0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_a_date(headers: dict[str, str], seconds: float | None):
    assert retry_after_seconds(httpx2.Response(503, headers=headers)) == seconds
