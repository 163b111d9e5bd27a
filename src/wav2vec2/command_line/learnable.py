"""What `wav2vec2 finetune` can learn: for each `--task` the run that describes it, and what starts such a run."""

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import FinetuneRun, Run


class FinetuneTask(StrEnum):
    """What can be learnt from what people wrote down."""

    recognition = "recognition"
    classification = "classification"
    multilabel = "multilabel"
    slots = "slots"
    frames = "frames"


class Learnable(NamedTuple):
    """A `kind` of run, the `name` that its field `task` has in recipes (None: it has no such field), and `start`, which
    takes the run and whether to resume it."""

    kind: "type[Run]"
    name: str | None
    start: Callable[[Any, bool], object]


def recognition() -> Learnable:
    """Transcripts: CTC. A model of phones is then calibrated for `pronounce`."""
    from wav2vec2.training.settings.run_config import FinetuneRun

    def start(run: FinetuneRun, resume: bool) -> object:
        from wav2vec2.training.finetuning import finetune  # which no dry run needs

        output = finetune(run, resume)
        if run.text.phonemes is not None:
            calibrate(run)
        return output

    return Learnable(FinetuneRun, "ctc", start)


def calibrate(run: "FinetuneRun") -> None:
    """Calibrate a finished run's model of phones, if there are validation data; the main process alone."""
    from wav2vec2.pronunciation.calibrating_models import calibrate_model
    from wav2vec2.training.saving.interruption import exit_code

    folder = Path(run.run.output) / "model"
    if run.data.valid and folder.is_dir() and not exit_code() and os.environ.get("RANK", "0") == "0":
        manifests = {Path(source.path): source.text_column or "transcript" for source in run.data.valid}
        calibrate_model(folder, manifests, run.text.phonemes_given)


def classification() -> Learnable:
    """One label for each clip."""
    from wav2vec2.training.classification import classify
    from wav2vec2.training.settings.classification_run import ClassificationRun

    return Learnable(ClassificationRun, "clips", classify)


def multilabel() -> Learnable:
    """Any number of labels for each clip."""
    return classification()._replace(name="multilabel")


def slots() -> Learnable:
    """A value of each slot for each clip."""
    from wav2vec2.training.slots import SlotsRun, learn_slots

    return Learnable(SlotsRun, "slots", learn_slots)


def frames() -> Learnable:
    """A label for every frame, from stretches of a clip: sound events."""
    return classification()._replace(name="frames")


#: A further task is a line here, its name above, and its function.
LEARNABLE: dict[FinetuneTask, Callable[[], Learnable]] = {
    FinetuneTask.recognition: recognition,
    FinetuneTask.classification: classification,
    FinetuneTask.multilabel: multilabel,
    FinetuneTask.slots: slots,
    FinetuneTask.frames: frames,
}


def learnable(task: FinetuneTask | None, said: object) -> Learnable:
    """What `task` names; where it is left out, what the recipe's own `task` says, and recognition where that says
    nothing that is known."""
    if task is not None:
        return LEARNABLE[task]()
    for make in LEARNABLE.values() if said is not None else ():
        if (found := make()).name == said:
            return found
    return recognition()
