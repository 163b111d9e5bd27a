"""What `wav2vec2 finetune` can learn: for each `--task` the run that describes it, and what starts such a run."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import Run


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
    """Transcripts: CTC."""
    from wav2vec2.training.settings.run_config import FinetuneRun

    def start(run: FinetuneRun, resume: bool) -> object:
        from wav2vec2.training.finetuning import finetune  # which no dry run needs

        return finetune(run, resume)

    return Learnable(FinetuneRun, "ctc", start)


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
