"""`wav2vec2 listen`: a pipe of raw samples and a microphone become lines of text, JSON lines and a live terminal."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from recognition_checkpoints import RATE, noise, save_checkpoint
from typer.testing import CliRunner

from wav2vec2 import StreamingRecogniser, StreamUpdate
from wav2vec2.command_line.app import app
from wav2vec2.command_line.live_text import OnTerminal, Utterances
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.live_sources import microphone, piped
from wav2vec2.processing.waveforms import resample


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def raw(samples: Any) -> bytes:
    return bytes(np.round(samples * 2**15).astype("<i2").tobytes())


def word(text: str, start: float) -> Word:
    return Word(text, start, start + 0.1, 0.9)


class Pipe:
    """Gives its bytes in pieces of these sizes, over and over."""

    def __init__(self, content: bytes, sizes: tuple[int, ...]) -> None:
        self.content, self.sizes, self.number = content, sizes, 0

    def read1(self, size: int) -> bytes:
        size = min(size, self.sizes[self.number % len(self.sizes)])
        self.number += 1
        piece, self.content = self.content[:size], self.content[size:]
        return piece


@pytest.mark.parametrize("sizes", [(1,), (3, 5, 2), (65536,)])
def test_a_pipe_of_any_bytes_gives_every_sample(sizes: tuple[int, ...]) -> None:
    samples = noise(0.2)
    stream: Any = Pipe(raw(samples), sizes)
    heard = np.concatenate(list(piped(stream, RATE, RATE)))
    np.testing.assert_array_equal(heard, np.round(samples * 2**15) / np.float32(2**15))
    stream = Pipe(raw(samples), sizes)
    at_another_rate = np.concatenate(list(piped(stream, 8000, RATE)))
    np.testing.assert_allclose(at_another_rate, resample(heard, 8000, RATE), atol=1e-6)


def test_half_a_sample_at_the_end_is_said() -> None:
    with pytest.raises(ValueError, match="ends within a sample"):
        list(piped(io.BytesIO(b"\0\0\0"), RATE, RATE))


@pytest.mark.slow
@pytest.mark.parametrize(("container", "name"), [("WAV", "WAV"), ("FLAC", "FLAC"), ("OGG", "Ogg"), ("MP3", None)])
def test_a_file_with_a_header_is_no_raw_audio(container: str, name: str | None) -> None:
    """An MP3 without a tag has no header that could be told from samples."""
    stream = io.BytesIO()
    soundfile.write(stream, noise(0.5), RATE, format=container)
    content = stream.getvalue() if name else b"ID3\4" + stream.getvalue()
    with pytest.raises(ValueError, match=f"a file of {name or 'MP3'}, and raw .* `wav2vec2 transcribe FILE`"):
        list(piped(io.BytesIO(content), RATE, RATE))


def test_that_nothing_came_is_said() -> None:
    with pytest.raises(ValueError, match="no audio came"):
        list(piped(io.BytesIO(b""), RATE, RATE))


def test_the_command_writes_what_the_recogniser_says(checkpoint: Path) -> None:
    samples = noise(5.0)
    live = StreamingRecogniser.from_pretrained(checkpoint, latency=1.0, device="cpu")
    stream = live.open()
    expected = [*stream.feed(np.frombuffer(raw(samples), "<i2")).final, *stream.finish().final]
    command = ["listen", "--model", str(checkpoint), "--latency", "1.0", "--device", "cpu", "-"]
    plain = CliRunner().invoke(app, command, input=raw(samples))
    assert plain.exit_code == 0, plain.output
    assert plain.stdout.split() == [one.text for one in expected]
    rows = CliRunner().invoke(app, [*command, "-f", "jsonl"], input=raw(samples)).stdout.splitlines()
    told = [json.loads(line) for line in rows]
    found = [one for row in told for one in row["final"]]
    assert [one["text"] for one in found] == [one.text for one in expected]
    assert told[-1]["seconds"] == 5.0


def test_ctrl_c_ends_it_after_the_last_words(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit code of what it has ended, and without a word."""
    samples = noise(3.0)

    def interrupted(*arguments: Any) -> Any:
        yield samples
        raise KeyboardInterrupt

    command = ["listen", "--model", str(checkpoint), "--device", "cpu", "-"]
    whole = CliRunner().invoke(app, command, input=raw(samples)).stdout
    monkeypatch.setattr("wav2vec2.inference.streaming.live_sources.piped", interrupted)
    found = CliRunner().invoke(app, command)
    assert (found.exit_code, found.stdout.split(), found.stderr) == (130, whole.split(), "")
    assert len(whole.split()) > 3


def test_a_file_is_no_source() -> None:
    found = CliRunner().invoke(app, ["listen", "--model", "small", "talk.wav"])
    assert found.exit_code == 2
    assert "standard input" in found.output


def test_utterances_are_lines() -> None:
    stream = io.StringIO()
    lines = Utterances(stream, " ")
    lines.show(StreamUpdate((word("one", 0.0), word("two", 0.5))))
    lines.show(StreamUpdate((word("three", 1.0), word("four", 3.0)), "five", True, 4.0, (2.0,)))
    lines.show(StreamUpdate((), "", True, 6.0, (5.0,)))
    lines.show(StreamUpdate((), "", True, 9.0, (8.0,)))
    lines.close()
    assert stream.getvalue() == "one two three\nfour\n"


def test_a_terminal_shows_what_is_not_final_dimly_and_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    lines = OnTerminal(stream, " ")
    lines.show(StreamUpdate((word("one", 0.0),), "two"))
    lines.show(StreamUpdate((word("two", 0.5),), "three four five six seven"))
    lines.show(StreamUpdate((word("three", 0.7), word("fourteen", 0.8)), ""))
    lines.close()
    assert screen(stream.getvalue(), 20) == ["one two three", "fourteen"]
    assert "\x1b[2m two\x1b[0m" in stream.getvalue()


def screen(written: str, width: int) -> list[str]:
    """What a terminal shows at the end, which understands the four signs that are used."""
    rows, row, column = [[" "] * width], 0, 0
    while written:
        if written.startswith("\x1b["):
            end = next(place for place in range(2, len(written)) if written[place].isalpha())
            sign, number, written = written[end], written[2:end], written[end + 1 :]
            if sign == "K":
                rows[row][column:] = [" "] * (width - column)
            elif sign == "D":
                column -= int(number)
            continue
        character, written = written[0], written[1:]
        if character == "\n":
            rows.append([" "] * width)
            row, column = row + 1, 0
            continue
        assert column < width
        rows[row][column] = character
        column += 1
    return ["".join(one).rstrip() for one in rows if "".join(one).strip()]


def test_a_microphone_s_blocks_come_as_they_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the library, which calls back as it does."""

    class InputStream:
        def __init__(self, rate: int, size: int, channels: int, dtype: str, callback: Any) -> None:
            assert (rate, size, channels, dtype) == (RATE, 640, 1, "float32")
            for number in range(3):
                callback(np.full((size, 1), number, np.float32), size, None, None)

        def __enter__(self) -> "InputStream":
            return self

        def __exit__(self, *error: object) -> None:
            return None

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=InputStream))
    source = microphone(RATE)
    assert [float(next(source)[0]) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_without_the_library_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match="wav2vec2.microphone"):
        next(microphone(RATE))
