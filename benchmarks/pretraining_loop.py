"""The whole pretraining loop beside stock's training step, in one run.

    python benchmarks/pretraining_loop.py                     # base, updates of 4 x 10 s, bf16, this machine's CPU
    python benchmarks/pretraining_loop.py --preset tiny --rounds 3

Noise is written as FLAC files, and our loop reads, decodes, crops, masks and trains on them, with its worker processes.
Stock's step is that of its script `run_wav2vec2_pretraining_no_trainer.py`: forward, backward, gradients times
processes / masked frames, their norm, AdamW, temperature, on the very batches that our loop took; its collator's masks
and distractors are drawn beforehand and timed apart. Updates are interleaved; medians, ratios, and the machine's matrix
product beside them. "waiting" is the share of our loop's time in which no batch was ready.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from pretraining_step import DTYPES, Setting, autocast, build, draw_for_stock, machine, timed

from wav2vec2 import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.device_copies import moved
from wav2vec2.training.optimization import make_optimizer
from wav2vec2.training.progress.throughput import Meter, matmul_peak, update_operations
from wav2vec2.training.settings.run_config import DataSection, OptimizerSection, Source
from wav2vec2.training.starting import make_accelerator
from wav2vec2.training.tasks.pretraining_task import PretrainingTask, encoder_inputs
from wav2vec2.training.update_step import Updater


def write_noise(folder: Path, files: int, seconds: float) -> None:
    """Files that are half as long again as what is cropped from them."""
    generator = np.random.default_rng(0)
    for number in range(files):
        noise = generator.normal(0, 0.1, int(1.5 * seconds * 16000)).astype(np.float32)
        soundfile.write(folder / f"{number}.flac", noise, 16000)


def batches_of(setting: Setting, folder: Path, task: PretrainingTask, workers: int) -> Iterator[Any]:
    """The loop's own batches."""
    section = DataSection(
        train=[Source(str(folder))],
        min_seconds=1.0,
        max_seconds=setting.seconds,
        seconds_per_update=setting.batch * setting.seconds,
        seconds_per_batch=setting.batch * setting.seconds + 1,
        workers=workers,
        cache=str(folder / "durations"),
    )
    data = TrainingData(section, setting.seed)
    for batch in data.batches(task.waveforms, processes=1, process=0, start_update=0, position={}):
        yield replace(batch, inputs=task.with_targets(batch.inputs, batch.clips))


class StockStep:
    """The step of stock's script on one batch."""

    def __init__(self, setting: Setting, dtype: torch.dtype) -> None:
        self.setting, self.dtype = setting, dtype
        self.model: Any = build("stock", setting)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6)

    def __call__(self, inputs: dict[str, Any], drawn: dict[str, Any]) -> None:
        names = ("input_values", "attention_mask")
        known = {name: value for name, value in encoder_inputs(inputs).items() if name in names}
        given = {name: value.to(self.setting.device) for name, value in known.items() if value is not None}
        with autocast(self.setting, self.dtype):
            loss = self.model(**given, **drawn).loss
        loss.backward()
        masked = drawn["mask_time_indices"].sum()
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1 / masked)
        norms = [parameter.grad.norm(2) for parameter in self.model.parameters() if parameter.grad is not None]
        torch.stack(norms).norm(2).item()
        self.optimizer.step()
        self.optimizer.zero_grad()


def updater_of(setting: Setting, dtype: str) -> Updater:
    """Our updates: a fresh model with its optimizer and its task."""
    model: Any = build("ours", setting)
    accelerator = make_accelerator(dtype)
    task = PretrainingTask(model.config, Wav2Vec2FeatureExtractor(), setting.seed)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, OptimizerSection(learning_rate=1e-4)))
    return Updater(accelerator, wrapped, optimizer, task, setting.seed, None)


def compare(setting: Setting, dtype: str, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds per update of both, and how well ours was fed."""
    updater = updater_of(setting, dtype)
    task: Any = updater.task
    theirs = StockStep(setting, DTYPES[dtype])
    peak = matmul_peak(DTYPES[dtype], setting.device)
    seconds: dict[str, list[float]] = {"ours": [], "stock": [], "stock drawing": [], "waiting": []}
    with tempfile.TemporaryDirectory() as folder:
        write_noise(Path(folder), 4 * setting.batch, setting.seconds)
        batches = batches_of(setting, Path(folder), task, workers)
        for update in range(rounds + 1):
            begun = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - begun
            ours = timed(partial(take, updater, update, batch.inputs), setting.device)
            count, frames = batch.inputs["mask_time_indices"].shape
            begun = time.perf_counter()
            drawn = draw_for_stock(theirs.model.config, count, frames, setting.device)
            drawing = time.perf_counter() - begun
            stock = timed(partial(theirs, batch.inputs, drawn), setting.device)
            if update:  # the first warms up
                for name, value in zip(seconds, (ours, stock, drawing, waited), strict=True):
                    seconds[name].append(value)
        batches.close()  # type: ignore[attr-defined]
        counting = counting_pass(setting, dtype, updater, batch.inputs, rounds)
        meter = alone(setting, updater, task, Path(folder), workers, rounds, peak)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    operations = update_operations(task.config, [setting.samples] * setting.batch)
    return {
        "seconds per update": {name: medians[name] for name in ("ours", "stock")},
        "ratio": medians["stock"] / medians["ours"],
        "ratio with stock's drawing": (medians["stock"] + medians["stock drawing"]) / medians["ours"],
        "fraction of the peak": operations / medians["ours"] / peak,
        "matmul peak, TFLOP/s": peak / 1e12,
        "counting pass of an update in parts, share of its step": counting / medians["ours"],
        "our loop alone": meter,
    }


def take(updater: Updater, update: int, inputs: dict[str, Any]) -> None:
    """One update of ours, figures included."""
    updater(update, [inputs])()


def counting_pass(setting: Setting, dtype: str, updater: Updater, inputs: dict[str, Any], rounds: int) -> float:
    """Seconds of what an update in several parts does first: counting the codes of each part."""

    def count() -> None:
        with autocast(setting, DTYPES[dtype]):
            updater.bare.choice_probabilities(**encoder_inputs(moved(inputs, updater.accelerator.device)))

    return statistics.median(timed(count, setting.device) for _ in range(rounds + 1))


def alone(
    setting: Setting, updater: Updater, task: Any, folder: Path, workers: int, rounds: int, peak: float
) -> dict[str, Any]:
    """Our loop without stock in between: nothing gives the workers time to catch up."""
    batches = batches_of(setting, folder, task, workers)
    take(updater, 0, next(batches).inputs)
    meter, audio, held = Meter(peak, setting.device), 0.0, 0.0
    for update in range(1, rounds + 1):
        with meter.waiting():
            batch = next(batches)
        audio, held = audio + batch.seconds, held + batch.inputs["input_values"].numel() / 16000
        take(updater, update, batch.inputs)
    batches.close()  # type: ignore[attr-defined]
    figures = meter.figures()
    return {
        "audio_seconds_per_second": audio / figures["wall_seconds"],
        "data_wait_share": figures["data_wait_share"],
        "padding_share": 1 - audio / held,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    setting = Setting(**{name: getattr(options, name) for name in Setting.__annotations__})
    results = {dtype: compare(setting, dtype, options.rounds, options.workers) for dtype in options.dtypes}
    report = {"setting": vars(setting), "machine": machine(setting), "results": results}
    print(json.dumps(report, indent=2))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
