"""Every part of `benchmarks/on_accelerator.py` runs, at tiny size on a CPU, and its figures are of what it measured."""

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import torch

from wav2vec2.configuration import presets
from wav2vec2.training.progress.throughput import update_operations

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All parts as JSON; the tables stand under "printed"."""
    path = tmp_path_factory.mktemp("on_accelerator") / "report.json"
    parts = set(re.findall(r'Part\("([a-z ]+)"', (BENCHMARKS / "on_accelerator.py").read_text(encoding="utf-8")))
    command = [sys.executable, str(BENCHMARKS / "on_accelerator.py"), "--quick", "--output", str(path)]
    command += ["--parts", ",".join(parts)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read | {"printed": done.stdout}


def rows_of(report: dict[str, Any], part: str, kind: str) -> list[dict[str, Any]]:
    return [row for row in report["parts"][part]["rows"] if row["kind"] == kind]


def figures_of(report: dict[str, Any], part: str) -> dict[str, float]:
    return {row["what"]: row["value"] for row in rows_of(report, part, "figure")}


def test_every_part_was_measured_and_is_shown(report: dict[str, Any]) -> None:
    assert {name: part["problem"] for name, part in report["parts"].items() if part["problem"]} == {}
    for part in report["parts"].values():
        assert part["rows"]
        for row in part["rows"]:
            assert row["kind"] == "kernel" or f"| {row['what']} |" in report["printed"]


def test_shares_are_of_the_product_that_was_measured(report: dict[str, Any]) -> None:
    """Operations as the training counts them, over the time of the step, over the product's speed."""
    (product, _) = figures_of(report, "machine").values()
    for row, clips in zip(rows_of(report, "base", "comparison"), (2, 2, 8), strict=True):
        operations = update_operations(presets.tiny(layerdrop=0.0), [8000] * clips)
        rate, stock = operations / row["seconds"]["ours"], row["seconds"].get("stock")
        assert row["share_of_product"] == pytest.approx(rate / (product * 1e12))
        assert row["audio_seconds_per_second"] == pytest.approx(clips * 0.5 / row["seconds"]["ours"])
        assert row["ratio"] == (None if stock is None else pytest.approx(stock / row["seconds"]["ours"]))


def test_the_loop_is_compared_with_its_step(report: dict[str, Any]) -> None:
    loop, step = figures_of(report, "loop"), rows_of(report, "base", "comparison")[0]["audio_seconds_per_second"]
    speed = next(value for name, value in loop.items() if re.fullmatch(r"after update \d+", name))
    assert loop["of the step's speed"] == pytest.approx(speed / step)
    assert loop["the same by a clock outside"] == pytest.approx(speed, rel=0.5)
    assert 0 <= loop["waiting for data"] <= 1
    assert 0 < loop["start to the log's first line"] < loop["start to update 1"]
    assert 0 < loop["of these writing the checkpoint"] < loop["SIGTERM to the end"]


def test_kernels_are_all_of_the_time(report: dict[str, Any]) -> None:
    """Their shares add up to one, the longest first."""
    shares = [row["share"] for row in rows_of(report, "profile", "kernel")]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program in this process."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("on_accelerator")


def test_parts_for_which_no_time_is_left_say_so(program: ModuleType, tmp_path: Path) -> None:
    """But for the first, which the others need."""
    rows = import_module("accelerator_rows")
    path = tmp_path / "report.json"
    results = program.Results(rows.Bench("cpu", True, None, tmp_path, 1.0), path, 0.0)
    for name in ("machine", "later"):
        results.measure(program.Part(name, lambda bench: iter([rows.figure("measured", 1.0)]), 20))
    first, later = json.loads(path.read_text(encoding="utf-8"))["parts"].values()
    assert (first["problem"], len(first["rows"])) == (None, 1)
    assert (later["problem"], later["rows"]) == ("0 s were left, it may take 20", [])
    assert "| later | 0.0 s | 0 s were left, it may take 20 |" in rows.tables(results.parts)


def test_what_was_measured_before_a_part_broke_is_kept(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that takes too long, and one that fails; the one after them is measured."""
    rows = import_module("accelerator_rows")

    def endless(bench: Any) -> Iterator[Any]:
        yield rows.figure("first", 1.0)
        time.sleep(60)

    def broken(bench: Any) -> Iterator[Any]:
        yield rows.figure("second", 2.0)
        raise ValueError("no such kernel")

    def whole(bench: Any) -> Iterator[Any]:
        yield rows.figure("third", 3.0)

    path = tmp_path / "report.json"
    results = program.Results(rows.Bench("cpu", True, None, tmp_path, 1.0), path, 60.0)
    for name, work in (("endless", endless), ("broken", broken), ("whole", whole)):
        results.measure(program.Part(name, work, 0.2))
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
    assert [part["rows"][0]["value"] for part in parts.values()] == [1.0, 2.0, 3.0]
    assert [part["problem"] for part in parts.values()] == ["broken off after 0 s", "ValueError: no such kernel", None]
    assert [part["failed"] for part in parts.values()] == [False, True, False]
    assert "no such kernel" in capsys.readouterr().err


def test_unknown_parts_are_refused(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["on_accelerator.py", "--quick", "--parts", "bas"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert "no bas among machine, base, loop" in capsys.readouterr().err


class Event:
    """Stands in for an event of a GPU whose every call takes 70.5 ms."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        pass

    def elapsed_time(self, end: "Event") -> float:
        return 70.5


def test_times_and_memory_on_a_gpu(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU would say is counted in seconds and GiB: of a step beside another model, without that one."""
    pretraining_step, steps = import_module("pretraining_step"), import_module("accelerator_steps")
    held = {"max_memory_allocated": 9 * 2**30, "memory_allocated": 3 * 2**30}
    for name, value in held.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    calls: list[int] = []
    taken = pretraining_step.interleave({"ours": lambda: calls.append(1)}, 5, "cuda", 2)
    assert taken == {"ours": pytest.approx(0.0705)}
    assert len(calls) == 7
    model = torch.nn.Linear(2**14, 2**13, bias=False)  # 2**29 bytes
    assert steps.peak_of(lambda: None, model, "cuda") == pytest.approx(9 - 3 + 0.5)


def test_kernels_of_a_gpu(program: ModuleType) -> None:
    """Neither the host's calls nor ranges that a user has named, which hold kernels once more."""
    cuda, cpu = SimpleNamespace(name="CUDA"), SimpleNamespace(name="CPU")
    name = "void at::native::(anonymous namespace)::softmax_warp<c10::BFloat16, 8>(int)"
    events = [
        SimpleNamespace(key=key, device_type=device, is_user_annotation=named, count=3, self_device_time_total=micros)
        for key, device, named, micros in (
            (name, cuda, False, 1500.0),
            ("cudaLaunchKernel", cpu, False, 0.0),
            ("optimizer", cuda, True, 9000.0),
        )
    ]
    profiler = SimpleNamespace(key_averages=lambda: events)
    found = list(import_module("accelerator_steps").kernels_of(profiler, "cuda"))
    assert found == [("softmax_warp<BFloat16, 8>(int)", 3, 0.0015)]


def test_clips_are_cut_from_one_speaker(program: ModuleType, tmp_path: Path) -> None:
    """As long as LibriSpeech's, at least as many seconds as were asked for, everything that there is before again."""
    audio = import_module("accelerator_audio")
    rows = []
    for speaker, sign in (("a", 1), ("b", -1)):
        for number in range(2):  # 20 s each, louder and louder
            ramp = sign * (np.linspace(0, 0.4, 320_000) + 0.1 + 0.4 * number)
            stream = io.BytesIO()
            soundfile.write(stream, ramp, 16000, format="WAV")
            rows.append({"audio": {"bytes": stream.getvalue()}, "speaker": speaker, "duration": 20.0})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "shard.parquet")
    (folder := tmp_path / "clips").mkdir()
    tasks = audio.tasks_of(tmp_path / "shard.parquet", folder, 200.0, 16.5)
    written = [audio.write_clips(task) for task in tasks]
    clips = [soundfile.read(path)[0] for path in sorted(folder.iterdir())]
    lengths = [len(clip) / 16000 for clip in clips]
    assert sum(lengths) == pytest.approx(sum(written))
    assert all(100 <= seconds < 116.5 for seconds in written)
    assert all(2 <= length <= 16.5 for length in lengths)
    assert {int(np.sign(clip).sum()) // len(clip) for clip in clips} == {1, -1}
    assert max(abs(clip).max() for clip in clips) == pytest.approx(0.9, abs=1e-3)
