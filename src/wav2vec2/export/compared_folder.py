"""What is looked at in a folder that was exported before, beside the model: its files, then each precision."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wav2vec2.export.agreement import agreement
from wav2vec2.export.checkpoint import Array, Checkpoint, load_checkpoint
from wav2vec2.export.export_card import Figures
from wav2vec2.export.exporting import TARGETS, check_data
from wav2vec2.export.probe_clips import cuts, whole_clips
from wav2vec2.export.refusal import DisagreementError, in_a_line
from wav2vec2.export.right_settings import wrong_settings
from wav2vec2.export.targets import Precision, weight_files_of
from wav2vec2.export.word_errors import word_errors

#: As much is told of what a runtime says.
_REASON = 300


@dataclass(frozen=True)
class Comparison:
    """A model, and what folders and it are tried on."""

    #: What is right.
    checkpoint: Checkpoint
    #: Samples (S,), of which cuts are tried too.
    clips: Sequence[Array]
    #: A manifest with transcripts; None where error rates are not asked for.
    data: Path | None
    #: How long the model takes in torch.
    seconds: float

    @classmethod
    def of(cls, model: str, language: str | None, audio: Sequence[str], data: str | None) -> "Comparison":
        """Load the model and the clips, and run it on them."""
        checkpoint = load_checkpoint(model, language)
        check_data(checkpoint, data)
        clips = whole_clips(audio, checkpoint.extractor.sampling_rate)
        began = time.perf_counter()
        for clip in clips:
            for cut in cuts(clip, checkpoint.config):
                checkpoint.outputs(cut)
        seconds = time.perf_counter() - began
        return cls(checkpoint, clips, None if data is None else Path(data), seconds)

    def settings(self, target: str, folder: str) -> list[str]:
        """What is wrong with the files beside the weights."""
        return wrong_settings(TARGETS[target], self.checkpoint, Path(folder))

    def figures(self, target: str, folder: str, precision: str, ready: Callable[[], None]) -> Figures | str:
        """What is measured of a precision, or what is wrong with it. `ready` is called when nothing of the folder is
        new any more, before its error rate is measured."""
        chosen, place, which = TARGETS[target], Path(folder), Precision(precision)
        try:
            found = agreement(chosen, self.checkpoint, place, which, self.clips)
        except ImportError:
            raise
        except DisagreementError as error:
            return f"{chosen.files[which]}: {in_a_line(str(error), _REASON)}"
        except Exception as error:  # of whatever kind a runtime has for what it cannot read
            reason = in_a_line(str(error), _REASON) or type(error).__name__
            return f"{chosen.files[which]}: cannot be run ({reason}); export the model again"
        ready()
        errors = None
        if self.data is not None:
            runtime = chosen.opened(self.checkpoint, place, which)
            errors = word_errors(self.checkpoint, {which: runtime}, self.data)[which]
        names = weight_files_of(chosen, place)[which]
        return Figures(names, sum((place / name).stat().st_size for name in names), found, errors)
