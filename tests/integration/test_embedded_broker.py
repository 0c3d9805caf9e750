"""The broker that `flux-image up` brings: a slow one is left alone, a dead one is told of at once."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import redis

from cli.host import broker as embedded
from tests.stack import wait_for

BUSY_SCRIPT = """
local function now() local time = redis.call('TIME'); return time[1] * 1000 + time[2] / 1000 end
local begun = now()
while now() - begun < tonumber(ARGV[1]) do end
return 'awake'
"""


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="flux-") as folder:  # a short path, as sockets need
        yield Path(folder)


@pytest.fixture
def broker(folder):
    """The process that `up` starts and watches."""
    command = [sys.executable, "-m", "cli.host.broker", str(folder / "valkey.sock"), str(folder / "data")]
    with subprocess.Popen(command) as process:
        yield process
        process.terminate()


@pytest.fixture
def client(folder, broker):
    with closing(redis.Redis(unix_socket_path=str(folder / "valkey.sock"))) as client:
        wait_for(lambda: answers(client), "the broker answers")
        yield client


def answers(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def test_a_broker_that_answers_nobody_for_a_while_is_left_alone(broker, client):
    # Given a server with something in it
    pid = client.info("server")["process_id"]
    client.set("job", "waits")
    # When it is busy for longer than a sign of life may take
    assert client.eval(BUSY_SCRIPT, 0, 3000) == b"awake"
    # Then it is the same one, and nothing is lost
    assert (client.info("server")["process_id"], client.get("job")) == (pid, b"waits")
    assert broker.poll() is None


def test_a_broker_that_died_ends_its_process_so_that_it_is_started_again(broker, client):
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    assert broker.wait(10) == 1


def test_a_broker_that_is_told_to_stop_keeps_what_it_has(folder, broker, client):
    # Given a message
    client.set("job", "waits")
    # When it is stopped and started again
    broker.terminate()
    assert broker.wait(30) == 0
    command = [sys.executable, "-m", "cli.host.broker", str(folder / "valkey.sock"), str(folder / "data")]
    with subprocess.Popen(command) as again:
        wait_for(lambda: answers(client), "it answers again")
        # Then the message is there
        assert client.get("job") == b"waits"
        again.terminate()


def test_a_frozen_broker_of_an_earlier_run_is_not_joined_by_a_second_one(folder, monkeypatch):
    # Given somebody who listens on the socket and never answers
    monkeypatch.setattr(embedded, "_ORPHAN_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "valkey.sock"))
        silent.listen()
        # When a broker is to start there, then it does not
        with pytest.raises(TimeoutError, match="does not end; kill it"):
            embedded.stop_orphan(folder / "valkey.sock")
