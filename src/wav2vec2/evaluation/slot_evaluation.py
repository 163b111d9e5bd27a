"""From a model that fills slots and a manifest to figures, with what was said and heard in each clip."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import EvaluatedModel, Failure
from wav2vec2.evaluation.evaluation_run import RecognitionReport, recordings_by_name, without_paths
from wav2vec2.evaluation.provenance import hardware, sha256_of, versions
from wav2vec2.evaluation.slot_scoring import SlotScores, slot_scores
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.tab_separated import table
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.slot_reader import Filled, SlotReader
from wav2vec2.processing.manifests import Recording
from wav2vec2.processing.slot_tables import slots_of_text, text_in
from wav2vec2.processing.slot_texts import read_slots

#: The column of slots where a clip has no marked text.
_COLUMN = "slots"


@dataclass(frozen=True)
class SlotEvaluation:
    """All figures, and what they were measured with. It holds names, never paths."""

    #: Which model was measured.
    model: EvaluatedModel
    #: The name of the manifest.
    manifest: str
    #: Its SHA-256.
    manifest_sha256: str
    #: How the intervals were made.
    resampling: Resampling
    #: The figures.
    scores: SlotScores
    #: The recordings that could not be read.
    failures: list[Failure]
    #: Python and the packages that results depend on.
    versions: dict[str, str]
    #: The processor, its cores, and the accelerator.
    hardware: str

    def to_json(self) -> str:
        """The content of `evaluation.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class EvaluatedSlots:
    """The figures, and by the name of each clip what was said and what was heard."""

    evaluation: SlotEvaluation
    clips: dict[str, tuple[Mapping[str, list[str]], Filled]]


def evaluate_slots_of(
    reader: SlotReader,
    model: EvaluatedModel,
    manifest: Path,
    how: Resampling,
    report: RecognitionReport | None = None,
) -> EvaluatedSlots:
    """Fill the slots of all clips of a manifest and compare. Recordings that cannot be read are listed and left out."""
    recordings = recordings_by_name(manifest)
    said = {name: said_slots(one, manifest, reader.names) for name, one in recordings.items()}
    inputs = (AudioInput(str(one.path), one.path) for one in recordings.values())
    found = []
    for one in reader.read_each(inputs, None if report is None else report.advance):
        found.append(one)
        if report is not None:
            report.finished(one.path)
    failures = [
        Failure(name, without_paths(one.error, name, recordings[name].path, manifest))
        for name, one in zip(recordings, found, strict=True)
        if one.error is not None
    ]
    clips = {name: (said[name], one) for name, one in zip(recordings, found, strict=True) if one.error is None}
    if not clips:
        first = failures[0].reason if failures else "it has no lines"
        raise ValueError(f"{manifest}: none of its {len(recordings)} recordings could be evaluated: {first}")
    scores = slot_scores([one for one, _ in clips.values()], [heard.values for _, heard in clips.values()], how)
    evaluation = SlotEvaluation(
        model, manifest.name, sha256_of(manifest), how, scores, failures, versions(), hardware(reader.model.device)
    )
    return EvaluatedSlots(evaluation, clips)


def said_slots(recording: Recording, where: Path, names: list[str]) -> Mapping[str, list[str]]:
    """What a manifest says of a clip: in its column `slots`, or in a column for each slot (`names`), or marked in its
    transcript."""
    try:
        columns = [name for name in names if name in recording.others]
        text = text_in(recording, _COLUMN)
        if text is None and columns:
            return {name: [recording.others[name]] for name in columns if recording.others[name].strip()}
        if text is not None:
            return {name: [value] for name, value in slots_of_text(text).items()}
        if recording.transcript is not None:
            return read_slots(recording.transcript).values
    except ValueError as error:
        raise ValueError(f"{where}: {recording.path.name}: {error}") from error
    raise ValueError(
        f"{where}: the header has no column {_COLUMN}, none that is called as a slot ({', '.join(names)}), and no "
        "transcript that marks slots"
    )


def save_slot_evaluation(found: EvaluatedSlots, folder: Path) -> None:
    """`evaluation.json`, and `clips.tsv` with what was said and heard in each clip."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [["id", "said", "heard", "text"]]
    for name, (said, heard) in found.clips.items():
        shown = [json.dumps(one, ensure_ascii=False) for one in (said, heard.values)]
        lines.append([name, *shown, heard.text or ""])
    for name, content in (("evaluation.json", found.evaluation.to_json()), ("clips.tsv", table(lines))):
        with replaced_file(folder / name) as stream:
            stream.write(content.encode("utf-8"))
