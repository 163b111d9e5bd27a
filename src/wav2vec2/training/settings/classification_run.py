"""Runs that learn labels."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from wav2vec2.training.settings.finetuning_sections import TuningSection
from wav2vec2.training.settings.run_config import SupervisedRun
from wav2vec2.training.settings.run_sections import CountOrZero, Share
from wav2vec2.training.settings.typed_values import OneOf, Problem

#: Tasks whose labels are of whole clips.
OF_CLIPS = ("clips", "multilabel")


@dataclass
class ClassificationTuningSection(TuningSection):
    """As for recognition; a head that only averages frames needs no start of its own."""

    freeze_updates: CountOrZero | None = 0


@dataclass(kw_only=True)
class ClassificationRun(SupervisedRun):
    """A run that learns labels. Sources are manifests or shards; `text_column` names the column of the label."""

    #: What has a label: "clips" (one each), "multilabel" (clips, any number each), "frames" (stretches of a clip), or
    #: "speakers" (x-vectors).
    task: Annotated[str, OneOf("clips", "multilabel", "frames", "speakers")] = "clips"
    #: The label of frames that no stretch names; "frames" alone.
    background: str = "none"
    #: The layer of the labels: "auto" keeps a checkpoint's if it has the same labels, "fresh" never does.
    head: Annotated[str, OneOf("auto", "fresh")] = "auto"
    #: Of the rightly named clips of the validation data, the share that the threshold for "none of these" leaves named,
    #: where these data have no clip to which no label belongs; 1 sets no threshold. "clips" alone.
    kept_by_threshold: Share = 0.95
    #: Which weights are trained, and when.
    tuning: ClassificationTuningSection = field(default_factory=ClassificationTuningSection)

    def problems(self) -> Iterator[Problem]:
        """A voice is known by what another speed changes."""
        yield from super().problems()
        if self.task == "speakers" and self.data.speeds:
            yield "data.speeds", "a voice at another speed is another voice: leave it out where voices are learnt"
