"""`wav2vec2 spot`: hits as text, a table or JSON lines; files, a pipe, thresholds chosen and applied, faults told."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from recognition_checkpoints import noise, save_checkpoint, write_noise
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def spot(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["spot", *map(str, arguments), "--device", "cpu"])


def test_files_in_every_format(checkpoint: Path, tmp_path: Path) -> None:
    paths = [write_noise(tmp_path / f"{seed}.wav", 3.0, seed) for seed in (1, 2)]
    given = (*paths, tmp_path / "none.wav", "--model", checkpoint, "-k", "ab", "--threshold", "0.2")
    text, table, lines = (spot(*given, "--format", name) for name in ("txt", "tsv", "jsonl"))
    assert {one.exit_code for one in (text, table, lines)} == {1}
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert len(rows) > 2 and {row["audio"] for row in rows} == set(map(str, paths))
    assert set(rows[0]) == {"audio", "keyword", "start", "end", "score"}
    assert table.stdout.splitlines()[0].split("\t") == ["audio", "start", "end", "keyword", "score"]
    assert [line.split("\t")[0] for line in table.stdout.splitlines()[1:]] == [row["audio"] for row in rows]
    first = rows[0]
    assert text.stdout.splitlines()[0] == (
        f"{first['audio']}: {first['start']:.2f} s to {first['end']:.2f} s  {first['score']:.2f}  ab"
    )
    assert "1 of 3 files failed" in text.stderr and "none.wav" in text.stderr


def test_a_pipe_is_heard_as_the_file_live(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_noise(tmp_path / "a.wav", 3.0)
    samples, _ = soundfile.read(path, dtype="int16")
    pipe = SimpleNamespace(stdin=SimpleNamespace(buffer=io.BytesIO(samples.tobytes())))
    wanted = ("--model", checkpoint, "-k", "ab", "-k", "ha", "--threshold", 0.2, "-f", "jsonl", "--latency", 0.48)
    live = spot(path, *wanted)
    monkeypatch.setattr("wav2vec2.command_line.spot.sys", pipe)
    piped = spot("-", *wanted)
    assert (live.exit_code, piped.exit_code) == (0, 0)
    rows, others = ([json.loads(line) for line in one.stdout.splitlines()] for one in (piped, live))
    assert len(rows) > 2 and {row.pop("audio") for row in rows} == {"standard input"}
    assert [{**row, "audio": str(path)} for row in rows] == others


def test_thresholds_are_chosen_saved_and_applied(checkpoint: Path, tmp_path: Path) -> None:
    background, file = write_noise(tmp_path / "background" / "a.wav", 6.0), tmp_path / "chosen.json"
    wanted = ("--model", checkpoint, "-k", "badge")
    made = spot("--calibrate", background.parent, "--threshold", file, *wanted, "--false-alarms-per-hour", 600)
    assert made.exit_code == 0, made.output
    assert "1 false alarm in 0.00 h of background" in made.stdout and f"saved in {file}" in made.stdout
    assert f"{background} at " in made.stdout and "warning" not in made.stderr
    applied = spot(background, *wanted, "--threshold", file)
    assert applied.exit_code == 0 and len(applied.stdout.splitlines()) == 1 and not applied.stderr
    assert (
        "chosen on audio that was heard in windows"
        in spot(background, *wanted, "--threshold", file, "--latency", 0.96).stderr
    )
    few = spot("--calibrate", background, "--threshold", file, *wanted, "--false-alarms-per-hour", 0.1)
    assert "warning: badge: 0.00 h say nothing of 0.1 false alarms an hour: give at least 10 h" in few.stderr
    (entry,) = json.loads(file.read_text("utf-8"))["thresholds"]  # the keyword's threshold was replaced
    assert (entry["asked_per_hour"], entry["false_alarms"], entry["latency"]) == (0.1, 0, None)
    other = spot(background, "--model", checkpoint, "-k", "ha", "--threshold", file)
    assert other.exit_code == 1 and "has no threshold of 'ha'" in other.stderr
    beside = spot(background, *wanted)
    assert beside.exit_code == 0 and "threshold 0.3, which is a guess" in beside.stderr


def test_what_is_wrong_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    sound = write_noise(tmp_path / "a.wav", 1.0)
    model = ("--model", checkpoint)
    wrong = {
        (sound, *model): "say with --keyword",
        (sound, *model, "-k", "xylo"): "keyword 'xylo': the model has no letters for xylo",
        (sound, *model, "-k", "ab", "--threshold", "2"): "--threshold 2: must be above 0 and at most 1",
        (sound, *model, "-k", "ab", "--threshold", tmp_path / "no.json"): "no such file, and no number",
        (tmp_path / "no.wav", *model, "-k", "ab"): "no.wav: no such file",
        ("--calibrate", sound, *model, "-k", "ab", "--false-alarms-per-hour", "0"): "must be above 0",
        ("--calibrate", sound, *model, "-k", "ab", "--threshold", "0.5"): "names the file for it",
        (sound, "--model", tmp_path, "-k", "ab"): str(tmp_path),
    }
    for arguments, told in wrong.items():
        found = spot(*arguments)
        assert found.exit_code == 1 and told in found.stderr and len(found.stderr.splitlines()) == 1, found.output
    assert spot("-", sound, *model, "-k", "ab").exit_code == 2
    assert spot(sound, "--calibrate", sound, *model, "-k", "ab").exit_code == 2


def test_a_microphone_is_heard_until_it_is_stopped(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it after the last hits, with 130."""

    def heard(rate: int) -> Iterator[object]:
        yield noise(2.0)
        raise KeyboardInterrupt

    monkeypatch.setattr("wav2vec2.inference.streaming.live_sources.microphone", heard)
    found = spot("--model", checkpoint, "-k", "ab", "--threshold", "0.2")
    assert found.exit_code == 130 and all(line.endswith("  ab") for line in found.stdout.splitlines())
    assert len(found.stdout.splitlines()) > 1
