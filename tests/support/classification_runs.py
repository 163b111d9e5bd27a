"""Tiny runs of classification, and the tones that they learn."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from training_audio import RATE

from wav2vec2.training.classification import read_classification

#: A model of seconds: short convolutions, frames of 320 samples.
TINY = [
    "model.preset=tiny",
    "model.config={conv_dim: [32, 32], conv_kernel: [80, 32], conv_stride: [20, 16], hidden_size: 48, "
    "num_attention_heads: 4, num_hidden_layers: 2, intermediate_size: 96, num_conv_pos_embeddings: 16, "
    "num_conv_pos_embedding_groups: 4, classifier_proj_size: 32, tdnn_dim: [32, 32], tdnn_kernel: [3, 1], "
    "tdnn_dilation: [1, 1], xvector_output_dim: 16, layerdrop: 0.0, mask_time_prob: 0.0, "
    "mask_feature_prob: 0.0, feature_grad_mult: 1.0, activation_dropout: 0.0}",
    "data.workers=0",
    "data.min_seconds=0.1",
    "data.max_seconds=4",
    "run.precision=fp32",
    "run.report=false",
    "run.log_every=10",
    "optimizer.learning_rate=3e-3",
]


def tone(pitch: float, seconds: float, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * pitch * time + generator.uniform(0, 6)) + 0.05 * generator.standard_normal(
        len(time)
    )


def write(folder: Path, rows: list[tuple[str, Any, str, str]]) -> Path:
    """Clips (name, samples, speaker, label) as files, and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tduration\tspeaker\tlabel"]
    for name, samples, speaker, label in rows:
        soundfile.write(folder / name, samples, RATE)
        lines.append(f"{name}\t{len(samples) / RATE}\t{speaker}\t{label}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.tsv"


def of_run(task: str, train: Path, valid: Path, output: Path, updates: int, *more: str) -> Any:
    given = [f"data.train.0.path={train}", f"data.valid.0.path={valid}", f"run.output={output}", *TINY]
    every = [f"run.updates={updates}", f"run.evaluate_every={updates}", f"run.save_every={updates}"]
    sizes = ["data.seconds_per_update=12", "data.seconds_per_batch=12"]
    return read_classification(task, [*given, *sizes, *every, *more])


def tones(folder: Path, count: int, first: int) -> Path:
    """High and low tones of different lengths."""
    pitches = {"low": 200.0, "middle": 700.0, "high": 2500.0}
    rows = [
        (f"{label}{number}.wav", tone(pitch, 0.4 + 0.05 * (number % 7), first + number), "", label)
        for number in range(count)
        for label, pitch in pitches.items()
    ]
    return write(folder, rows)
