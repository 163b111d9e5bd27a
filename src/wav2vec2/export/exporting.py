"""`export_model`: a folder that another runtime reads, written whole or not at all, and checked before it counts."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from wav2vec2.export.agreement import agreement
from wav2vec2.export.checkpoint import Checkpoint, load_checkpoint
from wav2vec2.export.export_card import RECORD, Figures, write_card
from wav2vec2.export.for_onnx import OnnxTarget
from wav2vec2.export.for_openvino import OpenVinoTarget
from wav2vec2.export.for_sherpa_onnx import SherpaOnnxTarget
from wav2vec2.export.for_transformers_js import TransformersJsTarget
from wav2vec2.export.probe_clips import whole_clips
from wav2vec2.export.refusal import DisagreementError, ExportError
from wav2vec2.export.targets import Precision, Target, weight_files_of
from wav2vec2.export.word_errors import word_errors
from wav2vec2.processing.audio_sources import Source

#: By the name that `--to` takes.
TARGETS: dict[str, Target] = {
    one.name: one for one in (OnnxTarget(), SherpaOnnxTarget(), TransformersJsTarget(), OpenVinoTarget())
}


@dataclass(frozen=True)
class Exported:
    """A folder that was written, and what was measured of it."""

    folder: Path
    target: str
    figures: dict[Precision, Figures]

    @property
    def too_many_errors(self) -> list[Precision]:
        """The precisions whose word error rate is clearly above torch's: by more than 0.5 points, and not by chance."""
        measured = {precision: one.word_errors for precision, one in self.figures.items()}
        return [precision for precision, one in measured.items() if one is not None and one.too_much]


def export_model(
    model: str | Path,
    to: str,
    output: str | Path | None = None,
    int8: bool = False,
    language: str | None = None,
    audio: Sequence[Source] = (),
    data: str | Path | None = None,
) -> Exported:
    """Write a checkpoint (a folder or a name on the Hub) for another runtime: `to` is "onnx", "sherpa-onnx",
    "transformers.js" or "openvino". The folder is `output`, by default `<model>-<to>` here.

    With `int8` there is a second file with linear layers in 8 bits. `language` chooses one of several (MMS). Each file
    is compared with torch in its own runtime, on the clips in `audio` or a made one: numbers and texts. With `data`,
    a manifest with transcripts, both word error rates go into the card as well. What cannot be held, or is not the
    same, is an `ExportError`, and nothing is left; a folder whose error rate rose is left, and says so.
    """
    if to not in TARGETS:
        raise ExportError(f"to={to!r}: must be one of {', '.join(TARGETS)}")
    target, source = TARGETS[to], str(model)
    place = Path(output) if output is not None else Path(f"{Path(source).name}-{to}")
    _check_free(place)
    checkpoint = load_checkpoint(source, language)
    target.refuse(checkpoint)
    check_data(checkpoint, data)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f"{place.name}.{uuid4().hex[:8]}.partial")
    unfinished.mkdir()
    try:
        figures = _written(target, checkpoint, unfinished, int8, audio, None if data is None else Path(data))
        write_card(target, checkpoint, unfinished, place.name, figures)
        if place.exists():
            shutil.rmtree(place)
        unfinished.replace(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(place, to, figures)


def check_data(checkpoint: Checkpoint, data: str | Path | None) -> None:
    """Refuse a manifest for a model that writes no text."""
    if data is not None and not checkpoint.writes_text:
        what = f"{checkpoint.source}: a model for {checkpoint.head.purpose}"
        raise ExportError(f"{what} has no word errors: leave `data` out")


def _check_free(place: Path) -> None:
    """Refuse a folder that holds something else than an earlier export, which is replaced."""
    if place.is_dir() and any(place.iterdir()) and not (place / RECORD).is_file():
        raise ExportError(f"{place}: is not empty, and no export: give another output")
    for one in (place, *place.parents):
        if one.exists() and not one.is_dir():
            raise ExportError(f"{one}: is a file: give a folder")


def _written(
    target: Target, checkpoint: Checkpoint, folder: Path, int8: bool, audio: Sequence[Source], data: Path | None
) -> dict[Precision, Figures]:
    """Write the files of a target, and measure them."""
    target.write(checkpoint, folder, int8)
    target.write_settings(checkpoint, folder)
    files = weight_files_of(target, folder)
    clips = whole_clips(audio, checkpoint.extractor.sampling_rate)
    try:
        agreements = {one: agreement(target, checkpoint, folder, one, clips) for one in files}
    except DisagreementError as error:
        raise ExportError(f"{error}: not exported") from error
    errors = {}
    if data is not None:
        errors = word_errors(checkpoint, {one: target.opened(checkpoint, folder, one) for one in files}, data)
    return {
        precision: Figures(
            names, sum((folder / name).stat().st_size for name in names), agreements[precision], errors.get(precision)
        )
        for precision, names in files.items()
    }
