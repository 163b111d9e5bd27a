"""`wav2vec2 transcribe`: files, formats, faults, second runs; and the command as a whole."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from recognition_checkpoints import save_checkpoint, write_noise
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app
from wav2vec2.inference import Transcriber, Transcript

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def run(checkpoint: Path, *arguments: object) -> Result:
    options = ["--model", str(checkpoint), "--device", "cpu"]
    result: Result = RUNNER.invoke(app, ["transcribe", *map(str, arguments), *options])
    return result


def expected(checkpoint: Path, audio: Path) -> Transcript:
    found = Transcriber.from_pretrained(checkpoint, device="cpu").transcribe(audio)
    assert isinstance(found, Transcript)
    return found


def test_every_format_holds_the_words(checkpoint: Path, tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "in" / "talk.wav", 6.0)
    right = expected(checkpoint, audio)
    assert len(right.words) > 10
    written = {}
    for format in ("txt", "json", "srt", "vtt", "tsv"):
        result = run(checkpoint, audio, "--format", format, "--output", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert "[1/1]" in result.stderr
        written[format] = (tmp_path / "out" / f"talk.{format}").read_text(encoding="utf-8")
    assert written["txt"] == right.text + "\n"
    content = json.loads(written["json"])
    assert (content["text"], content["duration"], content["path"]) == (right.text, 6.0, str(audio))
    assert [word["text"] for word in content["words"]] == [word.text for word in right.words]
    rows = [line.split("\t") for line in written["tsv"].splitlines()]
    assert rows[0] == ["start", "end", "confidence", "text"]
    assert [row[3] for row in rows[1:]] == [word.text for word in right.words]
    assert all(float(row[0]) <= float(row[1]) <= 6.0 for row in rows[1:])
    clock = r"(\d\d:\d\d:\d\d)[,.](\d{3}) --> (\d\d:\d\d:\d\d)[,.](\d{3})\n"
    assert written["vtt"].startswith("WEBVTT\n")
    for captions in (written["srt"], written["vtt"].removeprefix("WEBVTT\n")):
        texts = [re.sub(r"^\d+\n", "", block + "\n") for block in captions.strip().split("\n\n")]
        assert all(re.match(clock, text) for text in texts)
        assert " ".join(re.sub(clock, "", text) for text in texts).split() == right.text.split()


def test_characters_and_no_times(checkpoint: Path, tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "talk.wav", 2.0)
    right = expected(checkpoint, audio)
    result = run(checkpoint, audio, "--format", "json", "--timestamps", "char")
    content = json.loads(result.stdout)
    assert "".join(one["text"] for one in content["characters"]) == right.text.replace(" ", "")
    result = run(checkpoint, audio, "--format", "tsv", "--timestamps", "char")
    assert len(result.stdout.splitlines()) == len(content["characters"]) + 1
    assert json.loads(run(checkpoint, audio, "-f", "json", "--timestamps", "none").stdout)["words"] == []
    result = run(checkpoint, audio, "--format", "srt", "--timestamps", "none")
    assert result.exit_code == 2
    assert "is made of times" in result.stderr


def test_one_bad_file_does_not_stop_the_others(checkpoint: Path, tmp_path: Path) -> None:
    """The others are written, the fault is named at the end, the code is 1; the second run does the bad one alone."""
    audio, out = tmp_path / "audio", tmp_path / "out"
    for name in ("a.wav", "deep/er/b.wav", "c.wav", "c.flac"):
        write_noise(audio / name, 1.0)
    (audio / "bad.wav").write_text("no audio at all")
    missing = tmp_path / "missing.wav"
    result = run(checkpoint, audio, missing, "--output", out)
    assert result.exit_code == 1
    assert "2 of 6 files failed" in result.stderr
    end = result.stderr[result.stderr.index("files failed") :]
    assert "bad.wav" in end
    assert "missing.wav" in end
    assert result.stderr.count("bad.wav") == 1  # listed once
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == ["a.txt", "c.flac.txt", "c.wav.txt", "deep/er/b.txt"]
    times = {name: (out / name).stat().st_mtime_ns for name in names}

    write_noise(audio / "bad.wav", 1.0)
    result = run(checkpoint, audio, "--output", out)
    assert result.exit_code == 0, result.output
    assert "4 of 5 are finished" in result.stderr
    assert "[1/1]" in result.stderr
    assert {name: (out / name).stat().st_mtime_ns for name in names} == times
    assert (out / "bad.txt").is_file()

    result = run(checkpoint, audio, "--output", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "5 of 5 are finished" in result.stderr
    result = run(checkpoint, audio, "--output", out, "--again")
    assert "[5/5]" in result.stderr
    later = (out / "a.txt").stat().st_mtime + 10
    os.utime(audio / "a.wav", (later, later))  # newer than its transcript
    assert "4 of 5 are finished" in run(checkpoint, audio, "--output", out).stderr


def test_what_cannot_be_begun_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "a.wav", 1.0)
    result = RUNNER.invoke(app, ["transcribe", str(audio), "--model", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "no such folder" in result.stderr
    result = run(checkpoint, audio, "--lm", tmp_path / "missing.arpa")
    assert result.exit_code == 2
    assert "--lm" in result.stderr
    assert "missing.arpa" in re.sub(r"[│\s]", "", result.stderr)
    other = write_noise(tmp_path / "other" / "a.wav", 1.0)
    result = run(checkpoint, audio, other, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "do them in two runs" in result.stderr
    assert len(run(checkpoint, audio, other).stdout.splitlines()) == 2
    (tmp_path / "file").write_text("in the way")
    result = run(checkpoint, audio, "--output", tmp_path / "file")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_a_bar_on_a_terminal(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    audio = write_noise(tmp_path / "a.wav", 1.0)
    (tmp_path / "bad.wav").write_bytes(b"")
    result = run(checkpoint, audio, tmp_path / "bad.wav")
    assert result.exit_code == 1
    assert "2/2 files" in result.stderr
    assert "100 %" in result.stderr
    assert "bad.wav" in result.stderr


def test_help_is_quick_and_imports_no_model() -> None:
    code = (
        "import sys, runpy; sys.argv = ['wav2vec2', '--help']\ntry: runpy.run_module('wav2vec2', run_name='__main__')\n"
    )
    code += "except SystemExit: pass\nprint(sorted({'torch', 'transformers', 'numpy', 'soundfile'} & set(sys.modules)))"
    source = Path(__file__).parents[1] / "src"
    environment = os.environ | {"PYTHONPATH": str(source)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=20)
    assert answer.returncode == 0, answer.stderr
    assert all(command in answer.stdout for command in ("transcribe", "align", "build-lm"))
    assert answer.stdout.strip().endswith("[]")
