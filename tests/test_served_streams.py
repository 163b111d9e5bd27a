"""Live sound over websockets, in Vosk's messages and the captions page's: the words of the streaming recogniser."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from socket import SHUT_RDWR
from typing import Any

import numpy as np
import pytest
from recognition_checkpoints import noise, processor, talkative_model
from served_models import Served, served
from sound_packets import LATENCY, heard, packets, socket, two_utterances, words_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from wav2vec2 import StreamingRecogniser, Transcriber
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.stream_state import StreamUpdate
from wav2vec2.serving.live_worker import LiveWorker
from wav2vec2.serving.pcm import ArrivingSound, as_mono
from wav2vec2.serving.utterances import Utterances


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(talkative_model(), processor())


@pytest.fixture(scope="module")
def running(transcriber: Transcriber) -> Iterator[Served]:
    with served(transcriber, latency=LATENCY) as one:
        yield one


@pytest.fixture(scope="module")
def right(transcriber: Transcriber) -> list[StreamUpdate]:
    """What the recogniser says of the whole, without a service."""
    return heard(transcriber)


@pytest.fixture(scope="module")
def sound() -> bytes:
    return two_utterances()


def test_what_has_come_is_heard_before_the_end(
    transcriber: Transcriber, sound: bytes, right: list[StreamUpdate]
) -> None:
    """A worker is told to end while a packet still has most of its steps before it."""
    recogniser = StreamingRecogniser(transcriber.model, transcriber.processor, latency=LATENCY)
    worker = LiveWorker(recogniser, 1)

    async def told() -> list[StreamUpdate]:
        asked = asyncio.ensure_future(worker.open().hear(as_mono(sound, 2, 1), last=True))
        await asyncio.sleep(0)
        worker.start()
        await asyncio.to_thread(worker.stop)
        return await asyncio.wait_for(asked, 10)

    assert words_of(asyncio.run(told())) == words_of(right)
    assert not worker.alive


@pytest.mark.parametrize("path", ["/", "/vosk"])
@pytest.mark.parametrize("size", [3200, 4001, 1_000_000])
def test_vosks_messages(running: Served, sound: bytes, right: list[StreamUpdate], path: str, size: int) -> None:
    """Each packet has one answer; a result when an utterance has ended, and at `{"eof" : 1}`."""
    with socket(running, path) as client:
        client.send('{"config" : {"sample_rate" : 16000}}')
        answers = []
        for packet in packets(sound, size):
            client.send(packet)
            answers.append(json.loads(client.recv(10)))
        client.send('{"eof" : 1}')
        answers.append(json.loads(client.recv(10)))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    assert all(len(one) == 1 and "partial" in one or "text" in one for one in answers)
    results = [one for one in answers if "text" in one]
    assert results[-1] == answers[-1]
    rows = [row for one in results for row in one.get("result", [])]
    words = words_of(right)
    assert [row["word"] for row in rows] == [word.text for word in words]
    assert [row["conf"] for row in rows] == [pytest.approx(word.confidence, abs=1e-4) for word in words]
    assert [(row["start"], row["end"]) for row in rows] == [(round(w.start, 6), round(w.end, 6)) for w in words]
    assert " ".join(one["text"] for one in results).split() == [word.text for word in words]
    if size < 10_000:
        assert len(results) == 2
        first = results[0]["text"]
        seen = [one["partial"] for one in answers[: answers.index(results[0])]]
        assert "" in seen and any(part and first.startswith(part.split()[0]) for part in seen)


def test_vosks_settings(running: Served, sound: bytes) -> None:
    def result(config: dict[str, Any], end: str = '{"eof" : 1}') -> Any:
        with socket(running, "/") as client:
            client.send(json.dumps({"config": {"sample_rate": 16000.0} | config}))
            client.send(sound[:64_000])
            client.recv(10)
            client.send(end)
            text = client.recv(10)
            assert isinstance(text, str) and '" : ' in text  # as Kaldi writes JSON
            return json.loads(text)

    full = result({})
    assert list(full) == ["result", "text"] and list(full["result"][0]) == ["conf", "end", "start", "word"]
    assert result({"words": 0}) == {"text": full["text"]}
    (one,) = result({"max_alternatives": 3})["alternatives"]
    assert (one["text"], [row["word"] for row in one["result"]]) == (full["text"], full["text"].split())
    assert {*result({"phrase_list": ["ace bad", "cab"]})["text"].split()} <= {"ace", "bad", "cab"}  # no other words
    unexpected = result({"phrase_list": ["ace", "[unk]"]})["text"]
    assert unexpected != full["text"] and {*unexpected.split()} <= {"ace", "[unk]"}
    assert result({"phrase_list": ["one two", "[unk]"]}) == full  # nothing that can be spelled: as if not said
    assert result({"hotwords": ["ace"]})["text"] != ""
    assert result({}, end='{"reset" : 1}') == full
    assert result({}, end='{"eof":1}') == full
    with socket(running, "/") as client:  # nothing was said
        client.send('{"eof" : 1}')
        assert client.recv(10) == '{\n  "text" : ""\n}'


def test_sound_at_any_rate(running: Served, transcriber: Transcriber) -> None:
    """At Vosk's own 8000 unless it is said; resampled as a whole recording is."""
    samples = (noise(2.5)[::2] * 2**15).astype("<i2")
    import soxr

    recogniser = StreamingRecogniser(transcriber.model, transcriber.processor, latency=LATENCY)
    alone = recogniser.open()
    alone.push(soxr.resample(as_mono(samples.tobytes(), 2, 1), 8000, 16000))
    expected = [word.text for word in words_of([alone.finish()])]
    with socket(running, "/vosk") as client:
        for packet in packets(samples.tobytes(), 1999):
            client.send(packet)
            assert "partial" in json.loads(client.recv(10))
        client.send('{"eof" : 1}')
        assert json.loads(client.recv(10))["text"].split() == expected != []


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        ("/", "no config, no end", 1007),
        ("/", '{"config" : 1', 1007),
        ("/", '{"config" : {"sample_rate" : 3}}', 1007),
        ("/", '{"config" : {"sample_rate" : 1e999}}', 1007),
        ("/", '{"config" : []}', 1007),
        ("/", '{"config" : {"phrase_list" : 7}}', 1007),
        ("/", '{"config" : {"phrase_list" : "one two"}}', 1007),
        ("/", json.dumps({"config": {"phrase_list": [" ".join(map(str, range(2001)))]}}), 1007),
        ("/", bytes(2**21 + 2), 1009),
        ("/captions/live?rate=16000", "stop", 1007),
        ("/captions/live?rate=no", b"", 1007),
        ("/v1/realtime", " " * (2**21 + 2), 1009),
    ],
)
def test_a_wrong_message_closes_with_a_code(running: Served, path: str, message: Any, code: int) -> None:
    with socket(running, path) as client, pytest.raises(ConnectionClosed) as closed:
        client.send(message)
        while True:
            client.recv(10)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == code


def test_silent_and_cut_websockets_end(transcriber: Transcriber, sound: bytes) -> None:
    with served(transcriber, idle_seconds=1.5) as running:
        silent_and_cut(running, sound)


def silent_and_cut(running: Served, sound: bytes) -> None:
    with socket(running, "/") as client:
        client.send(sound[:50_000])
        client.recv(10)
    before = running.held()
    for path in ("/", "/v1/realtime", "/captions/live"):
        with socket(running, path) as client, pytest.raises(ConnectionClosed) as closed:
            while True:
                client.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.reason == "nothing came for 1.5 s"
    for _ in range(10):
        with socket(running, "/") as client:
            client.send(sound[:50_000])
            client.socket.shutdown(SHUT_RDWR)
    assert running.settles_at(before)
    live = running.service.live
    assert live is not None and live.streams == 0


def test_only_so_many_streams(transcriber: Transcriber) -> None:
    with served(transcriber, connections=2) as one, ExitStack() as opened:
        clients = [opened.enter_context(socket(one, "/")) for _ in range(3)]
        for client in clients[:2]:
            client.send(bytes(200))
            assert json.loads(client.recv(10)) == {"partial": ""}
        with pytest.raises(ConnectionClosed) as closed:
            clients[2].send(bytes(200))
            clients[2].recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013


def test_a_key_and_an_origin_are_needed_here_as_well(transcriber: Transcriber) -> None:
    key = "0123456789abcdef"
    with served(transcriber, api_keys=(key,), origins=("https://captions.example.org",)) as one:
        wrong: list[dict[str, Any]] = [
            {},
            {"additional_headers": {"authorization": "Bearer wrong"}},
            {"subprotocols": ["captions"]},
        ]
        for options in wrong:
            with pytest.raises(InvalidStatus) as refused:
                socket(one, "/captions/live", **options)
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body or b"")["error"]["code"] == "invalid_api_key"
        shown = ["captions", f"openai-insecure-api-key.{key}"]
        with socket(one, "/captions/live", subprotocols=shown) as client:
            assert client.subprotocol == "captions"
        with socket(one, "/", additional_headers={"authorization": f"Bearer {key}"}):
            pass
        with pytest.raises(InvalidStatus) as refused:
            socket(one, "/captions/live", subprotocols=shown, origin="https://example.org")
        assert refused.value.response.status_code == 403
        with socket(one, "/captions/live", subprotocols=shown, origin="https://captions.example.org"):
            pass


def test_captions_are_told_when_they_change(running: Served, sound: bytes, right: list[StreamUpdate]) -> None:
    with socket(running, "/captions/live?rate=16000") as client:
        for packet in packets(sound, 3200):
            client.send(packet)
        client.send("end")
        answers: list[dict[str, Any]] = []
        while not (answers and answers[-1]["done"]):
            answers.append(json.loads(client.recv(10)))
    words = [row for one in answers for utterance in one["ended"] for row in utterance]
    assert [row["word"] for row in words] == [word.text for word in words_of(right)]
    assert answers[-1]["words"] == [] and answers[-1]["partial"] == ""
    assert len(answers) < len(packets(sound, 3200))
    final: list[Any] = []
    for one in answers:  # what is final only grows
        now = [*(row for utterance in one["ended"] for row in utterance), *one["words"]]
        assert now[: len(final)] == final or one["ended"] == []
        final = now if not one["ended"] else one["words"]


def test_streams_beside_each_other_do_not_mix(running: Served, sound: bytes) -> None:
    """Eight at once, each with its own beginning: each gets what it gets alone."""

    def ask(clients: list[ClientConnection], cuts: list[int]) -> list[str]:
        for client in clients:
            client.send('{"config" : {"sample_rate" : 16000, "words" : false}}')
        for packet in range(6):
            for client, cut in zip(clients, cuts, strict=True):
                client.send(sound[cut:][packet * 12_800 : (packet + 1) * 12_800])
        for client in clients:
            client.send('{"eof" : 1}')
        return [" ".join(json.loads(client.recv(10)).get("text", "") for _ in range(7)).strip() for client in clients]

    cuts = [2000 * number for number in range(8)]
    with ExitStack() as opened:
        found = ask([opened.enter_context(socket(running, "/")) for _ in cuts], cuts)
    alone = []
    for cut in cuts:
        with socket(running, "/") as client:
            alone += ask([client], [cut])
    assert found == alone and len(set(found)) > 4


def test_arriving_sound_is_the_same_whatever_the_packets() -> None:
    content = (noise(0.2) * 2**15).astype("<i2").tobytes()
    for rate in (16_000, 8_000, 44_100):
        whole = ArrivingSound(rate, 16_000).take(content, last=True)
        assert abs(len(whole) - 16_000 * len(content) // 2 / rate) <= 1
        for size in (1, 333, 10_000):
            arriving = ArrivingSound(rate, 16_000)
            pieces = [arriving.take(packet) for packet in packets(content, size)]
            assert np.array_equal(np.concatenate([*pieces, arriving.take(b"", last=True)]), whole)


def test_words_belong_to_the_utterance_that_they_began_in() -> None:
    said = Utterances(" ")
    words = [Word(text, start, start + 0.3, 0.9) for text, start in (("a", 0.0), ("b", 1.0), ("c", 3.0))]
    assert said.add([StreamUpdate((words[0],), "bo")]) == []
    assert (said.text, said.words) == ("a bo", [words[0]])
    (ended,) = said.add([StreamUpdate(tuple(words[1:]), "d", True, 4.0, (2.1,))])
    assert (said.text_of(ended.words), ended.end, said.text) == ("a b", 2.1, "c d")
    assert said.add([StreamUpdate((), "", True, 5.0, (4.0,))])[0].words == (words[2],)
    assert said.add([StreamUpdate((), "", True, 9.0, (8.0,))]) == []  # silence
    assert said.end(10.0).words == ()
    said.add([StreamUpdate((words[0],))])
    assert said.words[0].start == 10.0
