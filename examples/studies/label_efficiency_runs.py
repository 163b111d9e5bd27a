"""The runs of `label_efficiency.py`: budgets, networks, and how each is trained."""

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


#: From random weights everything has to be learnt; the learning rate is half of that of a head that learns alone.
_SCRATCH = [
    "optimizer.learning_rate=1e-3",
    "tuning.freeze_updates=0",
    "model.checkpoint=null",
    "model.preset=small",
    "model.config.feature_grad_mult=1",
    "tuning.keep_features=null",
]
#: The recipe of each network, and what is changed in it. Of the classical one there is a size with as many parameters
#: as the head that is trained above the pretrained body, and one with as many as both.
KINDS: dict[str, tuple[str, list[str]]] = {
    "pretrained": ("ctc_small_minutes", []),
    "scratch": ("ctc_small_minutes", _SCRATCH),
    "cnn-rnn": ("ctc_crnn", []),
    "cnn-rnn-large": ("ctc_crnn", ["model.preset=crnn_large", "optimizer.learning_rate=1e-3"]),
}


def finetuning_run(kind: str, task: str, seed: int, train: Path, output: Path) -> FinetuneRun:
    """By the recipe of the kind: the same audio in as many updates as the others."""
    settings: dict[str, Any] = {
        "data.train.0.path": train,
        "data.seconds_per_update": SECONDS_PER_UPDATE,
        "run.output": output,
        "run.updates": updates(task),
        "run.save_every": updates(task),
        "run.seed": seed,
        "run.report": "false",
    }
    recipe, changes = KINDS[kind]
    return read_run(FinetuneRun, recipe, [f"{name}={value}" for name, value in settings.items()] + changes)
