"""Logs of runs: folders of runs that never ran, with the curves that real ones have, and what two runs must share."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2.training.progress.training_log import TrainingLog

FACTS: dict[str, Any] = {
    "recipe": "tiny_cpu.yaml",
    "model": "tiny",
    "parameters": 3_012_345,
    "hours": 5.4,
    "updates": 4000,
    "seed": 1,
    "hardware": {"device": "cpu", "threads": 2},
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    "config": {"hidden_size": 192, "num_negatives": 100},
}

#: What an evaluation of pretraining tells.
EVALUATED = ("loss", "contrastive", "bits", "diversity", "penalty", "accuracy", "code_perplexity", "masked_share")


def pretraining_figures(update: int, generator: np.random.Generator) -> dict[str, Any]:
    """What a tiny run logs: chance for 250 updates, then a rise; perplexity from 43 to 62 to 55."""
    accuracy = float(np.interp(update, [0, 250, 900, 4000], [0.016, 0.016, 0.09, 0.23]) + generator.normal(0, 0.004))
    codes = float(np.interp(update, [0, 500, 2000, 4000], [43, 62, 55, 54]))
    bits = 6.66 - 8 * max(accuracy - 0.01, 0) + float(generator.normal(0, 0.03))
    return {
        "epoch": update / 800,
        "loss": bits * 0.693 + 0.12,
        "contrastive": bits * 0.693,
        "bits": bits,
        "diversity": 1 - codes / 64 + float(generator.normal(0, 0.005)),
        "penalty": 0.8 * float(np.exp(-update / 900)) + 0.02,
        "accuracy": accuracy,
        "code_perplexity": [codes + float(generator.normal(0, 1)), codes - 9 + float(generator.normal(0, 1))],
        "positive_negative_share": 0.03 + 0.1 * float(np.exp(-update / 200)),
        "masked_share": 0.49,
        "gradient_norm": float(np.exp(generator.normal(0.2, 0.3))),
        "learning_rate": 5e-4 * min(update / 320, max(4000 - update, 0) / 3680),
        "temperature": max(2 * 0.9995**update, 0.5),
        "seconds_per_update": 350.0,
        "audio_seconds_per_second": 140 + float(generator.normal(0, 4)),
        "padding_share": 0.04,
        "data_wait_share": 0.012,
        "peak_fraction": 0.46 + float(generator.normal(0, 0.01)),
        "peak_memory_gib": 2.3,
        "wall_seconds": 25.0,
        "skipped": int(update % 200 == 0),
    }


def pretraining_run(
    folder: Path, last: int = 4000, every: int = 10, evaluate_every: int = 500, **facts: Any
) -> list[dict[str, Any]]:
    """A pretraining run up to an update; the figures of its training lines."""
    generator = np.random.default_rng(0)
    logged = []
    with TrainingLog(folder, quiet=True) as log:
        log.header(FACTS | facts)
        for update in range(every, last + 1, every):
            logged.append(pretraining_figures(update, generator))
            log.training(update, logged[-1])
            if update % evaluate_every == 0:
                evaluated = pretraining_figures(update, generator)
                log.evaluation(update, {name: evaluated[name] for name in EVALUATED})
                log.codes(update, (generator.gamma(0.6, 300, (2, 64)) * (generator.random((2, 64)) > 0.1)).astype(int))
    return logged


def finetuning_run(folder: Path, last: int = 2000, every: int = 20) -> None:
    """A fine-tuning run through its blank plateau."""
    generator = np.random.default_rng(1)
    with TrainingLog(folder, quiet=True) as log:
        log.header(FACTS | {"recipe": "base_10min.yaml", "updates": last})
        for update in range(every, last + 1, every):
            done = float(1 / (1 + np.exp(-(update - 700) / 120)))
            loss = 2.9 * (1 - done) + 0.3 + float(generator.normal(0, 0.05))
            log.training(update, {"loss": loss, "blank_share": 1 - 0.4 * done, "gradient_norm": 2.0 + loss})
            if update % 200 == 0:
                texts = [["clip-1", "seven four", "seven four"], ["clip-2", "<one> two", "one <two"]]
                rates = {
                    "loss": loss + 0.1,
                    "wer": 1 - 0.8 * done,
                    "cer": 1 - 0.9 * done,
                    "blank_share": 1 - 0.4 * done,
                }
                log.evaluation(update, rates | {"samples": texts})


#: What depends on the machine and the moment. All else of a line is the same when a run is killed and resumed.
TIMING_FIELDS = frozenset(
    {
        "wall_seconds",
        "audio_seconds_per_second",
        "data_wait_share",
        "matmul_peak_tflops",
        "peak_fraction",
        "peak_memory_gib",
        "kept_share",  # of a run that is resumed nothing is kept at first
    }
)


def without_timing(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What two runs of the same seed and data have in common: no timing fields, no lines about a later start."""
    return [
        {name: value for name, value in line.items() if name not in TIMING_FIELDS}
        for line in lines
        if line.get("kind") != "resume"
    ]
