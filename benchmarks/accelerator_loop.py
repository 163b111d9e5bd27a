"""The part of `on_accelerator.py` that runs `wav2vec2 pretrain base_960h`, and reads from its log how well it did."""

import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerator_rows import Bench, Row, figure

from wav2vec2 import Wav2Vec2FeatureExtractor
from wav2vec2.configuration import presets
from wav2vec2.training.data.audio_clips import SAMPLING_RATE
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.progress.throughput import update_operations
from wav2vec2.training.progress.training_log import FILE_NAME, read_log
from wav2vec2.training.settings.run_config import DataSection, Source
from wav2vec2.training.tasks.pretraining_task import PretrainingTask

#: Updates at the start that do not count: kernels are chosen, workers are getting ahead.
_FIRST_UPDATES = 20

#: Seconds that a run has to begin, and to end after SIGTERM.
_PATIENCE = 90.0


@dataclass(frozen=True)
class Size:
    """How large the loop is."""

    #: Hours of different audio.
    hours: float
    #: Seconds of the longest clip that is written, and that is trained on.
    longest: float
    max_seconds: float
    #: Seconds of an update, and of a micro-batch.
    per_update: float
    per_batch: float
    #: Updates between two lines of the log.
    log_every: int
    #: Processes that read audio.
    workers: int
    #: Seconds in which batches are counted without training.
    reading_seconds: float
    #: Seconds that it trains at least, however long it takes to begin.
    least_seconds: float
    #: What else is changed of the recipe.
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, bench: Bench) -> "Size":
        """Micro-batches are those of the measured step: 16 x 15.6 s, and a little for padding."""
        cores = len(os.sched_getaffinity(0))
        if bench.quick:
            tiny = ("model.preset=tiny", "run.precision=fp32", "run.report=false")
            return cls(0.01, 3.0, 3.0, 6.0, 6.0, 1, 1, 0.5, 1.0, tiny)
        return cls(6.5, 16.5, 15.6, 1600.0, 250.0, 5, max(1, min(14, cores - 2)), 10.0, 20.0, ("run.precision=bf16",))


def loop(bench: Bench) -> Iterator[Row]:
    """Real audio through the whole of the training."""
    size = Size.of(bench)
    audio = bench.work / "clips"
    begun = time.perf_counter()
    written = write_audio(bench, size, audio)
    yield figure("audio written", written, f"s, in {time.perf_counter() - begun:.1f} s")
    yield from batches_alone(bench, size, audio)
    run = Run(bench, size, audio)
    try:
        yield from run.figures()
    finally:
        run.end()


def write_audio(bench: Bench, size: Size, folder: Path) -> float:
    """Clips in a process of its own, which may fork; their seconds."""
    script = Path(__file__).with_name("accelerator_audio.py")
    command = [sys.executable, str(script), str(folder), "--hours", str(size.hours), "--longest", str(size.longest)]
    command += ["--processes", str(size.workers)]
    if bench.audio is not None:
        command += ["--source", str(bench.audio)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def batches_alone(bench: Bench, size: Size, audio: Path) -> Iterator[Row]:
    """What the reading processes give when nobody trains, and in how many shapes."""
    section = DataSection(
        train=[Source(str(audio))],
        seconds_per_update=size.per_update,
        seconds_per_batch=size.per_batch,
        min_seconds=1.0,
        max_seconds=size.max_seconds,
        normalize=False,
        workers=size.workers,
        cache=str(bench.work / "durations"),
    )
    task = PretrainingTask(presets.base(), Wav2Vec2FeatureExtractor(do_normalize=False), seed=1)
    data = TrainingData(section, 1)
    read: list[tuple[float, float, tuple[int, ...], int]] = []  # when, seconds of audio, shape, update
    begun = time.perf_counter()
    with closing(data.batches(task.waveforms, processes=1, process=0, start_update=0, position={})) as batches:
        for batch in batches:
            shape = tuple(batch.inputs["input_values"].shape)
            read.append((time.perf_counter() - begun, batch.seconds, shape, batch.update))
            if read[-1][0] > read[0][0] + size.reading_seconds:
                break
    counted = read[min(size.workers, len(read) - 1) :]  # each process's first takes as long as the process to begin
    seconds, since = sum(row[1] for row in counted), read[-len(counted) - 1][0] if len(counted) < len(read) else 0.0
    held = sum(math.prod(shape) for _, _, shape, _ in read) / SAMPLING_RATE
    yield figure("first batch of the readers alone", read[0][0], "s")
    yield figure(f"readers alone, {size.workers} processes", seconds / (read[-1][0] - since), "s of audio a second")
    shapes = {shape for _, _, shape, _ in read}
    yield figure("shapes of micro-batches", len(shapes), f"in {read[-1][3] + 1} updates, {len(read)} micro-batches")
    yield figure("padding", 1 - sum(row[1] for row in read) / held)


class Run:
    """A run in a process of its own, watched from outside: which line of its log came when."""

    def __init__(self, bench: Bench, size: Size, audio: Path) -> None:
        self.bench, self.size = bench, size
        self.output = bench.work / "base_960h"
        self.messages = (bench.work / "loop.txt").open("wb")
        command = [sys.executable, "-m", "wav2vec2", "pretrain", "base_960h", f"data.train.0.path={audio}"]
        command += [f"data.seconds_per_update={size.per_update}", f"data.seconds_per_batch={size.per_batch}"]
        command += [f"data.workers={size.workers}", "data.min_seconds=1", f"data.max_seconds={size.max_seconds}"]
        command += [f"data.cache={bench.work / 'durations'}", f"run.output={self.output}"]
        command += [f"run.log_every={size.log_every}", *size.overrides]
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=self.messages, stderr=self.messages, start_new_session=True)
        #: Seconds from the start to each line of the log.
        self.arrivals: list[float] = []

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.begun

    def figures(self) -> Iterator[Row]:
        """Start, speed, end."""
        self.watch(lambda: len(self.arrivals) < 1, _PATIENCE)
        yield figure("start to the log's first line", self.arrivals[0], "s: imports, model, plan of the data")
        self.watch(lambda: len(self.arrivals) < 2, 2 * _PATIENCE)
        yield figure(f"start to update {self.size.log_every}", self.arrivals[1], "s")
        until = max(self.bench.loop_seconds, self.arrivals[1] + self.size.least_seconds)
        self.watch(lambda: self.age < until, until + 1)
        lines = [line for line in read_log(self.output) if line["kind"] == "training"]
        yield from self.speed(lines[: len(self.arrivals) - 1])
        yield from self.stopped()

    def watch(self, go_on: Callable[[], bool], most: float) -> None:
        """Note when lines come, as long as `go_on` says so. RuntimeError with the run's last words if it ends, or is
        older than `most` seconds."""
        path = self.output / FILE_NAME
        while go_on():
            lines = path.read_bytes().count(b"\n") if path.is_file() else 0
            self.arrivals += [self.age] * (lines - len(self.arrivals))
            if self.process.poll() is not None or self.age > most:
                said = Path(self.messages.name).read_text("utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"it ended or is late after {self.age:.0f} s, code {self.process.poll()}: {said}")
            time.sleep(0.02)

    def speed(self, lines: Sequence[dict[str, Any]]) -> Iterator[Row]:
        """After the first updates; of all where there are no others."""
        begin = _FIRST_UPDATES if lines[-1]["update"] > _FIRST_UPDATES else 0
        counted = [line for line in lines if line["update"] > begin]
        wall = sum(line["wall_seconds"] for line in counted)
        audio = sum(line["wall_seconds"] * line["audio_seconds_per_second"] for line in counted)
        waited = sum(line["wall_seconds"] * line["data_wait_share"] for line in counted)
        outside = self.arrivals[len(lines)] - self.arrivals[len(lines) - len(counted)]
        yield figure("updates", lines[-1]["update"])
        yield figure("the first updates", lines[0]["audio_seconds_per_second"], "s of audio a second")
        yield figure(f"after update {begin}", audio / wall, "s of audio a second")
        yield figure("the same by a clock outside", audio / outside, "s of audio a second")
        yield figure("waiting for data", waited / wall, "of the time")
        yield figure("padding in the run", statistics.mean(line["padding_share"] for line in counted))
        yield figure("peak memory", max(line["peak_memory_gib"] for line in lines), "GiB")
        rows = self.bench.rows.get("base")
        if rows:
            step = rows[0]["audio_seconds_per_second"]
            whole, kept = (update_operations(presets.base(layerdrop=drop), [249_600]) for drop in (0.0, 0.05))
            yield figure("of the step's speed", audio / wall / step, "(the step drops no layer, the run 5 %)")
            yield figure("of the speed of a step with 5 % of its layers less", audio / wall / (step * whole / kept))

    def stopped(self) -> Iterator[Row]:
        """From SIGTERM to the end, and for how much of it a checkpoint was being written."""
        asked = self.age
        self.process.send_signal(signal.SIGTERM)
        seen: list[float] = []
        finished: float | None = None
        folder = self.output / "checkpoints"
        while self.process.poll() is None:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            if names:
                seen.append(self.age)
            if finished is None and any(name.startswith("update-") for name in names):
                finished = self.age
            if self.age > asked + _PATIENCE:
                raise RuntimeError(f"it has not ended {_PATIENCE:.0f} s after SIGTERM")
            time.sleep(0.01)
        ended = self.age - asked
        saving = finished - seen[0] if finished is not None else 0.0
        yield figure("SIGTERM to the end", ended, f"s, code {self.process.returncode}")
        yield figure("of these writing the checkpoint", saving, "s")
        yield figure("SIGTERM to the end beside the checkpoint", ended - saving, "s")

    def end(self) -> None:
        """Nothing is left of it, whatever happened."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.messages.close()
