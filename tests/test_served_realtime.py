"""OpenAI's realtime protocol: its events hold the streaming recogniser's words, whoever ends the turns."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from recognition_checkpoints import processor, talkative_model
from served_models import Served, served
from sound_packets import LATENCY, heard, packets, socket, two_utterances, words_of
from websockets.sync.client import ClientConnection

from wav2vec2 import Transcriber
from wav2vec2.inference.streaming.stream_state import StreamUpdate


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(talkative_model(), processor())


@pytest.fixture(scope="module")
def running(transcriber: Transcriber) -> Iterator[Served]:
    with served(transcriber, latency=LATENCY) as one:
        yield one


@pytest.fixture(scope="module")
def sound() -> bytes:
    return two_utterances()


@pytest.fixture(scope="module")
def right(transcriber: Transcriber) -> list[StreamUpdate]:
    return heard(transcriber)


class Realtime:
    """A client of the realtime protocol."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        assert self.read()["type"] == "session.created"

    def send(self, type: str, **content: Any) -> None:
        self.client.send(json.dumps({"type": type} | content))

    def append(self, sound: bytes) -> None:
        self.send("input_audio_buffer.append", audio=base64.b64encode(sound).decode())

    def read(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.client.recv(10))
        assert event["event_id"].startswith("event_")
        return event

    def until(self, type: str) -> list[dict[str, Any]]:
        events = [self.read()]
        while events[-1]["type"] != type:
            events.append(self.read())
        return events


def update(rate: int = 16_000, **more: Any) -> dict[str, Any]:
    return {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcm", "rate": rate}} | more}}


def test_realtime_events_of_turns_that_silence_ends(running: Served, sound: bytes, right: list[StreamUpdate]) -> None:
    name = "conversation.item.input_audio_transcription"
    with socket(running, "/v1/realtime?intent=transcription", subprotocols=["realtime"]) as client:
        talk = Realtime(client)
        talk.send("session.update", session=update())
        session = talk.read()
        assert session["type"] == "session.updated"
        assert session["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 16_000}
        assert session["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 800
        for packet in packets(sound, 3200):
            talk.append(packet)
        first = talk.until(f"{name}.completed")
        talk.send("input_audio_buffer.commit")
        second = talk.until(f"{name}.completed")
    kinds = [one["type"] for one in first if one["type"] != f"{name}.delta"]
    buffer = "input_audio_buffer"
    assert kinds == [f"{buffer}.speech_started", f"{buffer}.speech_stopped", f"{buffer}.committed", f"{name}.completed"]
    assert (first[-2]["previous_item_id"], second[-2]["previous_item_id"]) == (None, first[-1]["item_id"])
    for events in (first, second):
        assert "".join(one["delta"] for one in events if one["type"] == f"{name}.delta") == events[-1]["transcript"]
        assert len({one["item_id"] for one in events}) == 1
    words = words_of(right)
    assert f"{first[-1]['transcript']} {second[-1]['transcript']}".split() == [word.text for word in words]
    assert first[0]["audio_start_ms"] == round(1000 * words[0].start)
    assert first[-1]["usage"] == {"type": "duration", "seconds": 3}


def test_realtime_events_of_turns_that_the_client_ends(running: Served, sound: bytes) -> None:
    """Silence ends none; what was cleared is not heard; times go on."""
    name = "conversation.item.input_audio_transcription"
    with socket(running, "/v1/realtime") as client:
        talk = Realtime(client)
        old = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "small"}, "turn_detection": None}
        talk.send("transcription_session.update", session=old)
        assert talk.read()["type"] == "transcription_session.updated"
        talk.send("session.update", session=update(transcription={"model": "small", "language": "en"}))
        assert talk.read()["session"]["audio"]["input"]["turn_detection"] is None
        talk.append(sound[:64_000])
        talk.send("input_audio_buffer.clear")
        talk.until("input_audio_buffer.cleared")
        texts: list[str] = []
        for _ in range(2):
            talk.append(sound)
            talk.send("input_audio_buffer.commit")
            events = talk.until(f"{name}.completed")
            assert {one["type"] for one in events} == {
                f"{name}.delta",
                "input_audio_buffer.committed",
                f"{name}.completed",
            }
            texts.append(events[-1]["transcript"])
        assert texts[0] == texts[1] != ""
        assert events[-1]["usage"]["seconds"] == 8


def test_realtime_faults_are_events_and_end_nothing(running: Served, sound: bytes) -> None:
    with socket(running, "/v1/realtime") as client:
        talk = Realtime(client)
        wrong: list[Any] = [
            ("no JSON", None),
            ("[]", "type"),
            ('{"type": 3}', "type"),
            ('{"type": "response.create", "event_id": "mine"}', "type"),
            ('{"type": "input_audio_buffer.append"}', "audio"),
            ('{"type": "input_audio_buffer.append", "audio": "###"}', "audio"),
            ('{"type": "input_audio_buffer.append", "audio": 5}', "audio"),
            ('{"type": "input_audio_buffer.commit"}', None),
            ('{"type": "session.update", "session": []}', None),
            ('{"type": "session.update", "session": 7}', "session"),
            (json.dumps({"type": "session.update", "session": {"type": "realtime"}}), "session.type"),
            (json.dumps({"type": "session.update", "session": update(rate=3)}), "format.rate"),
            (json.dumps({"type": "session.update", "session": update(transcription={"model": "x"})}), "model"),
            (json.dumps({"type": "session.update", "session": update(transcription=[1])}), "transcription"),
            (json.dumps({"type": "session.update", "session": update(format={"type": "audio/pcmu"})}), "format"),
        ]
        for message, param in wrong:
            client.send(message)
            event = talk.read()
            if "[]" in message and "session" in message:  # nothing was to be changed
                assert event["type"] == "session.updated"
                continue
            assert event["type"] == "error" and event["error"]["type"] == "invalid_request_error", event
            assert event["error"]["param"] == param and event["error"]["message"]
            assert event["error"]["event_id"] == ("mine" if "mine" in message else None)
        talk.append(sound[:6400])
        talk.send("session.update", session=update(rate=8000))
        assert talk.read()["error"]["param"] == "format.rate"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # the client's use of websockets
def test_openais_client_gets_the_words(running: Served, sound: bytes, right: list[StreamUpdate]) -> None:
    openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
    texts: list[str] = []
    address = f"{running.address}/v1"
    with (
        openai.OpenAI(base_url=address, api_key="none") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        assert connection.recv().type == "session.created"
        connection.session.update(session=update())
        for packet in packets(sound, 32_000):
            connection.input_audio_buffer.append(audio=base64.b64encode(packet).decode())
        connection.input_audio_buffer.commit()
        while len(texts) < 2:
            event = connection.recv()
            if event.type == "conversation.item.input_audio_transcription.completed":
                texts.append(event.transcript)
    assert " ".join(texts).split() == [word.text for word in words_of(right)]
