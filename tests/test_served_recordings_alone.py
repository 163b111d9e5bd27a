"""A model that cannot hear live is served for its recordings; who sends live sound is told why, in its protocol."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from recognition_checkpoints import processor, talkative_model, write_noise
from served_models import Served, served
from sound_packets import socket
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed

from wav2vec2 import Transcriber
from wav2vec2.command_line.app import app
from wav2vec2.inference import Transcript
from wav2vec2.serving import running as process

REASON = "latency=0.02: must be at least 0.025 seconds, and finite"


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(talkative_model(), processor())


@pytest.fixture(scope="module")
def alone(transcriber: Transcriber) -> Iterator[Served]:
    with served(transcriber, latency=0.02) as one:
        yield one


def test_recordings_are_transcribed(alone: Served, transcriber: Transcriber, tmp_path: Path) -> None:
    talk = write_noise(tmp_path / "talk.wav", 3.0)
    right = transcriber.transcribe(talk)
    assert isinstance(right, Transcript) and right.text
    assert alone.post(talk.read_bytes()).json()["text"] == right.text
    assert httpx.get(f"{alone.address}/health").json()["status"] == "ok"
    assert "/v1/realtime" not in httpx.get(f"{alone.address}/docs").text
    figures = httpx.get(f"{alone.address}/metrics").text
    assert "wav2vec2_queue_limit 32" in figures and "wav2vec2_streams" not in figures


@pytest.mark.parametrize(
    ("path", "protocols"),
    [("/", None), ("/vosk", None), ("/captions/live?rate=16000", ["openai-insecure-api-key.abc", "captions"])],
)
def test_a_websocket_is_closed_with_the_reason(alone: Served, path: str, protocols: Any) -> None:
    with socket(alone, path, subprotocols=protocols) as client, pytest.raises(ConnectionClosed) as closed:
        assert client.subprotocol == (None if protocols is None else "captions")
        client.recv(10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, REASON in closed.value.rcvd.reason) == (1003, True)


def test_openais_protocol_has_an_event_for_it(alone: Served) -> None:
    with socket(alone, "/v1/realtime") as client, pytest.raises(ConnectionClosed):
        event = json.loads(client.recv(10))
        client.recv(10)
    assert (event["type"], event["error"]["code"]) == ("error", "no_live_sound")
    assert set(event["error"]) == {"message", "type", "param", "code", "event_id"}
    assert REASON in event["error"]["message"]


def test_it_is_said_at_the_start_and_an_error_where_live_sound_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the frames of this model there are samples that it does not hear."""
    talkative_model(conv_stride=(5, 2, 2, 2, 2, 8, 16)).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    monkeypatch.setattr(process, "run", lambda service, ready: ready("http://127.0.0.1:8000"))
    command = ["serve", str(tmp_path), "--device", "cpu"]
    started = CliRunner().invoke(app, command)
    assert (started.exit_code, "captions" in started.stdout) == (0, False)
    assert started.stderr.startswith("serve: recordings alone, no live sound: ") and started.stderr.count("\n") == 1
    refused = CliRunner().invoke(app, [*command, "--latency", "1.92"])
    assert (refused.exit_code, refused.stderr.startswith("serve: --latency: ")) == (1, True)
