"""Everything that defines a training run: read this file first, then the sections it is made of.

`settings/recipes.py` reads runs from YAML with dotted overrides and checks types and limits; a run that was made in
Python is checked with `recipes.check_run`.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from wav2vec2.training.settings.field_limits import OneOf
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
    "RunSection",
    "ScheduleSection",
    "Source",
    "TextSection",
    "TuningSection",
    "to_dict",
]


@dataclass(kw_only=True)
class PretrainRun:
    """A pretraining run."""

    model: ModelSection
    data: DataSection
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    run: RunSection
    guards: GuardSection = field(default_factory=GuardSection)
    origin: RecipeOrigin = field(default_factory=RecipeOrigin)


@dataclass(kw_only=True)
class FinetuneRun:
    """A fine-tuning run."""

    #: What is learnt: "ctc", speech recognition.
    task: Annotated[str, OneOf("ctc")] = "ctc"
    model: FinetuneModelSection
    data: FinetuneDataSection
    text: TextSection = field(default_factory=TextSection)
    tuning: TuningSection = field(default_factory=TuningSection)
    optimizer: FinetuneOptimizerSection = field(default_factory=FinetuneOptimizerSection)
    schedule: FinetuneScheduleSection = field(default_factory=FinetuneScheduleSection)
    run: FinetuneRunSection
    guards: GuardSection = field(default_factory=GuardSection)
    origin: RecipeOrigin = field(default_factory=RecipeOrigin)


def to_dict(run: Any) -> dict[str, Any]:
    """The whole run as JSON can hold it: every field with its value. `recipes.from_dict` gives the same run again."""
    plain = _plain(asdict(run))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
