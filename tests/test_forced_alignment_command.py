"""`wav2vec2 align` from files to files, with a checkpoint of a few thousand random weights."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from small_models import CALM, small_config
from typer.testing import CliRunner

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.command_line.align import align
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import Wav2Vec2Processor

TOKENS = ["<pad>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = small_config("large_lv60k", vocab_size=len(TOKENS), pad_token_id=0, **CALM)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer({token: number for number, token in enumerate(TOKENS)})
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    samples = np.random.default_rng(0).normal(0, 3000, 40_000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return path


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(align)
    return app


@pytest.mark.parametrize("format", ["json", "textgrid", "ctm", "srt", "vtt"])
def test_writes_every_format(checkpoint: Path, audio: Path, format: str) -> None:
    output = audio.with_suffix(f".{format}")
    options = ["--model", str(checkpoint), "--format", format, "--output", str(output)]
    result = RUNNER.invoke(command(), [str(audio), "Hello 42 worlds", *options])
    assert result.exit_code == 0, result.output
    assert "words are guesses" in result.stderr
    written = output.read_text(encoding="utf-8")
    assert all(word in written for word in ("Hello", "42", "worlds"))


def test_writes_to_standard_output_from_a_text_file(checkpoint: Path, audio: Path) -> None:
    text = audio.with_suffix(".txt")
    text.write_text("\ufeffone two\nthree\n", encoding="utf-8")
    result = RUNNER.invoke(command(), [str(audio), str(text), "-m", str(checkpoint)])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [word["text"] for word in content["words"]] == ["one", "two", "three"]
    assert content["duration"] == 2.5
    assert all(0 <= word["start"] <= word["end"] <= 2.5 for word in content["words"])


def test_what_is_missing_is_named(checkpoint: Path, audio: Path, tmp_path: Path) -> None:
    options = ["-m", str(checkpoint)]
    for arguments, message in (
        ([str(audio), "missing.txt", *options], "missing.txt: no such transcript"),
        ([str(audio), "  ", *options], "the transcript is empty"),
        ([str(tmp_path / "no.wav"), "words", *options], "no.wav"),
        ([str(audio), str(audio), *options], "not UTF-8"),
    ):
        result = RUNNER.invoke(command(), arguments)
        assert result.exit_code == 1
        assert message in result.stderr


def test_windows_give_what_the_whole_gives(checkpoint: Path) -> None:
    """The log-probabilities that are aligned are those of the whole recording, and so is its duration."""
    transcriber = Transcriber.from_pretrained(checkpoint, device="cpu")
    transcriber.model.wav2vec2.encoder.layers = torch.nn.ModuleList()  # what is left looks at less than the context
    samples = np.random.default_rng(1).normal(size=16000 * 55 + 123).astype(np.float32)
    found, duration = transcriber.log_probs(samples, sampling_rate=16000)
    values = transcriber.processor(audio=samples, sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.inference_mode():
        whole = transcriber.model(values).logits[0].log_softmax(-1)
    assert duration == len(samples) / 16000
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", ["foo", "cuda:7"])
def test_a_device_that_is_not_there_is_one_line(checkpoint: Path, audio: Path, device: str) -> None:
    """No traceback, and the folder of the output is not made."""
    output = audio.parent / "new" / "out.json"
    arguments = [str(audio), "hello", "--model", str(checkpoint), "--device", device, "--output", str(output)]
    result = RUNNER.invoke(command(), arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("align: ")
    assert not output.parent.exists()


def test_the_folder_of_the_output_is_made(checkpoint: Path, audio: Path) -> None:
    """As for transcripts."""
    output = audio.parent / "new" / "out.json"
    result = RUNNER.invoke(command(), [str(audio), "hello", "--model", str(checkpoint), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert json.loads(output.read_text())
