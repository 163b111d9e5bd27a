"""Wyoming over TCP: its official client gets the transcriber's text; what is no event is answered with an error."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from recognition_checkpoints import noise, processor, talkative_model
from served_models import Served, served

from wav2vec2 import Transcriber
from wav2vec2.inference import Transcript
from wav2vec2.serving.pcm import as_mono, checked_format


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(talkative_model(), processor())


@pytest.fixture(scope="module")
def running(transcriber: Transcriber) -> Iterator[Served]:
    with served(transcriber, wyoming=True, spoken="en", upload_bytes=2**20, idle_seconds=1.5) as one:
        yield one


class Client:
    """Writes lines and bytes, and reads events."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, type: str, payload: bytes = b"", **data: Any) -> None:
        head = {"type": type, "data": data, "payload_length": len(payload)}
        self.socket.sendall(json.dumps(head).encode() + b"\n" + payload)

    def read(self) -> dict[str, Any]:
        """The next event with its data; empty at the end."""
        line = self.file.readline()
        if not line:
            return {}
        event: dict[str, Any] = json.loads(line)
        event["data"] = json.loads(self.file.read(event.get("data_length", 0)) or b"{}")
        return event


def sound(seconds: float) -> bytes:
    return (noise(seconds) * 2**15).astype("<i2").tobytes()


@pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")  # which the client imports
def test_the_official_client_gets_the_transcribers_text(running: Served, transcriber: Transcriber) -> None:
    pytest.importorskip("wyoming", reason="Wyoming's client is not installed")
    from wyoming.asr import Transcribe
    from wyoming.asr import Transcript as Answer
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info

    content = sound(3.3)
    right = transcriber.transcribe((as_mono(content, 2, 1), 16_000))
    assert isinstance(right, Transcript) and len(right.text) > 20

    async def ask() -> tuple[Info, list[str]]:
        async with AsyncTcpClient("127.0.0.1", running.wyoming_port) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            info, texts = Info.from_event(event), []
            for size in (2048, 999):  # the second cuts samples
                await client.write_event(Transcribe(name="small", language="en").event())
                await client.write_event(AudioStart(16_000, 2, 1).event())
                for begin in range(0, len(content), size):
                    await client.write_event(AudioChunk(16_000, 2, 1, content[begin : begin + size]).event())
                await client.write_event(AudioStop().event())
                event = await client.read_event()
                assert event is not None and Answer.is_type(event.type)
                texts.append(Answer.from_event(event).text)
            return info, texts

    info, texts = asyncio.run(ask())
    (program,) = info.asr
    (model,) = program.models
    assert (model.name, model.languages, model.installed) == ("small", ["en"], True)
    assert texts == [right.text] * 2


def test_any_rate_and_several_channels(running: Served, transcriber: Transcriber) -> None:
    samples = np.repeat((noise(2.0) * 2**15).astype("<i2"), 2).reshape(-1, 2)  # twice the same
    with Client(running.wyoming_port) as client:
        client.send("audio-start", rate=8000, width=2, channels=2)
        client.send("audio-chunk", samples.tobytes(), rate=8000, width=2, channels=2)
        client.send("audio-stop")
        right = transcriber.transcribe((samples[:, 0], 8000))
        assert isinstance(right, Transcript)
        assert client.read()["data"] == {"text": right.text}
        client.send("audio-start", rate=16000, width=2, channels=1)
        client.send("audio-stop")
        assert client.read()["data"] == {"text": ""}
        client.send("ping", text="here?")
        assert client.read()["data"] == {"text": "here?"}
        client.send("synthesize", text="is for another service")
        client.send("describe")
        assert client.read()["type"] == "info"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([("transcribe", b"", {"name": "large"})], "model_not_found"),
        ([("audio-start", b"", {"rate": 16000, "width": 3, "channels": 1})], "invalid-format"),
        ([("audio-start", b"", {"rate": 16000.5, "width": 2, "channels": 1})], "invalid-format"),
        ([("audio-start", b"", {"rate": 16000, "width": 2, "channels": []})], "invalid-format"),
        ([("audio-start", b"", {"rate": 16000, "width": [2], "channels": 1})], "invalid-format"),
        ([("audio-chunk", b"ab", {})], "invalid-format"),
        (
            [
                ("audio-start", b"", {"rate": 16000, "width": 2, "channels": 1}),
                ("audio-chunk", b"ab", {"rate": 8000, "width": 2, "channels": 1}),
            ],
            "invalid-format",
        ),
        (
            [("audio-start", b"", {"rate": 16000, "width": 2, "channels": 1})]
            + [("audio-chunk", bytes(700_000), {"rate": 16000, "width": 2, "channels": 1})] * 2,
            "too-large",
        ),
    ],
)
def test_a_wrong_request_is_said_and_the_connection_stays(running: Served, sent: Any, code: str) -> None:
    with Client(running.wyoming_port) as client:
        for type, payload, data in sent:
            client.send(type, payload, **data)
        answer = client.read()
        assert (answer["type"], answer["data"]["code"]) == ("error", code)
        client.send("audio-stop")  # of sound that was refused
        client.send("ping", text="still")
        assert client.read()["type"] == "pong"


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"no event\n",
        b"[1]\n",
        b'{"type": 1}\n',
        b'{"type": "ping", "data": [1]}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b'{"type": "ping", "data_length": 1e99}\n',
        b'{"type": "ping", "data_length": 3}\n[1]',
        b'{"type": "audio-chunk", "payload_length": 99999999}\n',
        b'{"type": "' + b"x" * 70_000,
        b"[" * 60_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_what_is_no_event_ends_the_connection_with_an_error(running: Served, bytes_sent: bytes) -> None:
    with Client(running.wyoming_port) as client:
        client.socket.sendall(bytes_sent)
        answers = list(iter(client.read, {}))
    assert [(one["type"], one["data"]["code"]) for one in answers][-1] == ("error", "invalid-event")


def test_silent_and_cut_connections_end(running: Served) -> None:
    before = running.held()
    with Client(running.wyoming_port) as client:
        assert client.read()["data"]["code"] == "idle"
        assert client.read() == {}
    for _ in range(20):
        with Client(running.wyoming_port) as client:
            client.socket.sendall(b'{"type": "audio-chunk", "payload_length": 1000}\n' + bytes(10))
    with Client(running.wyoming_port) as client:  # leaves before its answer
        client.send("audio-start", rate=16000, width=2, channels=1)
        client.send("audio-chunk", sound(20.0), rate=16000, width=2, channels=1)
        client.send("audio-stop")
    assert running.settles_at(before)


def test_only_so_many_at_a_time(transcriber: Transcriber) -> None:
    with served(transcriber, wyoming=True, connections=2) as one, Client(one.wyoming_port) as a:
        with Client(one.wyoming_port) as b:
            for client in (a, b):
                client.send("ping")
                assert client.read()["type"] == "pong"
            with Client(one.wyoming_port) as c:
                assert c.read()["data"]["code"] == "busy"
        a.send("describe")
        assert a.read()["type"] == "info"


def test_samples_are_means_of_channels_at_full_scale_one() -> None:
    found = as_mono(np.array([-(2**15), 2**14, 2**14, 0], "<i2").tobytes() + b"x", 2, 2)
    assert found.tolist() == [-0.25, 0.25] and found.dtype == np.float32
    assert as_mono(np.array([2**30], "<i4").tobytes(), 4, 1).tolist() == [0.5]
    assert as_mono(b"x", 2, 1).tolist() == []
    assert checked_format(8000.0, 2, 1) == (8000, 2, 1)
