"""`POST /v1/audio/transcriptions`: OpenAI's client gets the transcriber's text, words and times; faults in its form."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from recognition_checkpoints import TOKENS, save_checkpoint, write_noise
from served_models import Served, served
from typer.testing import CliRunner

from wav2vec2 import Transcriber, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2.command_line.app import app
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference import Transcript
from wav2vec2.serving.access import read_api_keys
from wav2vec2.serving.application import Service
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.transcription_formats import segments


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def transcriber(checkpoint: Path) -> Transcriber:
    return Transcriber.from_pretrained(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise(tmp_path_factory.mktemp("audio") / "talk.wav", 7.0, seed=4)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_noise(tmp_path_factory.mktemp("audio") / "short.wav", 0.5).read_bytes()


@pytest.fixture(scope="module")
def running(transcriber: Transcriber) -> Iterator[Served]:
    with served(transcriber, names=("small", "whisper-1")) as one:
        yield one


@pytest.fixture(scope="module")
def right(transcriber: Transcriber, talk: Path) -> Transcript:
    found = transcriber.transcribe(talk)
    assert isinstance(found, Transcript) and len(found.words) > 10
    return found


def fault(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, which must have OpenAI's shape."""
    assert answer.status_code == status, answer.text
    content = answer.json()
    assert set(content) == {"error"} and set(content["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = content["error"]
    return error


def test_openais_client_gets_text_words_and_times(running: Served, talk: Path, right: Transcript) -> None:
    openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
    with openai.OpenAI(base_url=f"{running.address}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["small", "whisper-1"]
        assert client.models.retrieve("small").owned_by == "wav2vec2"
        create = client.audio.transcriptions.create
        assert create(file=talk, model="small").text == right.text
        assert create(file=talk, model="whisper-1", response_format="text") == right.text + "\n"
        both = create(
            file=talk, model="small", response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
        assert (both.text, both.duration, both.language) == (right.text, 7.0, "und")
        assert [(one.word, one.start, one.end) for one in both.words] == [
            (word.text, round(word.start, 4), round(word.end, 4)) for word in right.words
        ]
        assert [one.confidence for one in both.words] == [round(word.confidence, 4) for word in right.words]
        assert " ".join(one.text for one in both.segments) == right.text
        alone = create(file=talk, model="small", response_format="verbose_json", language="en")
        assert (alone.words, alone.language) == (None, "und")  # what it hears was never said
        assert [one.start for one in alone.segments] == [one.start for one in both.segments]
        with pytest.raises(openai.NotFoundError) as missing:
            create(file=talk, model="gpt-4o-transcribe")
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="talk.txt: libsndfile cannot read it"):
            create(file=("talk.txt", b"no sound at all, but text"), model="small")


def test_openais_client_is_told_the_text_as_it_is_found(running: Served, talk: Path, right: Transcript) -> None:
    openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
    with openai.OpenAI(base_url=f"{running.address}/v1", api_key="none") as client:
        events = list(client.audio.transcriptions.create(file=talk, model="small", stream=True))
    *deltas, done = events
    assert [one.type for one in deltas] == ["transcript.text.delta"] * len(deltas) != []
    assert (done.type, done.text) == ("transcript.text.done", right.text)
    assert "".join(one.delta for one in deltas) == right.text


@pytest.mark.slow
def test_text_of_several_minutes_comes_in_several_pieces(
    running: Served, transcriber: Transcriber, tmp_path: Path
) -> None:
    long = write_noise(tmp_path / "long.wav", 150.0)
    right = transcriber.transcribe(long)
    assert isinstance(right, Transcript)
    lines = running.post(long.read_bytes(), stream="true").text.split("\n\n")
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert len(deltas) > 1
    assert "".join(one["delta"] for one in deltas) == done["text"] == right.text


@pytest.mark.parametrize("format", ["srt", "vtt", "text"])
def test_captions_are_the_commands_to_the_byte(running: Served, checkpoint: Path, talk: Path, format: str) -> None:
    options = ["--model", str(checkpoint), "--device", "cpu", "--format", "txt" if format == "text" else format]
    written = CliRunner().invoke(app, ["transcribe", str(talk), *options])
    answer = running.post(talk.read_bytes(), response_format=format)
    assert answer.content == written.stdout_bytes != b""
    assert answer.headers["content-type"].startswith("text/vtt" if format == "vtt" else "text/plain")


def test_what_has_no_effect_is_said(running: Served, talk: Path) -> None:
    answer = running.post(talk.read_bytes(), prompt="Names: Ada", temperature="0.2")
    assert answer.headers["wav2vec2-without-effect"] == "prompt, temperature"
    assert "wav2vec2-without-effect" not in running.post(talk.read_bytes()).headers


def test_segments_are_captions_with_the_certainty_of_their_words() -> None:
    words = [Word("one", 0.0, 0.4, 0.5), Word("two", 0.5, 0.9, 0.5), Word("three", 5.0, 5.5, 1.0)]
    found = segments(Transcript("a.wav", "one two three", words, duration=6.0))
    assert [(one["start"], one["end"], one["text"]) for one in found] == [(0.0, 0.9, "one two"), (5.0, 5.5, "three")]
    assert [one["avg_logprob"] for one in found] == [pytest.approx(-0.6931, abs=1e-4), 0.0]
    assert segments(replace(Transcript("a.wav"), duration=1.0)) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]"),
        ({"timestamp_granularities[]": "phone", "response_format": "verbose_json"}, "timestamp_granularities[]"),
        ({"stream": "maybe"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"respons_format": "srt"}, "respons_format"),
        ({"model": ["small", "small"]}, "model"),
    ],
)
def test_a_wrong_field_is_named(running: Served, talk: Path, fields: dict[str, Any], param: str) -> None:
    assert fault(running.post(talk.read_bytes(), **fields), 400)["param"] == param


def test_what_is_no_form_is_refused(running: Served) -> None:
    place = f"{running.address}/v1/audio/transcriptions"
    fault(httpx.post(place, json={"file": "talk.wav"}), 415)
    assert fault(httpx.post(place, files={"other": b"x"}), 400)["code"] == "invalid_form"
    assert fault(httpx.post(place, files=[("file", b"x"), ("file", b"y")]), 400)["code"] == "invalid_form"
    assert fault(httpx.post(place, data={"model": "small"}, files={"a": (None, b"")}), 400)["param"] == "file"
    assert "-F file=@" in fault(httpx.post(place, files={"file": (None, b"talk.wav")}), 400)["message"]
    for websocket in ("/", "/vosk", "/v1/realtime", "/captions/live"):
        assert fault(httpx.get(running.address + websocket), 426)["code"] == "websocket_needed"
    fault(httpx.get(place), 405)
    fault(httpx.get(f"{running.address}/v2"), 404)
    head = {"content-type": "multipart/form-data; boundary=cut"}
    half = b'--cut\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
    assert "ends in the middle" in fault(httpx.post(place, content=half, headers=head), 400)["message"]
    assert fault(httpx.post(place, content=b"--other\r\n\r\n", headers=head), 400)["code"] == "invalid_form"
    many = b"".join(b'--cut\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n' for _ in range(65))
    assert fault(httpx.post(place, content=many + b"--cut--", headers=head), 400)["code"] == "invalid_form"
    large = b'--cut\r\ncontent-disposition: form-data; name="a"\r\n\r\n' + bytes(2**19)
    fault(httpx.post(place, content=large, headers=head), 413)
    nameless = b"--cut\r\ncontent-type: text/plain\r\n\r\nx\r\n--cut--"
    fault(httpx.post(place, content=nameless, headers=head), 400)


def test_a_language_is_refused_where_another_was_loaded(transcriber: Transcriber, short: bytes) -> None:
    """OpenAI's clients name it in two letters, MMS in three, telephones with a country."""
    with served(transcriber, language="deu", spoken="de-AT") as one:
        for same in ("de", "deu", "de-DE", "DE", "de-AT"):
            answer = one.post(short, language=same, response_format="verbose_json")
            assert answer.json()["language"] == "de-AT" and "wav2vec2-without-effect" not in answer.headers
        for other in ("fr", "fra", "german", "d"):
            error = fault(one.post(short, language=other), 400)
            assert (error["param"], error["code"]) == ("language", "invalid_value") and "de-AT" in error["message"]
    tokens = {token: number for number, token in enumerate(TOKENS)}
    tokenizer = Wav2Vec2CTCTokenizer({"deu": tokens, "fra": tokens}, target_lang="deu")
    saved_for_one = Transcriber(transcriber.model, Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer))
    assert Service(saved_for_one, ServiceSettings(names=("small",))).settings.languages == ("deu",)
    with pytest.raises(ValueError, match="--spoken german: no language"):
        ServiceSettings(names=("small",), spoken="german")


def test_where_nobody_said_what_is_heard_any_language_will_do_and_none_is_claimed(
    running: Served, short: bytes
) -> None:
    for some in ("en", "deu", "pt-BR"):
        answer = running.post(short, language=some, response_format="verbose_json")
        assert (answer.status_code, answer.json()["language"]) == (200, "und")
        assert answer.headers["wav2vec2-without-effect"] == "language"
    for none in ("english", "xx", "12", "\N{LATIN SMALL LETTER E WITH ACUTE}n"):
        error = fault(running.post(short, language=none), 400)
        assert (error["param"], error["code"]) == ("language", "invalid_language_format")


def test_a_key_is_needed_where_there_are_keys(transcriber: Transcriber, talk: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the ward\n0123456789abcdef\n\nfedcba9876543210\n")
    keys = read_api_keys(file)
    assert keys == ("0123456789abcdef", "fedcba9876543210")
    with served(transcriber, api_keys=keys) as one:
        for key in keys:
            assert one.post(talk.read_bytes(), {"authorization": f"Bearer {key}"}).status_code == 200
        wrong = [{}, {"authorization": "Bearer 0123456789abcdeF"}, {"authorization": f"Basic {keys[0]}"}]
        for headers in wrong:
            assert fault(one.post(talk.read_bytes(), headers), 401)["code"] == "invalid_api_key"
        fault(httpx.get(f"{one.address}/metrics"), 401)
        fault(httpx.get(f"{one.address}/nothing"), 401)
        assert [httpx.get(f"{one.address}/{place}").status_code for place in ("health", "docs", "openapi.json")] == [
            200,
            200,
            200,
        ]
    for content in ("", "# nothing\n", "short\n", "a key with white space\n"):
        file.write_text(content)
        with pytest.raises(ValueError, match="keys: "):
            read_api_keys(file)
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match="keys: no text"):
        read_api_keys(file)
    with pytest.raises(ValueError, match="knows no keys"):
        ServiceSettings(names=("small",), host="0.0.0.0", wyoming_port=1, api_keys=keys)


def test_pages_from_elsewhere_are_refused(transcriber: Transcriber, talk: Path) -> None:
    """Also one whose name was made to mean this machine: it says truly that it is from the host that it asks."""
    named = "https://captions.example.org"
    with served(transcriber, origins=(named,)) as one:

        def status(origin: str, host: str | None = None) -> int:
            headers = {"origin": origin} | ({} if host is None else {"host": host})
            return one.post(talk.read_bytes(), headers).status_code

        assert status(one.address) == 200
        assert status(f"http://localhost:{one.port}", f"localhost:{one.port}") == 200
        assert status(named) == 200
        assert status("http://localhost:1") == 403
        assert status("https://example.org") == 403
        assert status(f"http://evil.example:{one.port}", f"evil.example:{one.port}") == 403
        assert status("null") == 403
        assert status("http://[") == 403
        answer = one.post(talk.read_bytes(), {"origin": named})
        assert answer.headers["access-control-allow-origin"] == named
        assert "access-control-allow-origin" not in one.post(talk.read_bytes(), {"origin": one.address}).headers


@pytest.mark.parametrize("origin", ["captions.example.org", "https://example.org/captions", "https://Example.org", "*"])
def test_what_no_browser_says_is_no_origin(origin: str) -> None:
    with pytest.raises(ValueError, match="--allow-origin .* as browsers say it"):
        ServiceSettings(names=("small",), origins=(origin,))


def test_the_service_describes_itself(running: Served, talk: Path) -> None:
    running.post(talk.read_bytes())
    httpx.get(f"{running.address}/{'x' * 50}")
    health = httpx.get(f"{running.address}/health").json()
    assert health == {"status": "ok", "model": "small", "queue": 0}
    described = httpx.get(f"{running.address}/openapi.json").json()
    post = described["paths"]["/v1/audio/transcriptions"]["post"]
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["response_format"]["enum"] == ["json", "verbose_json", "text", "srt", "vtt"]
    for place in described["paths"]:
        assert place == "/v1/audio/transcriptions" or httpx.get(running.address + place).status_code == 200
    page = httpx.get(f"{running.address}/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "timestamp_granularities[]" in page.text and "/v1/realtime" in page.text and "<script" not in page.text
    lines = httpx.get(f"{running.address}/metrics").text.splitlines()
    figures = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}
    place = 'place="/v1/audio/transcriptions"'
    assert figures[f'wav2vec2_requests_total{{{place},status="200"}}'] >= 1
    assert figures['wav2vec2_requests_total{place="other",status="404"}'] >= 1
    assert figures["wav2vec2_audio_seconds_total"] >= 7.0
    counts = [value for name, value in figures.items() if name.startswith(f"wav2vec2_request_seconds_bucket{{{place}")]
    assert counts == sorted(counts) and counts[-1] == figures[f"wav2vec2_request_seconds_count{{{place}}}"]
