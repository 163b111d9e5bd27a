"""Everything that defines a training run: read this file first, then the sections it is made of.

`settings/recipes.py` reads runs from YAML with dotted overrides and checks types and limits; a run that was made in
Python is checked with `recipes.check_run`.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from wav2vec2.training.settings.finetuning_sections import (
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRunSection,
    FinetuneScheduleSection,
    TextSection,
    TuningSection,
)
from wav2vec2.training.settings.run_sections import (
    DataSection,
    GuardSection,
    ModelSection,
    OptimizerSection,
    RecipeOrigin,
    RunSection,
    ScheduleSection,
    Source,
)
from wav2vec2.training.settings.typed_values import OneOf

__all__ = [
    "DataSection",
    "FinetuneDataSection",
    "FinetuneModelSection",
    "FinetuneOptimizerSection",
    "FinetuneRun",
    "FinetuneRunSection",
    "FinetuneScheduleSection",
    "GuardSection",
    "ModelSection",
    "OptimizerSection",
    "PretrainRun",
    "RecipeOrigin",
    "Run",
    "RunSection",
    "ScheduleSection",
    "Source",
    "SupervisedRun",
    "TextSection",
    "TuningSection",
    "to_dict",
]


@dataclass(kw_only=True)
class Run:
    """What every training run has, whatever it learns."""

    #: The model that is trained.
    model: ModelSection
    #: The audio.
    data: DataSection
    #: The optimizer.
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    #: The learning rate over the updates.
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    #: How long, where to, and how the machine is used.
    run: RunSection
    #: What stops a run that has gone wrong.
    guards: GuardSection = field(default_factory=GuardSection)
    #: Where the run came from; the reader of recipes fills it.
    origin: RecipeOrigin = field(default_factory=RecipeOrigin)


@dataclass(kw_only=True)
class PretrainRun(Run):
    """A pretraining run: audio alone."""


@dataclass(kw_only=True)
class SupervisedRun(Run):
    """A run that learns something that people have written down, with the paper's choices for fine-tuning."""

    #: The pretrained model, or a fresh one.
    model: FinetuneModelSection
    #: The labelled audio.
    data: FinetuneDataSection
    #: Which weights are trained, and when.
    tuning: TuningSection = field(default_factory=TuningSection)
    #: The optimizer.
    optimizer: FinetuneOptimizerSection = field(default_factory=FinetuneOptimizerSection)
    #: The learning rate over the updates.
    schedule: FinetuneScheduleSection = field(default_factory=FinetuneScheduleSection)
    #: How long, where to, and how the machine is used.
    run: FinetuneRunSection


@dataclass(kw_only=True)
class FinetuneRun(SupervisedRun):
    """A run that learns to write down speech."""

    #: What is learnt: "ctc", speech recognition.
    task: Annotated[str, OneOf("ctc")] = "ctc"
    #: What happens to transcripts before they are cut into tokens.
    text: TextSection = field(default_factory=TextSection)


def to_dict(run: Run) -> dict[str, Any]:
    """The whole run as JSON can hold it: every field with its value. `recipes.from_dict` gives the same run again."""
    plain = _plain(asdict(run))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
