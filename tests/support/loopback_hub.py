"""A Hub on loopback: a real HTTP server that speaks the part of the protocol that publishing and loading need.

It keeps a log of all requests, and fails where a test tells it to. `hub_connections` makes huggingface_hub use it.
"""

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hub_repositories import Blob, RefusedError, Repository
from hub_routes import Answer, commit_asked_for, respond


@dataclass(frozen=True)
class Request:
    """One request as it came, the names of its headers in small letters; status 0: it got no answer."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int


@dataclass
class Fault:
    """What goes wrong with requests whose method and path match: a status, or a connection that is cut."""

    method: str
    path: str
    times: int
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body that are read before the connection is cut; nothing is done then."""
    answer_lost: bool = False
    """The request is done, and the connection cut before its answer."""


class LoopbackHub:
    """A running server and what it holds."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve; after a `stop` on the same port and with what was there."""
        hub = self

        class BoundHandler(_Handler):
            held = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), BoundHandler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Die: nobody listens any more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def repository(self, name: str, kind: str = "models") -> Repository:
        """A repository, of which the test knows that it is there."""
        return self.repositories[kind, name]

    def add(self, name: str, files: Mapping[str, bytes], kind: str = "models", private: bool = False) -> Repository:
        """A repository with files, as if somebody had pushed them."""
        repository = self.repositories[kind, name] = Repository(kind, name, private)
        modes = repository.upload_modes("main", [{"path": n, "size": len(c)} for n, c in files.items()])
        blobs = {mode["path"]: Blob(files[mode["path"]], mode["uploadMode"] == "lfs") for mode in modes}
        repository._keep("main", "add", blobs, repository.at("main").oid)
        return repository

    def fail(self, method: str, path: str, times: int = 1, **how: Any) -> None:
        """Let the next `times` requests whose path matches the pattern fail."""
        self.faults.append(Fault(method, path, times, **how))

    def sent(self, method: str, path: str) -> list[Request]:
        """The requests whose path matches the pattern."""
        return [r for r in self.requests if r.method == method and re.search(path, r.path)]

    def fault_for(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets; it is one time less then."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class _CutError(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    held: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # with it every request takes 40 ms

    def log_message(self, *_: Any) -> None:
        """Standard error is not for this; the hub keeps its own log."""

    def do_GET(self) -> None:  # noqa: N802
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        fault = self.held.fault_for(self.command, self.path)
        try:
            body = self._body(fault.cut_after if fault else None)
        except _CutError:
            self._cut()
            return
        if fault is not None and not fault.answer_lost:
            self._answer(fault.status, {"error": f"a fault, status {fault.status}"}, body, fault.headers)
            return
        try:
            with self.held.lock:
                found = respond(self.held, self.command, self.path, self.headers.get("Authorization"), body)
        except RefusedError as refusal:
            headers = {} if refusal.code is None else {"X-Error-Code": refusal.code}
            self._answer(refusal.status, refusal.body, body, headers | commit_asked_for(self.held, self.path))
            return
        if fault is not None:
            self._cut()
        elif isinstance(found, tuple):
            self._answer(*self._part_of(*found, body))
        else:
            self._answer(200, found, body)

    def _seen(self, body: bytes, status: int) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, self.path, headers, body, status)

    def _cut(self) -> None:
        self.held.requests.append(self._seen(b"", 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _body(self, cut_after: int | None) -> bytes:
        if cut_after is not None:
            self.rfile.read(min(cut_after, int(self.headers.get("Content-Length") or cut_after)))
            raise _CutError
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(
        self, status: int, content: Answer | bytes, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        self.held.requests.append(self._seen(body, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _part_of(
        self, content: bytes, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, bytes, dict[str, str]]:
        """The bytes that the client asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return 200, content, body, headers
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, content[first : last + 1], body, headers


@contextmanager
def running_hub() -> Iterator[LoopbackHub]:
    """A Hub for as long as the block lasts."""
    hub = LoopbackHub()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()
