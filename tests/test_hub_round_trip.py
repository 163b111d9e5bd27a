"""`wav2vec2 push` as a user runs it, then everybody who loads from the Hub: this package, stock, a pipeline, the card.

The slow tests of publishing: processes of their own import torch and Transformers. What they do is done once.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from hub_connections import connected, environment_for
from hub_routes import READER, WRITER
from loopback_hub import LoopbackHub, running_hub
from publishable_folders import PUBLISHED, publishable_folder
from recognition_checkpoints import write_noise
from small_models import small_config
from typer.testing import CliRunner, Result

from wav2vec2 import (
    Transcriber,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Processor,
    load_audio,
)
from wav2vec2.command_line.push import push
from wav2vec2.metrics import metric_path
from wav2vec2.sharing import loading_check
from wav2vec2.sharing.loading_check import LoadingError, ProbeAnswer, check_loading

NAME = "tester/model"

# huggingface_hub 2.4 sends files by an argument that the HTTP library under it is about to rename.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@dataclass
class Published:
    """A folder, the Hub it was pushed to, what the command said, and what other processes made of it."""

    hub: LoopbackHub
    folder: Path
    audio: Path
    home: Path
    result: Result
    logged: list[str]
    stock: dict[str, Any]


def run_push(*arguments: object) -> Result:
    """The command."""
    app = typer.Typer()
    app.command()(push)
    result: Result = CliRunner().invoke(app, list(map(str, arguments)))
    return result


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    place = tmp_path_factory.mktemp("round_trip")
    folder = publishable_folder(place / "model")
    audio = write_noise(place / "speech.wav", 4.0)
    logged: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())

    ear, root = Ear(), logging.getLogger()
    libraries = [root, logging.getLogger("huggingface_hub"), logging.getLogger("transformers")]
    levels = [library.level for library in libraries]
    for library in libraries:
        library.addHandler(ear)
        library.setLevel(logging.DEBUG)
    try:
        with running_hub() as hub:
            with connected(hub, place / "home"):
                result = run_push(folder, NAME, "--private", "--clip", audio, "--message", "A model")
            hub.add("tester/wer", {"wer.py": metric_path("wer").read_bytes()}, kind="spaces")
            answers = place / "answers.json"
            probe = Path(__file__).with_name("support") / "hub_pull_probe.py"
            stock = subprocess.run(
                [
                    sys.executable,
                    str(probe),
                    NAME,
                    str(place),
                    str(answers),
                ],
                env=environment_for(hub, place / "stock_home") | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            found = json.loads(answers.read_text()) if answers.exists() else {"error": stock.stderr}
            logged += [stock.stdout, stock.stderr]
            yield Published(hub, folder, audio, place / "home", result, logged, found)
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.removeHandler(ear)
            library.setLevel(level)


def own_logits(name: Any, audio: Path) -> torch.Tensor:
    samples = load_audio(audio, 16_000)
    inputs = Wav2Vec2Processor.from_pretrained(name)(audio=samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits: torch.Tensor = Wav2Vec2ForCTC.from_pretrained(name).eval()(**inputs).logits
    return logits


def test_the_command_says_what_was_published(published: Published) -> None:
    assert published.result.exit_code == 0, published.result.output
    commit = published.hub.repository(NAME).at("main")
    assert commit.title == "A model" and set(commit.files) == PUBLISHED
    assert published.hub.repository(NAME).private
    assert f"{published.hub.url}/{NAME}: {len(PUBLISHED)} files, commit {commit.oid}" in published.result.stdout
    text = Transcriber.from_pretrained(published.folder, device="cpu").transcribe(published.audio)
    assert f"the clip says: {text.text!r}" in published.result.stderr  # type: ignore[union-attr]
    assert "not published: run.json (tells of this machine" in published.result.stderr


def test_stock_gets_the_same_logits_and_texts(published: Published) -> None:
    stock = published.stock
    assert "error" not in stock, stock["error"]
    assert (stock["packages"], stock["task"]) == (["transformers"], "automatic-speech-recognition")
    expected = own_logits(published.folder, published.audio)
    torch.testing.assert_close(torch.tensor(stock["logits"]), expected, atol=1e-4, rtol=1e-4)
    processor = Wav2Vec2Processor.from_pretrained(published.folder)
    assert stock["text"] == processor.batch_decode(expected.argmax(-1))[0] != ""
    assert stock["pipeline_text"] == stock["text"]


def test_the_code_of_the_card_runs(published: Published) -> None:
    """One block for each package: this one's gives text and times of words, stock's the greedy text."""
    assert published.stock["blocks"] == 2
    transcript: Any = Transcriber.from_pretrained(published.folder, device="cpu").transcribe(published.audio)
    said = published.stock["said"]
    assert said[0] == transcript.text and said[-1] == published.stock["text"]
    assert [line.split() for line in said[1:-1]] == [
        [f"{word.start:.2f}", f"{word.end:.2f}", word.text] for word in transcript.words
    ]


def test_a_served_metric_is_loaded_by_name(published: Published) -> None:
    if published.stock["metric"] is None:
        pytest.skip("evaluate or jiwer is not installed")
    assert published.stock["metric"] == pytest.approx(2 / 3)


def test_this_package_loads_from_the_hub_once(published: Published, tmp_path: Path) -> None:
    """Model, processor and decoder; the second time no file is fetched."""
    with connected(published.hub, tmp_path / "home", token=READER):
        torch.testing.assert_close(own_logits(NAME, published.audio), own_logits(published.folder, published.audio))
        served = Transcriber.from_pretrained(NAME, device="cpu")
        local = Transcriber.from_pretrained(published.folder, device="cpu")
        assert served.decoder is not None and served.decoder.language_model is not None
        assert served.transcribe(published.audio) == local.transcribe(published.audio)
        before = len(published.hub.requests)
        Transcriber.from_pretrained(NAME, device="cpu")
        assert [
            one.path for one in published.hub.requests[before:] if "/resolve/" in one.path and one.method == "GET"
        ] == []


def test_the_token_is_nowhere_but_in_the_header(published: Published) -> None:
    assert published.hub.sent("POST", "/commit/")[0].headers["authorization"] == f"Bearer {WRITER}"
    for one in published.hub.requests:
        others = {name: value for name, value in one.headers.items() if name != "authorization"}
        assert WRITER.encode() not in one.body and WRITER not in one.path and WRITER not in str(others)
    assert WRITER not in published.result.output + published.result.stderr
    assert len(published.logged) > 10 and not any(WRITER in line for line in published.logged)
    places = [published.folder, published.home, published.audio.parent / "stock_home"]
    written = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(written) > 20 and not any(WRITER.encode() in path.read_bytes() for path in written)


def test_a_failure_of_the_command_is_one_message(tmp_path: Path) -> None:
    with running_hub() as hub, connected(hub, tmp_path / "home"):
        result = run_push(tmp_path / "absent", NAME)
        assert (result.exit_code, hub.requests) == (1, [])
        assert "absent: no such folder" in result.stderr and "Traceback" not in result.output


def test_a_pretrained_model_is_checked_without_text(tmp_path: Path) -> None:
    """By what it makes of the sound: its forward pass would draw masks."""
    Wav2Vec2ForPreTraining(small_config("large_lv60k")).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    found = check_loading(tmp_path, [path.name for path in tmp_path.iterdir()])
    assert (found.architecture, found.text, found.note) == ("Wav2Vec2ForPreTraining", None, "")
    assert found.difference < 1e-4


def test_what_stock_cannot_load_is_found(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that stock needs is on this machine, but not among those that would be published."""
    asked: list[str] = []
    original = loading_check._probe

    def stock_alone(kind: str, *places: Path) -> ProbeAnswer:
        asked.append(kind)
        return original("stock", *places)

    monkeypatch.setattr(loading_check, "_probe", stock_alone)
    with pytest.raises(LoadingError, match=r"^stock Transformers cannot use it: \w+Error: ") as caught:
        check_loading(published.folder, PUBLISHED - {"vocab.json"})
    assert "Traceback" not in str(caught.value)
    assert asked == ["own"]
