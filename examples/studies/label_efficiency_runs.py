"""The runs of `label_efficiency.py`: budgets, networks, and how each is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

#: Labelled minutes of each task, the most telling first.
MINUTES = {
    "digits": (2.0, 0.5, 8.0, 1.0, 4.0),
    "digits-jackson": (2.0, 0.5, 8.0),
    "digits-nicolas": (2.0, 0.5, 8.0),
    "digits-yweweler": (2.0, 0.5, 8.0),
    "german": (5.0, 20.0),
    "english": (5.0, 20.0),
    "dutch": (5.0, 20.0),
    "readers": (20.0,),
}
#: The budgets that have three seeds.
DECIDED = {"digits": (0.5, 2.0, 8.0), "german": (5.0,)}

SECONDS_PER_UPDATE = 16.0


def updates(task: str) -> int:
    """Of every network."""
    return 600 if task.startswith("digits") else 800


@dataclass(frozen=True)
class CnnRnnShape:
    """A size of the classical network."""

    width: int
    learning_rate: float


#: One with as many parameters as the head that is trained above the pretrained body, one with as many as both.
CNN_RNN = {"cnn-rnn": CnnRnnShape(160, 2e-3), "cnn-rnn-large": CnnRnnShape(768, 1e-3)}
KINDS = ("pretrained", "scratch", *CNN_RNN)

#: From random weights everything has to be learnt; the learning rate is half of that of a head that learns alone.
_SCRATCH = [
    "optimizer.learning_rate=1e-3",
    "tuning.freeze_updates=0",
    "model.checkpoint=null",
    "model.preset=small",
    "model.config.feature_grad_mult=1",
    "tuning.keep_features=null",
]


def finetuning_run(kind: str, task: str, seed: int, train: Path, output: Path) -> FinetuneRun:
    """Fine-tuning by the recipe, or training from scratch: all else is equal."""
    settings: dict[str, Any] = {
        "data.train.0.path": train,
        "data.seconds_per_update": SECONDS_PER_UPDATE,
        "run.output": output,
        "run.updates": updates(task),
        "run.save_every": updates(task),
        "run.seed": seed,
        "run.report": "false",
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    return read_run(FinetuneRun, "ctc_small_minutes", overrides + (_SCRATCH if kind == "scratch" else []))
