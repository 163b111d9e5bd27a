"""Runs the Python of a page, in a process that has imported what such pages import."""

import os
import warnings
from pathlib import Path

import torch  # noqa: F401 (for the fork)
import transformers  # noqa: F401

import wav2vec2
from wav2vec2 import FinetuneRun, Transcriber, Wav2Vec2ForPreTraining, Wav2Vec2Processor
from wav2vec2.training import finetuning

#: What takes long to import, and is in memory when a page starts.
IMPORTED = (Transcriber, Wav2Vec2ForPreTraining, Wav2Vec2Processor)


def finetune_briefly(run: FinetuneRun, resume: bool = True) -> Path:
    """Two updates of a second, of the head and of all."""
    run.run.updates, run.run.attention, run.run.report = 2, "eager", False
    run.tuning.freeze_updates = 1
    run.data.max_seconds = run.data.seconds_per_update = run.data.seconds_per_batch = 2.0
    run.data.workers, run.data.on_problems = 0, "warn"
    return finetuning.finetune(run, resume)


def run(code: str, name: str, folder: str) -> None:
    """As a script of its own would, with warnings as errors; trainings are cut short."""
    os.chdir(folder)
    warnings.simplefilter("error")
    wav2vec2.finetune = finetune_briefly
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
