"""The labels of a run's data, as manifests and shards have them, and a manifest of stretches.

A label stands in the column `label`, else `transcript`, or in the one that a source names. Where a clip has several,
they stand there with a semicolon between them.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2.inference.label_rule import NONE, several_labels
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.source_reading import are_shards
from wav2vec2.training.settings.classification_run import OF_CLIPS, ClassificationRun
from wav2vec2.training.settings.run_config import Source
from wav2vec2.training.tasks.classification_task import segments_of

if TYPE_CHECKING:
    from wav2vec2.training.data.shard_table import ShardTable

#: Columns that hold the label where none is named, in this order.
_COLUMNS = ("label", "transcript")


def choose_columns(run: ClassificationRun) -> None:
    """Fill in the column of the label where none is named: `label`, else `transcript`."""
    for source in [*run.data.train, *run.data.valid]:
        path = Path(source.path)
        if run.task == "speakers" or source.text_column is not None:
            continue
        if are_shards(source):
            source.text_column = "label" if shards_of(run, source, with_text=False).index.has("label") else None
            continue
        if not path.is_file():
            continue
        try:
            with path.open(encoding="utf-8-sig") as file:
                header = file.readline().rstrip("\r\n").split("\t")
        except UnicodeDecodeError as error:
            raise TrainingDataError(f"{path}: is no text; labels are read from a manifest (.tsv) or shards") from error
        source.text_column = next((name for name in _COLUMNS if name in header), None)
        if source.text_column is None:
            raise TrainingDataError(f"{path}: the header has neither of the columns {' and '.join(_COLUMNS)}")


def labels_of(run: ClassificationRun) -> list[str]:
    """The labels of the training data in alphabetical order; the evaluation's must be among them, or `none`, which
    says that a clip has none of them."""
    own, others = _labels_in(run, run.data.train), _labels_in(run, run.data.valid)
    of_frames, least = run.task == "frames", 2 if run.task in ("clips", "speakers") else 1
    own -= {run.background} if of_frames else {NONE} if run.task == "multilabel" else set()
    if len(own) < least:
        raise TrainingDataError(f"data.train: {len(own)} label(s) in all ({', '.join(own)}); there is nothing to learn")
    labels = ([run.background] if of_frames else []) + sorted(own)
    unknown = sorted(others - set(labels) - ({NONE} if run.task in OF_CLIPS else set()))
    if unknown and run.task != "speakers":
        raise TrainingDataError(f"data.valid: labels that no training clip has: {', '.join(map(repr, unknown[:10]))}")
    return labels


def _labels_in(run: ClassificationRun, sources: list[Source]) -> set[str]:
    found: set[str] = set()
    for source in sources:
        for clip in _clips_in_shards(run, source) if are_shards(source) else _clips_of(source):
            try:
                found |= _labels_of_clip(run.task, clip, source.text_column or "transcript")
            except ValueError as error:
                raise TrainingDataError(f"{source.path}: {clip.path.name}: {error}") from error
    return found


def shards_of(run: ClassificationRun, source: Source, *, with_text: bool) -> "ShardTable":
    """The clips of a source that is shards."""
    from wav2vec2.training.data.shard_table import open_shards  # pyarrow, which manifests do not need

    return open_shards(source, run.data, "", with_text=with_text)


def _clips_in_shards(run: ClassificationRun, source: Source) -> list[Recording]:
    """For all clips of shards that say the same, one."""
    table, column = shards_of(run, source, with_text=run.task != "speakers"), source.text_column or "transcript"
    if run.task == "speakers":
        return [Recording(Path("a clip"), speaker=name) for name in table.index.distinct("speaker")]
    return [
        Recording(Path(f"a clip with {text!r}"), transcript=text, others={column: text or ""})
        for text in table.index.distinct(table.text)
    ]


def _clips_of(source: Source) -> list[Recording]:
    try:
        return list(read_manifest(source.path))
    except OSError as error:
        raise TrainingDataError(f"{source.path}: the manifest cannot be read ({error.strerror})") from error


def _labels_of_clip(task: str, clip: Recording, column: str) -> set[str]:
    if task == "speakers":
        if not clip.speaker:
            raise ValueError("has no `speaker`")
        return {clip.speaker}
    text = clip.transcript if column == "transcript" else clip.others.get(column)
    if not text:
        return set()
    if task == "frames":
        return {label for _, _, label in segments_of(text)}
    return set(several_labels(text)) if task == "multilabel" else {text}


def manifest_with_segments(manifest: Path, segments: Path, target: Path) -> Path:
    """Write `target`, a manifest with a column `label`, from a manifest and a table of stretches; `target`.

    The table is TAB separated with the header `path start end label`, seconds, paths as in the manifest. A clip of
    which it says nothing is left out, since no one looked at it; name one stretch of a clip that is all background.
    """
    lines = segments.read_text(encoding="utf-8-sig").splitlines()
    if not lines or lines[0].split("\t") != ["path", "start", "end", "label"]:
        raise TrainingDataError(f"{segments}: the header must be `path start end label`, separated by TAB")
    stretches: dict[Path, list[str]] = {}
    for number, line in enumerate(lines[1:], 2):
        values = line.split("\t")
        if len(values) != 4:
            raise TrainingDataError(f"{segments}, line {number}: {len(values)} columns, but the header has 4")
        name, start, end, label = values
        stretch = f"{start}-{end} {label}"
        try:
            segments_of(stretch)
        except ValueError as error:
            raise TrainingDataError(f"{segments}, line {number}: {error}") from error
        stretches.setdefault(manifest.parent / name, []).append(stretch)
    rows = ["path\tduration\tlabel"]
    for clip in read_manifest(manifest):
        if clip.path in stretches:
            where = os.path.relpath(clip.path, target.parent)
            duration = "" if clip.duration is None else f"{clip.duration}"
            rows.append(f"{where}\t{duration}\t{'; '.join(stretches[clip.path])}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return target
