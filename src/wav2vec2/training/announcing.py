"""What a run says of itself before its first update: on the screen, and in the first line of its log."""

import math
from pathlib import Path
from typing import Any

from wav2vec2.evaluation.provenance import hardware, versions
from wav2vec2.modeling.precision import told_if_slow
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun


def facts_of(
    run: PretrainRun | FinetuneRun, accelerator: Any, model: Any, data: TrainingData, peak: float
) -> dict[str, Any]:
    """All that a figure of this run depends on. No paths and no names of users."""
    hours, seconds = data.hours, run.data.seconds_per_update
    epochs = run.run.updates * seconds / (3600 * hours) if hours else None
    return {
        "recipe": run.origin.recipe,
        "model": run.model.preset or _named(str(run.model.checkpoint)),
        "architecture": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "hours": hours,
        "clips": data.clips,
        "left_out": dict(data.summary.left_out),
        "left_out_of_evaluations": dict(data.valid_left_out),
        "seconds_per_update": seconds,
        "updates": run.run.updates,
        "epochs": epochs,
        "learning_rate": run.optimizer.learning_rate,
        "seed": run.run.seed,
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision.replace("no", "fp32"),
        "distributed": str(accelerator.distributed_type.value).lower(),
        "hardware": hardware(accelerator.device),
        "matmul_peak_tflops": peak / 1e12,
        "versions": versions(),
        "config": model.config.to_diff_dict(),
    }


def _named(checkpoint: str) -> str:
    """A checkpoint by its name on the Hub; a folder by its last name, which says little if it is `model`."""
    path = Path(checkpoint)
    if not path.exists():
        return checkpoint
    names = path.resolve().parts
    return "/".join(names[-2:] if names[-1] == "model" else names[-1:])


def sentences(facts: dict[str, Any], data: TrainingData, begin_at: int) -> list[str]:
    """The facts as one reads them."""
    epochs = "" if facts["epochs"] is None else f", {facts['epochs']:.1f} times through the data"
    lines = [
        f"{facts['architecture']}: {facts['parameters'] / 1e6:.1f} M parameters, "
        f"{facts['trained_parameters'] / 1e6:.1f} M of them trained",
        *data.summary.lines(),
        *_left_out_of_evaluations(data),
        f"{facts['updates']:,} updates of {facts['seconds_per_update']:g} s of audio over {facts['processes']} "
        f"process{'es' if facts['processes'] > 1 else ''}{epochs}",
        f"{facts['precision']} on {facts['hardware']}, matrix products up to {facts['matmul_peak_tflops']:.2f} TFLOP/s",
    ]
    if begin_at >= facts["updates"]:
        return [*lines, f"update {begin_at:,} is done: nothing is left to train. For more, raise run.updates"]
    return [*lines, f"going on after update {begin_at:,}"] if begin_at else lines


def _left_out_of_evaluations(data: TrainingData) -> list[str]:
    counts = ", ".join(f"{count} {reason}" for reason, count in data.valid_left_out.items())
    return [f"  left out of evaluations: {counts}"] if counts else []


def warnings_of(run: PretrainRun | FinetuneRun, accelerator: Any) -> list[str]:
    """What is likely to disappoint."""
    return [*_small_updates(run), *_slow_bfloat16(accelerator)]


def _small_updates(run: PretrainRun | FinetuneRun) -> list[str]:
    recipe, seconds = run.origin.seconds_per_update, run.data.seconds_per_update
    if recipe is None or seconds >= recipe or math.isclose(seconds, recipe):
        return []
    return [
        f"warning: data.seconds_per_update={seconds:g} is below the recipe's {recipe:g}. What a model learns depends "
        "on the audio per update (fairseq issue 3869). Memory is not a reason to lower it: data.seconds_per_batch is "
        "what one process holds at once, and the rest is accumulated."
    ]


def _slow_bfloat16(accelerator: Any) -> list[str]:
    told = told_if_slow(accelerator.device) if accelerator.mixed_precision == "bf16" else None
    return [] if told is None else [f"warning: run.precision=bf16, but {told}. run.precision=fp32 (or auto) is faster"]
