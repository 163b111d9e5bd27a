"""`wav2vec2 transcribe` that is stopped, by Ctrl-C or by a full disk: what is there stays, is named, and is used."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recognition_checkpoints import save_checkpoint, write_noise
from typer.testing import CliRunner, Result

from wav2vec2.command_line import transcript_files
from wav2vec2.command_line.app import app
from wav2vec2.command_line.transcript_files import write_transcript
from wav2vec2.decoding.transcripts import Hypothesis, Token, Word
from wav2vec2.inference import Transcriber, Transcript
from wav2vec2.inference.kept_parts import KeptInFiles, Part
from wav2vec2.inference.listener import Listener

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little more than four minutes."""
    return write_noise(tmp_path_factory.mktemp("audio") / "talk.wav", 250.0)


@pytest.fixture(scope="module")
def whole(checkpoint: Path, talk: Path) -> Transcript:
    found = Transcriber.from_pretrained(checkpoint, device="cpu").transcribe(talk, timestamps="char")
    assert isinstance(found, Transcript)
    return found


def run(checkpoint: Path, *arguments: object) -> Result:
    options = ["--model", str(checkpoint), "--device", "cpu", "--batch-seconds", "30", "--timestamps", "char"]
    result: Result = RUNNER.invoke(app, ["transcribe", *map(str, arguments), *options])
    return result


class Calls:
    """The model, which raises something instead of its n-th answer; it counts the windows it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows, self.calls, self.last = 0, 0, 10**9
        launch = Listener.launch

        def counted(listener: Listener, windows: list[Any]) -> Any:
            self.calls += 1
            if self.calls > self.last:
                raise KeyboardInterrupt
            self.windows += len(windows)
            return launch(listener, windows)

        monkeypatch.setattr(Listener, "launch", counted)

    def stop_after(self, calls: int) -> None:
        self.calls, self.windows, self.last = 0, 0, calls


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    yield Calls(monkeypatch)


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_finds_what_one_run_finds(
    checkpoint: Path, talk: Path, whole: Transcript, calls: Calls, tmp_path: Path
) -> None:
    """Stopped three times in one file, each time further on; what was recognised is not recognised again."""
    first = write_noise(tmp_path / "in" / "a.wav", 3.0)
    arguments = (first, talk, "-f", "json", "-o", tmp_path / "out")
    for stop in (7, 3):
        calls.stop_after(stop)
        result = run(checkpoint, *arguments)
        assert result.exit_code == 130
        assert "transcribe: stopped; " in result.stderr
        assert f"{talk}: what was found in its first " in result.stderr
        assert "is kept: the same command goes on from there" in result.stderr
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "talk.json.unfinished"]
    calls.stop_after(10**9)
    result = run(checkpoint, *arguments)
    assert result.exit_code == 0, result.output
    assert f"{talk}: going on after " in result.stderr
    assert "1 of 2 are finished" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "talk.json"]
    content = json.loads((tmp_path / "out" / "talk.json").read_text("utf-8"))
    assert content["text"] == whole.text
    for name, expected in (("words", whole.words), ("characters", whole.characters)):
        assert [(one["text"], one["start"], one["end"]) for one in content[name]] == [
            (one.text, round(one.start, 4), round(one.end, 4)) for one in expected
        ]
        assert [one["confidence"] for one in content[name]] == pytest.approx(
            [one.confidence for one in expected], abs=1e-3
        )
    assert calls.windows < 12  # a window is 22 s of new audio: the whole file has 12


@pytest.mark.slow
def test_what_has_changed_is_done_from_the_beginning(
    checkpoint: Path, talk: Path, calls: Calls, tmp_path: Path
) -> None:
    """Parts of another way to transcribe, or of another recording under the same name, are not used."""
    copy = tmp_path / "talk.wav"
    copy.write_bytes(talk.read_bytes())
    arguments = (copy, "-o", tmp_path / "out")
    for change in ("--beam=2", "recording"):
        calls.stop_after(7)
        assert run(checkpoint, *arguments).exit_code == 130
        kept = (tmp_path / "out" / "talk.txt.unfinished").read_text("utf-8").splitlines()
        assert len(kept) > 1
        if change == "recording":
            later = copy.stat().st_mtime + 10
            os.utime(copy, (later, later))
        calls.stop_after(1)
        result = run(checkpoint, *arguments, *([change] if change.startswith("--") else []))
        assert "going on after" not in result.stderr


@pytest.mark.slow
def test_without_files_the_beginning_is_printed_and_said_to_be_one(
    checkpoint: Path, talk: Path, whole: Transcript, calls: Calls, tmp_path: Path
) -> None:
    first = write_noise(tmp_path / "a.wav", 3.0)
    calls.stop_after(7)
    result = run(checkpoint, first, talk, "-f", "json")
    assert result.exit_code == 130
    done, beginning = json.loads(result.stdout)  # well-formed all the same
    assert (done["path"], beginning["path"]) == (str(first), str(talk))
    assert len(beginning["text"]) > 100
    assert whole.text.startswith(beginning["text"])
    assert 30 < beginning["duration"] < 250
    assert "is printed; with --output the same command would go on from there" in result.stderr


def test_a_full_disk_stops_the_run_at_the_first_file(
    checkpoint: Path, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        write_noise(tmp_path / "in" / f"{name}.wav", 31.0)
    write, written = write_transcript, list[Path]()

    def full(path: Path, content: str) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, content)

    monkeypatch.setattr(transcript_files, "write_transcript", full)
    result = run(checkpoint, tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert (
        "b.txt: cannot be written: No space left on device; stopped with 1 transcripts written and 5" in result.stderr
    )
    assert calls.windows < 12  # of two for each recording
    assert (tmp_path / "out" / "a.txt").is_file()


def test_a_folder_that_cannot_be_written_to_is_found_before_the_model_is_loaded(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Transcriber, "from_pretrained", loaded)
    audio = write_noise(tmp_path / "a.wav", 1.0)
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing")):
        result = run(checkpoint, audio, "-o", folder)
        assert result.exit_code == 1
        assert f"transcribe: --output {folder}: cannot be written to" in result.stderr


@pytest.mark.slow
def test_ctrl_c_itself(checkpoint: Path, tmp_path: Path) -> None:
    """A real signal to a real process, once the first part is there; the same command ends the work."""
    audio = write_noise(tmp_path / "talk.wav", 900.0)
    kept = tmp_path / "out" / "talk.txt.unfinished"
    words = ["transcribe", str(audio), "-m", str(checkpoint), "-o", str(tmp_path / "out"), "--batch-seconds", "30"]
    command = [sys.executable, "-m", "wav2vec2", *words, "--device", "cpu", "--beam", "8"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (kept.is_file() and len(kept.read_bytes().splitlines()) > 1):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "stopping when this batch is done" in errors
    assert "stopped; 0 of 1 files are finished" in errors
    assert f"{audio}: what was found in its first " in errors
    assert "Traceback" not in errors


def part(offset: int, text: str) -> Part:
    word = Word(text, 0.1, 0.30000000000000004, 0.7, (1.0, -2.5))
    return Part(offset, 7, Hypothesis(text, -3.25, [word], [Token("ü", 0.1, 0.2, 0.5)], -1.0, -2.0))


@pytest.mark.parametrize(
    "end", [b"", b'{"offset": 14, "fra', b"{}\n", b'{"offset": 99, "frames": 1, "found": 3}\n', b"\xff\n"]
)
def test_kept_parts_survive_what_a_stop_leaves_behind(tmp_path: Path, end: bytes) -> None:
    """Whatever a file ends with, the whole lines before it count, and the next part follows them."""
    recording, path = tmp_path / "talk.wav", tmp_path / "new" / "talk.txt.unfinished"
    recording.write_bytes(b"sound")

    def kept(**conditions: int) -> KeptInFiles:
        return KeptInFiles({str(recording): path}, conditions)

    keeper = kept(beam=3)
    parts = [part(0, "naïve"), part(7, "art"), part(14, "too")]
    for one in parts[:2]:
        keeper.keep(str(recording), one)
    path.write_bytes(path.read_bytes() + end)
    keeper = kept(beam=3)
    assert keeper.parts_of(str(recording)) == parts[:2]
    assert keeper.parts_of(str(recording))[0].found.words[0].evidence == (1.0, -2.5)
    keeper.keep(str(recording), parts[2])
    assert kept(beam=3).parts_of(str(recording)) == parts
    assert kept(beam=4).parts_of(str(recording)) == []
