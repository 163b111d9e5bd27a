"""The log of a run: what is written, what a resumed run cuts off, what a terminal, a pipe and trackers see."""

import json
import math
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logged_runs import TIMING_FIELDS, without_timing

from wav2vec2.training.progress import progress_display as display
from wav2vec2.training.progress.progress_display import TimeLeft
from wav2vec2.training.progress.training_log import TrainingLog, read_log


def figures(update: int) -> dict[str, Any]:
    return {"loss": 7.0 - update / 100, "code_perplexity": [40.0 + update, 50.0], "wall_seconds": update * 0.37}


def write(log: TrainingLog, updates: range) -> None:
    for update in updates:
        log.training(update, figures(update))


def test_every_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, total_updates=10, quiet=True)
    log.header({"parameters": 3_000_000, "hardware": {"device": "cpu"}})
    log.training(1, {"loss": 6.5, "code_perplexity": [np.float32(43.5), 61.0], "masked": np.int64(7)})
    log.evaluation(1, {"loss": math.nan, "bits": math.inf, "samples": [("ein ä", "x")]})
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()  # the log is still open
    assert [json.loads(line) for line in lines] == [
        {"kind": "run", "parameters": 3_000_000, "hardware": {"device": "cpu"}},
        {"kind": "training", "update": 1, "loss": 6.5, "code_perplexity": [43.5, 61.0], "masked": 7},
        {"kind": "evaluation", "update": 1, "loss": None, "bits": None, "samples": [["ein ä", "x"]]},
    ]
    log.close()


@pytest.mark.parametrize("partial", ["", '{"kind": "training", "upd'])
def test_a_killed_and_resumed_log_equals_the_uninterrupted_one(tmp_path: Path, partial: str) -> None:
    """Killed at update 15, resumed from the checkpoint of update 10, on a machine with other timings."""
    with TrainingLog(tmp_path / "whole", quiet=True) as log:
        log.header({"seed": 1})
        write(log, range(1, 21))
    killed = TrainingLog(tmp_path / "killed", quiet=True)
    killed.header({"seed": 1})
    write(killed, range(1, 11))
    mark = killed.mark()
    write(killed, range(11, 16))
    killed.close()
    path = tmp_path / "killed" / "log.jsonl"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(partial)
    with TrainingLog(tmp_path / "killed", quiet=True, begin_at=10) as log:
        log.truncate_to(mark)
        assert path.stat().st_size == mark
        log.header({"seed": 1, "processes": 2})
        for update in range(11, 21):
            log.training(update, figures(update) | {"wall_seconds": 99.0})
    whole, resumed = read_log(tmp_path / "whole"), read_log(tmp_path / "killed")
    assert len(whole) == 21
    assert without_timing(resumed) == without_timing(whole)
    assert resumed != whole
    assert [line["processes"] for line in resumed if line["kind"] == "resume"] == [2]


def test_a_log_that_is_shorter_than_its_checkpoint_says_is_left_alone_and_never_loses_a_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "run"}\n{"kind": "trai', encoding="utf-8")
    with TrainingLog(tmp_path, quiet=True) as log:
        log.truncate_to(10_000)
        log.training(3, {"loss": 1.0})
    assert read_log(tmp_path) == [{"kind": "run"}, {"kind": "training", "update": 3, "loss": 1.0}]


def test_a_mark_is_the_size_of_the_file(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, quiet=True)
    assert log.mark() == 0
    log.training(1, {"loss": 1.0})
    assert log.mark() == (tmp_path / "log.jsonl").stat().st_size > 0
    log.truncate_to(0)  # while it is open
    log.training(2, {"loss": 2.0})
    log.close()
    assert [line["update"] for line in read_log(tmp_path)] == [2]


def test_a_disk_that_takes_no_more_ends_no_run_by_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint for which it is asked will fail, and say so."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with TrainingLog(tmp_path, quiet=True) as log:
        log.training(1, {"loss": 1.0})
        monkeypatch.setattr(os, "fsync", full)
        assert log.mark() == log.path.stat().st_size


def test_only_the_main_process_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingLog(tmp_path / "other", ["no such tracker"], 10, main=False) as log:
        log.header({"seed": 1})
        write(log, range(1, 3))
        log.note("hello")
        log.advance(1)
        assert log.mark() == 0
        log.truncate_to(0)
    assert not (tmp_path / "other").exists()
    assert capsys.readouterr() == ("", "")


def test_a_pipe_sees_one_line_per_logged_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingLog(tmp_path, total_updates=400) as log:
        log.note("95.0 M parameters")
        log.training(100, {"loss": 4.61, "bits": 6.65, "accuracy": 0.0165, "code_perplexity": [43.21, 61.0]})
        log.advance(101)
        log.evaluation(100, {"wer": 0.5, "cer": 0.125})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "95.0 M parameters",
        "update 100/400  loss 4.610  6.650 bits  accuracy 0.017  codes 43.2+61.0",
        "evaluation 100/400  WER 50.0%  CER 12.5%",
    ]


def test_a_terminal_sees_a_bar_that_goes_on_where_the_run_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes standard error for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with TrainingLog(tmp_path, total_updates=40, begin_at=10) as log:
        log.training(30, {"accuracy": 0.25})
        log.evaluation(30, {"bits": 4.0})
        log.advance(31)
    out, err = capsys.readouterr()
    assert out == ""
    assert "evaluation 30  4.000 bits" in err
    assert "31/40" in err
    assert "accuracy 0.250" in err


@pytest.mark.parametrize("columns", [70, 100])
def test_a_narrow_terminal_shows_counter_and_time_left(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whatever else there is to show is cut first; and it stays one line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    now = iter([0.0, 60.0, 120.0])
    figures = {"loss": 4.6, "bits": 6.65, "accuracy": 0.0165, "code_perplexity": [43.21, 61.0], "gradient_norm": 1.25}
    with TrainingLog(tmp_path, total_updates=400_000) as log:
        monkeypatch.setattr(log, "_time_left", TimeLeft(400_000, clock=lambda: next(now)))
        log.advance(100_000)
        log.advance(100_001)
        log.training(100_001, figures | {"learning_rate": 5e-4, "data_wait_share": 0.01})
        log.advance(100_002)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err).replace("\r", "\n").splitlines()
    last = next(line for line in reversed(lines) if "/" in line)
    assert last.startswith("100002/400000 ") and " 208 days 8 hours left " in last and " loss 4.6" in last
    assert len(last.rstrip()) <= columns
    assert "about 208 days 8 hours left" in lines


def test_a_pipe_hears_how_long_it_takes_and_sees_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 3.0, 6.0, 9.0])
    samples = [{"reference": "the cat", "hypothesis": "a cat"}, {"reference": "sat", "hypothesis": ""}]
    with TrainingLog(tmp_path, total_updates=204) as log:
        monkeypatch.setattr(log, "_time_left", TimeLeft(204, clock=lambda: next(now)))
        for update in range(1, 5):
            log.advance(update)
        log.training(4, {"loss": 4.61})
        log.evaluation(4, {"wer": 0.5, "samples": samples})
    assert capsys.readouterr().err.splitlines() == [
        "about 10 minutes left",
        "update 4/204  loss 4.610  10 minutes left",
        "evaluation 4/204  WER 50.0%  10 minutes left",
        "  reference: the cat",
        "  hypothesis: a cat",
        "  reference: sat",
        "  hypothesis: ",
    ]


def test_the_summary_leaves_out_what_is_not_there() -> None:
    assert display.summary({}) == ""
    assert display.summary({"loss": None, "wer": 0.25}) == "WER 25.0%"


def test_tensorboard_gets_scalars_with_one_per_group(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TrainingLog(tmp_path, ["tensorboard"], quiet=True) as log:
        write(log, range(1, 4))
        log.evaluation(3, {"bits": 4.5, "samples": ["text"], "accuracy": math.nan})
    with TrainingLog(tmp_path, ["tensorboard"], quiet=True, begin_at=2) as log:
        log.training(3, {"loss": 100.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "training/loss",
        "training/code_perplexity/0",
        "training/code_perplexity/1",
        "training/wall_seconds",
        "evaluation/bits",
    }
    loss = [(event.step, event.value) for event in events.Scalars("training/loss")]
    assert loss == [(1, pytest.approx(6.99)), (2, pytest.approx(6.98)), (3, 100.0)]
    assert [event.value for event in events.Scalars("training/code_perplexity/0")] == [41.0, 42.0]


def test_trackio_gets_the_same_scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    fake = types.SimpleNamespace(
        init=lambda **given: calls.append(given),
        log=lambda values, step: calls.append((step, values)),
        finish=lambda: calls.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    with TrainingLog(tmp_path / "my-run", ["trackio"], quiet=True, begin_at=5) as log:
        log.training(6, {"loss": 1.5, "code_perplexity": [2.0, 3.0]})
    values = {"training/loss": 1.5, "training/code_perplexity/0": 2.0, "training/code_perplexity/1": 3.0}
    assert calls == [{"project": "wav2vec2", "name": "my-run", "resume": "allow"}, (6, values), "finished"]


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in ("trackio", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{name} is not installed .*pip install "wav2vec2\[train\]"'):
        TrainingLog(tmp_path, [name])


def test_an_unknown_tracker_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'wandb' is none of tensorboard, trackio"):
        TrainingLog(tmp_path, ["wandb"])


def test_the_fields_of_the_meter_are_timing_fields() -> None:
    from wav2vec2.training.progress.throughput import Meter

    meter = Meter(peak=1.0)
    meter.count(clips=2, convolved=1)
    names = set(meter.figures())
    assert names <= TIMING_FIELDS
    # the first line of a log holds the peak, and the loop counts the audio
    assert names | {"matmul_peak_tflops", "audio_seconds_per_second"} >= TIMING_FIELDS


def test_the_newest_counts_of_codes_are_kept_beside_the_log(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, quiet=True) as log:
        log.codes(100, np.ones((2, 3)))
        log.codes(200, [[1, 2, 3], [4, 5, 6]])
    assert json.loads((tmp_path / "codes.json").read_text(encoding="utf-8")) == {
        "update": 200,
        "counts": [[1, 2, 3], [4, 5, 6]],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["codes.json"]
