"""A Hugging Face hub on loopback, with faults on demand.

It speaks what `huggingface_hub` 2.4 asks for: ``/api/models/ID[/revision/REV]?blobs=true`` and ``/tree/REV``, and
``/ID/resolve/REV/PATH`` with ``X-Repo-Commit`` and ``ETag``. Large files (LFS) are redirected, with ``X-Linked-Size``
and ``X-Linked-Etag``, to another origin, the CDN, which answers ranges (RFC 9110, section 14) and must never see the
token.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.repositories import COMMIT, HubFile, Repository

TOKEN = "hf_the-token-of-the-tests"
_CHUNK = 64 * 1024
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Request:
    """One request as it came, and how many bytes of a file it was sent."""

    method: str
    is_cdn: bool
    path: str
    authorization: str | None
    start: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What happens to the body of a file that the CDN sends; it strikes ``times`` times."""

    after: int = 0
    """Bytes of the file, counted from its start, that are sent as they should be."""
    kind: str = "cut"
    """cut: close the connection; hold: send no more until ``release``; trickle: a byte now and then; wrong: zeros."""
    times: int = 1


@dataclass
class Status:
    """An answer in place of the right one, to every request whose path holds ``path``, ``times`` times."""

    path: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "no"
    times: int = 1_000


class Hub:
    """The server's state; tests change it while it runs."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.gated: set[str] = set()
        self.requests: list[Request] = []
        self.faults: dict[str, Fault] = {}
        self.statuses: list[Status] = []
        self.announced: dict[str, int] = {}
        """Sizes that the lists name instead of the right ones."""
        self.commit = COMMIT
        self.ignores_ranges = False
        self.hides_lengths = False
        """Send files without Content-Length, so that only the end of the connection ends them."""
        self.is_xet = False
        """Announce the large files as kept in Xet too, as the real hub does. There is no such service here."""
        self.holding = threading.Event()
        """Set while a body is held back."""
        self.release = threading.Event()
        self.origin = self.cdn_origin = ""

    def file(self, name: str) -> HubFile:
        return next(files[name] for files in self.repositories.values() if name in files)

    def bodies(self, name: str) -> list[tuple[int, int]]:
        """First byte and count of each body of a file that was sent, in order."""
        return [(r.start, r.sent) for r in self.requests if r.method == "GET" and r.sent and r.path.endswith(name)]

    def sent(self) -> int:
        """Bytes of all files that went out."""
        return sum(request.sent for request in self.requests)

    def status_for(self, path: str) -> Status | None:
        for status in self.statuses:
            if status.path in path and status.times > 0:
                status.times -= 1
                return status
        return None

    def fault_for(self, name: str) -> Fault | None:
        fault = self.faults.get(name)
        if fault is None or fault.times <= 0:
            return None
        fault.times -= 1
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    is_cdn = False

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.request_seen = Request(self.command, self.is_cdn, path, self.headers.get("Authorization"))
        self.hub.requests.append(self.request_seen)
        if status := self.hub.status_for(path):
            self._send(status.status, status.body.encode(), status.headers)
        elif self.is_cdn:
            repo, name = path[1:].split("//")
            self._send_file(name, self.hub.repositories[repo][name])
        elif match := _API.fullmatch(path):
            self._metadata(match["repo"], match["what"])
        elif match := _RESOLVE.fullmatch(path):
            self._resolve(match["repo"], match["path"])
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    def _metadata(self, repo: str, what: str | None) -> None:
        files = self.hub.repositories.get(repo)
        if files is None:  # the real one says 401 to who may not know whether there is one
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif what == "tree":
            self._send_json([self._tree_entry(name, file) for name, file in files.items()])
        else:
            siblings = [self._sibling(name, file) for name, file in files.items()]
            gated = "auto" if repo in self.hub.gated else False
            self._send_json(
                {"id": repo, "sha": self.hub.commit, "gated": gated, "private": False, "siblings": siblings}
            )

    def _size(self, name: str, file: HubFile) -> int:
        return self.hub.announced.get(name, file.size)

    def _sibling(self, name: str, file: HubFile) -> dict[str, Any]:
        size = self._size(name, file)
        lfs = {"lfs": {"size": size, "sha256": file.etag, "pointerSize": 134}} if file.is_lfs else {}
        return {"rfilename": name, "size": size, "blobId": file.oid, **lfs}

    def _tree_entry(self, name: str, file: HubFile) -> dict[str, Any]:
        size = self._size(name, file)
        lfs = {"lfs": {"oid": file.etag, "size": size, "pointerSize": 134}} if file.is_lfs else {}
        xet = {"xetHash": file.etag} if file.is_lfs and self.hub.is_xet else {}
        oid = file.oid
        return {"type": "file", "path": name, "oid": oid, "size": size, **lfs, **xet}

    def _resolve(self, repo: str, name: str) -> None:
        files = self.hub.repositories.get(repo)
        if files is None:
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if repo in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status = 403 if "Authorization" in self.headers else 401
            return self._refuse(status, "GatedRepo", f"Access to model {repo} is restricted.")
        if name not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        file = files[name]
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{file.oid}"'}
        if not file.is_lfs:
            return self._send_file(name, file, headers)
        headers |= {"X-Linked-Size": str(self._size(name, file)), "X-Linked-Etag": f'"{file.etag}"'}
        if self.hub.is_xet:
            headers |= {"X-Xet-Hash": file.etag, "X-Xet-Refresh-Route": f"/api/models/{repo}/xet-read-token/{COMMIT}"}
        return self._send(302, b"", headers | {"Location": f"{self.hub.cdn_origin}/{repo}//{name}"})

    def _send_file(self, name: str, file: HubFile, headers: dict[str, str] | None = None) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not self.hub.ignores_ranges else 0
        headers = {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", **(headers or {})}
        if start >= file.size > 0:
            return self._send(416, b"", {"Content-Range": f"bytes */{file.size}"})
        if start:
            headers["Content-Range"] = f"bytes {start}-{file.size - 1}/{file.size}"
        self.send_response(206 if start else 200)
        length = {"Connection": "close"} if self.hub.hides_lengths else {"Content-Length": str(file.size - start)}
        for key, value in {**headers, **length}.items():
            self.send_header(key, value)
        self.end_headers()
        self.request_seen.start = start
        if self.command == "GET":
            self._send_body(name, file, start)
        return None

    def _send_body(self, name: str, file: HubFile, start: int) -> None:
        fault = self.hub.fault_for(name)
        end = file.size if fault is None else max(start, min(fault.after, file.size))
        self._write(file, start, end)
        if fault is None or end == file.size:
            return
        if fault.kind == "wrong":
            self.wfile.write(bytes(file.size - end))
            return
        self.hub.holding.set()
        if fault.kind == "hold":
            self.hub.release.wait()
        while fault.kind == "trickle" and not self.hub.release.wait(0.1):
            self._write(file, end, end + 1)
            end += 1
        self.close_connection = True

    def _write(self, file: HubFile, start: int, end: int) -> None:
        for position in range(start, end, _CHUNK):
            chunk = file.read(position, min(_CHUNK, end - position))
            self.wfile.write(chunk)
            self.request_seen.sent += len(chunk)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, message.encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may hang up when it likes
            super().handle_error(request, client_address)


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """Yield a running hub and its CDN, each an origin of its own."""
    hub = Hub()
    servers = [_serve(hub, is_cdn) for is_cdn in (False, True)]
    hub.origin, hub.cdn_origin = (f"http://127.0.0.1:{server.server_address[1]}" for server, _ in servers)
    try:
        yield hub
    finally:
        hub.release.set()
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()


def _serve(hub: Hub, is_cdn: bool) -> tuple[ThreadingHTTPServer, threading.Thread]:
    handler: Callable[..., _Handler] = type("Handler", (_Handler,), {"hub": hub, "is_cdn": is_cdn})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return server, thread
