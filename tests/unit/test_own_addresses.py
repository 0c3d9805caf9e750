"""What counts as this machine, and that nothing comes between this machine and itself."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from cli.client import FluxImageClient
from cli.host.checks import outside
from cli.host.checks.finding import Level
from shared.direct import open_directly
from shared.domain.addresses import is_loopback, is_own_url, is_wildcard, url_host
from shared.settings import HubSettings
from tests.stack import free_port


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000",
        "http://LOCALHOST.",
        "http://app.localhost/x",
        "http://127.0.0.1",
        "http://127.8.9.10:1",
        "http://127.1:8000",
        "http://[::1]:8000",
        "http://[::ffff:127.0.0.1]",
        "http://0.0.0.0:8000",
        "http://[::]:8000",
        "https://ip6-localhost",
    ],
)
def test_addresses_of_this_machine_are_known(url):
    assert is_own_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://192.168.1.5:8000", "https://example.org", "http://localhost.example.org", "http://[2001:db8::1]", "x", ""],
)
def test_other_addresses_are_not_taken_for_it(url):
    assert not is_own_url(url)


def test_a_wildcard_is_no_loopback():
    assert [is_loopback(host) for host in ("::", "0.0.0.0", "::1", "127.0.0.2")] == [False, False, True, True]
    assert [is_wildcard(host) for host in ("::", "0.0.0.0", "::1", "example.org")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("host", "written"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("fe80::1%eth0", "[fe80::1%25eth0]"), ("box", "box")],
)
def test_an_address_in_a_url_has_its_brackets(host, written):
    assert url_host(host) == written


@pytest.fixture
def server():
    """A server that answers every GET, with 503 below /bad."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"data": [{"id": "nemo"}], "ready": true, "models": []}'
            self.send_response(503 if self.path.startswith("/bad") else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("dead_proxies")
class TestProxies:
    def test_up_asks_its_own_server_directly(self, server):
        with open_directly(f"{server}/health/ready", timeout=5) as answer:
            assert answer.read().startswith(b'{"data"')

    def test_an_answer_that_is_an_error_is_an_answer(self, server):
        with open_directly(f"{server}/bad", timeout=5) as answer:
            assert answer.status == 503

    def test_the_client_asks_this_machine_directly(self, server):
        with FluxImageClient(server) as client:
            assert client._http.get("/").status_code == 200

    def test_the_client_asks_another_machine_through_the_proxy(self, monkeypatch):
        for name in ("ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name)
        with FluxImageClient("http://192.0.2.1") as client, pytest.raises(httpx2.ConnectError):
            client._http.get("/")

    def test_the_doctor_asks_a_language_model_on_this_machine_directly(self, server, monkeypatch, tmp_path):
        monkeypatch.setenv("FLUX_ENHANCER_URL", server)
        monkeypatch.setenv("FLUX_ENHANCER_MODEL", "nemo")
        findings = list(outside.check(HubSettings(_env_file=None, data_dir=tmp_path)))
        assert findings[-1].level is Level.OK, findings[-1].text

    def test_the_doctor_shows_no_password_of_a_language_model_that_refuses(self, server, monkeypatch, tmp_path):
        monkeypatch.setenv("FLUX_ENHANCER_URL", f"{server.replace('//', '//user:geheim@')}/bad")
        problem = list(outside.check(HubSettings(_env_file=None, data_dir=tmp_path)))[-1]
        assert (problem.level, "503" in problem.text, "geheim" in problem.text) == (Level.PROBLEM, True, False)

    @pytest.mark.parametrize(("path", "code", "said"), [("/health", 0, "answers 200"), ("/bad", 1, "answers 503")])
    def test_a_containers_health_check_asks_directly(self, server, path, code, said):
        check = [sys.executable, "-m", "api.healthcheck", f"{server}{path}"]
        run = subprocess.run(check, capture_output=True, text=True, timeout=30)
        assert (run.returncode, said in run.stdout, run.stderr) == (code, True, "")

    def test_a_health_check_of_a_server_that_is_away_says_so(self):
        check = [sys.executable, "-m", "api.healthcheck", f"http://127.0.0.1:{free_port()}/"]
        run = subprocess.run(check, capture_output=True, text=True, timeout=30)
        assert (run.returncode, "does not answer" in run.stdout, run.stderr) == (1, True, "")
