"""Tiny CTC runs through the real `finetune()`, in this process or in others."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pretraining_runs
import soundfile
import torch
import warm_processes
from pretraining_runs import recipe, speechlike
from training_audio import RATE

from wav2vec2.training import finetuning, starting
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import FinetuneRun

#: What masks and layers are drawn with.
MASKS: dict[str, Any] = {
    "mask_time_prob": 0.3,
    "mask_time_length": 3,
    "mask_feature_prob": 0.3,
    "mask_feature_length": 8,
    "layerdrop": 0.3,
    "feature_grad_mult": 0.0,
}

#: One letter, one tone.
TONES = {letter: 300.0 * 1.35**number for number, letter in enumerate("abcdef")}


def write_labelled(folder: Path, lengths: Sequence[float], first_seed: int = 0, too_long: int | None = None) -> Path:
    """Clips of so many seconds, and a manifest with as many letters each as it likes; one has more than frames."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tduration\ttranscript"]
    for number, length in enumerate(lengths):
        random_numbers = np.random.default_rng(first_seed + number)
        name = f"clip{number:03d}.wav"
        soundfile.write(folder / name, speechlike(first_seed + number, length), RATE)
        letters = random_numbers.choice(list("ABCDEFGH "), size=90 if number == too_long else 3 + number % 9)
        lines.append(f"{name}\t{length}\tA{''.join(letters)}B")
    path = folder / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_spoken_tones(folder: Path, texts: Sequence[str]) -> Path:
    """Clips in which each letter sounds as its tone for 0.16 s, and a space is silent; a manifest of them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\ttranscript"]
    time = np.arange(round(0.16 * RATE)) / RATE
    for number, text in enumerate(texts):
        rise = np.minimum(1, 40 * np.minimum(time, time[-1] - time))
        sounds = [np.sin(2 * np.pi * TONES[c] * time) * rise if c in TONES else 0 * time for c in f" {text} "]
        noise = np.random.default_rng(number).normal(0, 0.01, len(sounds) * len(time))
        soundfile.write(folder / f"tones{number}.wav", 0.3 * np.concatenate(sounds) + noise, RATE)
        lines.append(f"tones{number}.wav\t{text}")
    path = folder / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def labelled_recipe(folder: Path, manifest: Path, valid: Path | None = None, **overrides: Any) -> dict[str, Any]:
    """`recipe` of pretraining for clips with text: noise that stands for speech is no problem here."""
    values = recipe(folder, manifest, valid)
    values["model"]["config"] = {
        name: value for name, value in values["model"]["config"].items() if name != "feature_penalty_weight"
    } | MASKS
    values["data"] |= {"min_seconds": 0.1, "on_problems": "warn"}
    values["tuning"] = {"freeze_updates": 0}
    values["text"] = {}
    for key, value in overrides.items():
        section, _, name = key.partition("__")
        values[section][name] = values[section][name] | value if isinstance(value, dict) else value
    return values


# --- what a process does -------------------------------------------------------------------------------------------


def train(values: dict[str, Any], resume: bool = True) -> None:
    """The run, with what only costs time left out: measuring the machine's peak."""
    torch.set_num_threads(1)
    with patch.object(starting, "matmul_peak", lambda *_: 1e9):
        finetuning.finetune(from_dict(FinetuneRun, values), resume)


def train_and_record(values: dict[str, Any]) -> None:
    """The run; of each update the gradients of this process, and how many labels each of its parts counts."""
    with patch.object(pretraining_runs, "train", train):
        pretraining_runs.train_and_record(values, "counted")


def train_until(values: dict[str, Any], update: int, number: int) -> None:
    """The run; at the beginning of an update (counted from 0), this process gets a signal."""
    with patch.object(pretraining_runs, "train", train):
        pretraining_runs.train_until(values, update, number)


def train_sharded(values: dict[str, Any]) -> None:
    """The run with FSDP2."""
    with patch.object(pretraining_runs, "train_and_record", train):
        pretraining_runs.train_sharded(values)


# --- in other processes --------------------------------------------------------------------------------------------


def run(values: dict[str, Any], processes: int = 1, work: str = "train", *rest: Any, **environment: str) -> Path:
    """A whole run in other processes; its folder."""
    folder = Path(values["run"]["output"])
    log = folder.with_suffix(".stderr")
    server().run(processes, log, f"finetuning_runs:{work}", values, *rest, **environment)
    return folder


def killed_after(values: dict[str, Any], update: int, processes: int = 1) -> Path:
    """A run whose processes were all killed at the beginning of an update."""
    folder = Path(values["run"]["output"])
    log = folder.with_suffix(".stderr")
    started = server().start_many(processes, log, "finetuning_runs:train_until", values, update, signal.SIGKILL)
    for process in started:
        assert process.wait() == -signal.SIGKILL, process.said()[-3000:]
    server().end_orphans()
    return folder


def server() -> warm_processes.Server:
    """The process that has imported all this."""
    return warm_processes.server("finetuning_runs", "datasets")
