"""Clients that send too much, too little, too slowly or nonsense, or leave: each is told so, others do not notice, and
nothing is held afterwards."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from recognition_checkpoints import processor, talkative_model, write_noise
from served_models import Served, served

from wav2vec2 import Transcriber
from wav2vec2.inference import Transcript


class Gated(Transcriber):
    """Transcribes when the gate is open, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__(talkative_model(), processor())
        self.gate, self.fails = threading.Event(), False
        self.gate.set()

    def transcribe_each(self, *arguments: Any, **options: Any) -> Iterator[Transcript]:
        assert self.gate.wait(60)
        if self.fails:
            raise RuntimeError("the device is lost")
        yield from super().transcribe_each(*arguments, **options)


@pytest.fixture
def model() -> Gated:
    return Gated()


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_noise(tmp_path_factory.mktemp("audio") / "talk.wav", 1.0).read_bytes()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where uploads lie; none is left at the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.glob("wav2vec2-*")) == []


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def wait_until(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def head(size: int, more: str = "") -> bytes:
    """The beginning of a request whose body is to have so many bytes."""
    lines = ["POST /v1/audio/transcriptions HTTP/1.1", "host: localhost", f"content-length: {size}"]
    lines += ["content-type: multipart/form-data; boundary=cut", more, ""]
    part = '--cut\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return ("\r\n".join(filter(None, lines)) + "\r\n\r\n" + part).encode()


def test_too_large_is_refused_before_or_while_it_comes(model: Gated, talk: bytes) -> None:
    with served(model, upload_bytes=100_000) as one:
        one.post(talk)
        before = one.held()
        assert code(one.post(bytes(2_000_000))) == (413, "file_too_large")

        def pieces() -> Iterator[bytes]:
            yield head(0).partition(b"\r\n\r\n")[2]
            for _ in range(4):
                yield bytes(50_000)

        kind = {"content-type": "multipart/form-data; boundary=cut"}
        place = f"{one.address}/v1/audio/transcriptions"
        answer = httpx.post(place, content=pieces(), headers=kind)
        assert "content-length" not in answer.request.headers
        assert code(answer) == (413, "file_too_large") and answer.headers["x-should-retry"] == "false"
        assert one.post(talk).status_code == 200
        assert one.settles_at(before)


def test_what_comes_too_slowly_is_refused(model: Gated) -> None:
    """And who goes on sending it is not listened to for ever."""
    with (
        served(model, upload_seconds=0.3, idle_seconds=0.5) as one,
        socket.create_connection(("127.0.0.1", one.port), 10) as slow,
    ):
        slow.sendall(head(1000))
        answer = read_answer(slow)
        assert answer.startswith(b"HTTP/1.1 408") and b'"code":"timeout"' in answer
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while True:
                slow.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def read_answer(client: socket.socket) -> bytes:
    """A whole answer."""
    answer = b""
    while (at := answer.find(b"\r\n\r\n")) < 0 or not answer[at:].endswith(b"}"):
        piece = client.recv(65536)
        assert piece
        answer += piece
    return answer


def test_two_hundred_idle_sockets_are_closed_and_nobody_notices(model: Gated, talk: bytes) -> None:
    with served(model, idle_seconds=2.0) as one:
        before = one.held()
        idle = [socket.create_connection(("127.0.0.1", one.port), 20) for _ in range(200)]
        try:
            for number, client in enumerate(idle):
                client.sendall((b"", b"POST / HT", head(1000).partition(b"\r\n\r\n")[0])[number % 3])
            assert one.held()["threads"] <= before["threads"] + 1
            assert one.post(talk).status_code == 200
            assert [client.recv(100) for client in idle] == [b""] * 200
        finally:
            for client in idle:
                client.close()
        assert one.settles_at(before)


def test_what_only_half_asks_for_a_websocket_is_closed(model: Gated) -> None:
    """HTTP takes this header, websockets do not."""
    lines = ["GET / HTTP/1.1", "host: 127.0.0.1", "upgrade: websocket", "connection: Upgrade", "x-odd: a\x10b"]
    lines += ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13", "", ""]
    with served(model) as one:
        before = one.held()
        with socket.create_connection(("127.0.0.1", one.port), 10) as client:
            client.sendall("\r\n".join(lines).encode())
            with contextlib.suppress(ConnectionResetError):
                assert b"101" not in b"".join(iter(lambda: client.recv(65536), b""))
        with socket.create_connection(("127.0.0.1", one.port), 10) as client:  # the same without it
            client.sendall("\r\n".join(line for line in lines if "odd" not in line).encode())
            assert client.recv(100).startswith(b"HTTP/1.1 101")
        assert one.settles_at(before)


def test_cut_uploads_leave_nothing(model: Gated, talk: bytes) -> None:
    with served(model) as one:
        one.post(talk)
        before = one.held()
        for size in range(0, 50_000, 1000):
            with socket.create_connection(("127.0.0.1", one.port), 10) as client:
                client.sendall(head(100_000) + bytes(size))
        assert one.settles_at(before)
        assert one.post(talk).status_code == 200


def test_a_full_queue_says_when_to_come_again(model: Gated, talk: bytes) -> None:
    model.gate.clear()
    with served(model, queue=2) as one, ThreadPoolExecutor(3) as clients:
        first = clients.submit(one.post, talk)
        wait_until(lambda: one.service.files.working_on == 1)
        others = [clients.submit(one.post, talk) for _ in range(2)]
        wait_until(lambda: one.service.files.waiting == 2)
        refused = one.post(talk)
        assert code(refused) == (429, "queue_full") and int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{one.address}/health").json() == {"status": "ok", "model": "small", "queue": 2}
        model.gate.set()
        assert [one.result().status_code for one in (first, *others)] == [200] * 3


def test_nobody_waits_longer_than_was_said(model: Gated, talk: bytes) -> None:
    model.gate.clear()
    with served(model, answer_seconds=0.3) as one:
        answer = one.post(talk)
        assert code(answer) == (504, "timeout") and answer.headers["x-should-retry"] == "false"
        streamed = one.post(talk, stream="true")
        assert code(streamed) == (504, "timeout")
        model.gate.set()
        wait_until(lambda: one.service.files.working_on + one.service.files.waiting == 0)
        assert one.service.files.audio_seconds == 0.0  # neither was heard once nobody waited


def test_the_recordings_of_clients_who_left_are_not_heard(model: Gated, talk: bytes) -> None:
    model.gate.clear()
    with served(model) as one:
        before = one.held()
        for stream in ("true", "false"):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{one.address}/v1/audio/transcriptions", files={"file": talk}, data={"stream": stream}, timeout=0.5
                )
        model.gate.set()
        assert one.settles_at(before)
        assert one.post(talk).status_code == 200
        assert one.service.files.audio_seconds == 1.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_the_model_is_the_services_and_ends_nothing(model: Gated, talk: bytes) -> None:
    model.fails = True
    with served(model) as one:
        answer = one.post(talk)
        assert code(answer) == (500, "internal_error") and "device" not in answer.text
        streamed = one.post(talk, stream="true")
        assert code(streamed) == (500, "internal_error")
        model.fails = False
        assert one.post(talk).status_code == 200


@pytest.mark.slow
def test_nonsense_is_answered_with_a_status(model: Gated, talk: bytes) -> None:
    """Requests with bytes changed, left out, doubled: an answer, or, where it cannot be one, the end."""
    draw = random.Random(0)
    body = head(0).partition(b"\r\n\r\n")[2] + talk[:300] + b'\r\n--cut\r\ncontent-disposition: form-data; name="model"'
    body += b"\r\n\r\nsmall\r\n--cut--\r\n"
    whole = head(len(body), "connection: close").partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    with served(model, idle_seconds=0.5, upload_seconds=0.3) as one:
        one.post(talk)
        before = one.held()

        def answered(request: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", one.port), 10) as client:
                client.sendall(request)
                with contextlib.suppress(ConnectionResetError):  # closed with more in it than was read
                    return b"".join(iter(lambda: client.recv(65536), b""))
                return b""

        assert answered(whole).startswith(b"HTTP/1.1 400")  # a recording cut off
        requests = [mutated(whole, draw) for _ in range(200)]
        with ThreadPoolExecutor(20) as clients:
            answers = list(clients.map(answered, requests))
        statuses = {answer[:12] for answer in answers}
        assert statuses <= {b"HTTP/1.1 %d" % status for status in (200, 400, 404, 405, 408, 413, 415)} | {b""}
        assert one.settles_at(before)
        assert one.post(talk).status_code == 200


def mutated(request: bytes, draw: random.Random) -> bytes:
    """With one to three bytes or stretches changed."""
    found = bytearray(request)
    for _ in range(draw.randint(1, 3)):
        place, size = draw.randrange(len(found)), draw.randint(1, 20)
        match draw.randrange(3):
            case 0:
                found[place] = draw.randrange(256)
            case 1:
                del found[place : place + size]
            case _:
                found[place:place] = found[place : place + size] * draw.randint(1, 3)
    return bytes(found)


def test_slots_of_uploads_are_bounded(model: Gated, talk: bytes) -> None:
    with served(model, queue=1) as one:
        slow = [socket.create_connection(("127.0.0.1", one.port), 10) for _ in range(3)]
        try:
            for client in slow:
                client.sendall(head(1000))
            wait_until(lambda: code_or_none(one, talk) == (429, "queue_full"))
        finally:
            for client in slow:
                client.close()
        wait_until(lambda: one.post(talk).status_code == 200)


def code_or_none(one: Served, talk: bytes) -> tuple[int, str] | None:
    answer = one.post(talk)
    return None if answer.status_code == 200 else code(answer)
