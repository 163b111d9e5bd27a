"""Everything that defines a training run: read this file first, then the sections it is made of.

`settings/recipes.py` reads runs from YAML with dotted overrides and checks types and limits; a run that was made in
Python is checked with `recipes.check_run`. `run.json` in the output folder keeps what a run was asked to be.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.training.settings.finetuning_sections import (
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRunSection,
    FinetuneScheduleSection,
    StreamingSection,
    TextSection,
    TuningSection,
)
from wav2vec2.training.settings.pretraining_sections import WarmStartSection
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
from wav2vec2.training.settings.typed_values import OneOf, Problem

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
    "StreamingSection",
    "SupervisedRun",
    "TextSection",
    "TuningSection",
    "WarmStartSection",
    "changes",
    "to_dict",
    "write_run",
]

RUN_FILE = "run.json"

#: What may change between two starts without a word: how often is looked, how much is kept, how fast it goes.
_FREE = (
    *("run.output", "run.log_every", "run.keep", "run.trackers", "run.report", "run.save"),
    *("data.workers", "data.cache", "data.shard_cache_gib", "tuning.keep_features_gib", "origin."),
)

#: Of a source that came or went, its path says enough.
_DETAIL = re.compile(r"data\.(train|valid)\.\d+\.(?!path$).*")


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

    @property
    def warm_updates(self) -> int:
        """Updates at the start in which something simpler is learnt than what the run is for."""
        return 0


@dataclass(kw_only=True)
class PretrainRun(Run):
    """A pretraining run: audio alone."""

    #: What is learnt before the objective.
    warm_start: WarmStartSection = field(default_factory=WarmStartSection)
    #: The entries of a fresh model's codebooks start between -0.5 and 0.5, not between 0 and 1 as published, where they
    #: share one large mean and so look alike to a cosine.
    centred_codebooks: bool = False

    @property
    def warm_updates(self) -> int:
        """Those of the warm start."""
        return self.warm_start.updates

    def problems(self) -> Iterator[Problem]:
        """A warm start leaves something to do, and what is said of a start is said of a fresh model."""
        if self.warm_start.updates >= self.run.updates:
            yield "warm_start.updates", f"must be below run.updates={self.run.updates}, of which they are the first"
        if self.warm_start.updates and self.run.save_in_parts:
            yield "run.save_in_parts", "does not go with a warm start, whose head is taken out of whole weights"
        if self.model.checkpoint is not None:
            if self.warm_start.updates:
                yield "warm_start.updates", "goes with a fresh model (model.preset): a checkpoint has learnt more"
            if self.centred_codebooks:
                yield "centred_codebooks", "goes with a fresh model (model.preset): a checkpoint has its codebooks"
        else:
            # Transformers, which no run needs
            from wav2vec2.training.settings.model_choice import is_ancestor, is_spectrogram_model

            if is_ancestor(self.model.preset):
                yield from self.problems_of_ancestor()
            if is_spectrogram_model(self.model.preset):
                yield "model.preset", "is a network that learns from transcripts or labels alone: fine-tuning trains it"

    def problems_of_ancestor(self) -> Iterator[Problem]:
        """What is asked for that wav2vec of 2019 and vq-wav2vec do not have."""
        for key, asked in (
            ("warm_start.updates", self.warm_start.updates),
            ("centred_codebooks", self.centred_codebooks),
            ("run.attention", self.run.attention),
            ("run.compile", self.run.compile),
            ("run.gradient_checkpointing", self.run.gradient_checkpointing),
        ):
            if asked:
                yield (
                    key,
                    "is for wav2vec 2.0 alone: its ancestors have no Transformer, and an objective of their own",
                )


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

    def problems(self) -> Iterator[Problem]:
        """A network on log-mel energies is not asked for what wav2vec 2.0 has; what needs whole weights saves them."""
        if self.tuning.method != "full" and self.run.save_in_parts:
            yield (
                "run.save_in_parts",
                f"does not go with tuning.method={self.tuning.method}, which writes whole weights",
            )
        if self.model.preset is not None:
            from wav2vec2.training.settings.model_choice import is_spectrogram_model  # Transformers, as above

            if is_spectrogram_model(self.model.preset):
                yield from self.problems_of_spectrogram_model()

    def problems_of_spectrogram_model(self) -> Iterator[Problem]:
        """What is asked for that a network on log-mel energies does not have."""
        for key, asked in (
            ("tuning.freeze_updates", self.tuning.freeze_updates != 0),
            ("tuning.method", self.tuning.method != "full"),
            ("tuning.keep_features", self.tuning.keep_features),
            ("run.attention", self.run.attention),
            ("run.compile", self.run.compile),
            ("run.gradient_checkpointing", self.run.gradient_checkpointing),
        ):
            if asked:
                yield key, "is for wav2vec 2.0 alone: this network has no pretrained body and no Transformer"


@dataclass(kw_only=True)
class FinetuneRun(SupervisedRun):
    """A run that learns to write down speech."""

    #: What is learnt: "ctc", speech recognition.
    task: Annotated[str, OneOf("ctc")] = "ctc"
    #: What happens to transcripts before they are cut into tokens.
    text: TextSection = field(default_factory=TextSection)
    #: Updates that hear as a stream does; null: none.
    streaming: StreamingSection | None = None

    def problems_of_spectrogram_model(self) -> Iterator[Problem]:
        """Also: there is no attention that could be in chunks."""
        yield from super().problems_of_spectrogram_model()
        if self.streaming is not None:
            yield "streaming", "is for wav2vec 2.0 alone: this network hears whole clips"

    def problems(self) -> Iterator[Problem]:
        """Attention in chunks needs one that takes such masks."""
        yield from super().problems()
        if self.streaming is not None and self.run.attention not in (None, "sdpa", "eager"):
            yield "run.attention", "must be sdpa or eager where there is a streaming section"


def to_dict(run: Run) -> dict[str, Any]:
    """The whole run as JSON can hold it: every field with its value. `recipes.from_dict` gives the same run again."""
    plain = _plain(asdict(run))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def write_run(run: Run, output: Path) -> None:
    """The resolved run, whole or not at all, so that it can be repeated."""
    output.mkdir(parents=True, exist_ok=True)
    with replaced_file(output / RUN_FILE) as file:
        file.write((json.dumps(to_dict(run), indent=2) + "\n").encode())


def changes(run: Run, output: Path) -> list[str]:
    """How a run that goes on differs from the one that began, a sentence each."""
    path = output / RUN_FILE
    if not path.is_file():
        return []
    before, now = _leaves(json.loads(path.read_text(encoding="utf-8"))), _leaves(to_dict(run))
    return [
        f"changed since the run began: {key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(_FREE) and not _is_told_elsewhere(key, before, now)
    ]


def _is_told_elsewhere(key: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """An empty list or section that is filled, or the details of what fills it: the new value's main key tells."""
    empty = {repr(before.get(key)), repr(now.get(key))} in ({"[]", "None"}, {"{}", "None"})
    return empty or ((key not in before or key not in now) and _DETAIL.fullmatch(key) is not None)


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values."""
    if isinstance(tree, dict) and tree:
        items = tree.items()
    elif isinstance(tree, list) and tree:
        items = {str(index): value for index, value in enumerate(tree)}.items()
    else:
        return {prefix: tree}
    return {
        key: value for name, child in items for key, value in _leaves(child, f"{prefix}.{name}".lstrip(".")).items()
    }
