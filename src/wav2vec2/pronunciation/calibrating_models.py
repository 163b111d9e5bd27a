"""At the end of a fine-tuning with phones: its scores of pronunciation are calibrated on its validation data."""

from collections.abc import Mapping
from pathlib import Path

import typer

from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.pronunciation.asked_for import WORD_MARK
from wav2vec2.pronunciation.calibrating import calibrated_on
from wav2vec2.pronunciation.calibration import CALIBRATION_FILE

#: More recordings than that, evenly drawn, say nothing more of a curve of three weights.
_MOST = 200

#: Transcripts of phones do not say where words end: so many are taken for one.
_PHONES_OF_A_WORD = 4


def calibrate_model(folder: Path, manifests: Mapping[Path, str], has_phones: bool) -> None:
    """Save the calibration beside a model of phones, by manifests, each with its column of what was said: texts, or
    phones with blanks between them (`has_phones`).

    All is taken to be said so. Validation data have chosen the checkpoint of a run, but nothing was learnt from them.
    A recording with a phone that the model never learnt, or that cannot be read, is left out. What stands against all
    of it is told, and ends nothing: the model is there.
    """
    left_out: list[str] = []
    try:
        recordings = [one for path, column in manifests.items() for one in _recordings(path, column, has_phones)]
        content = b"".join(path.read_bytes() for path in manifests)
        name = ", ".join(path.name for path in manifests)
        recordings = recordings[:: -(-len(recordings) // _MOST) or 1]
        found = calibrated_on(Transcriber.from_pretrained(folder), recordings, name, content, left_out=left_out)
    except (ValueError, OSError) as error:
        typer.echo(f"warning: scores of pronunciation are not calibrated: {error}", err=True)
        return
    if left_out:
        told = f"pronunciation: calibrated without {len(left_out)} of {len(recordings)} recordings"
        typer.echo(f"{told}; the first of them: {left_out[0]}", err=True)
    found.save(folder / CALIBRATION_FILE)
    typer.echo(f"pronunciation: {found.in_words()}", err=True)


def _recordings(path: Path, column: str, has_phones: bool) -> list[Recording]:
    """What was said in the clips of a manifest, as `calibrated_on` takes it."""
    found = []
    for one in read_manifest(path):
        text = (one.transcript if column == "transcript" else one.others.get(column)) or ""
        said = text.split()
        phones: dict[str, str] = {}
        if has_phones:
            words = [said[at : at + _PHONES_OF_A_WORD] for at in range(0, len(said), _PHONES_OF_A_WORD)]
            text, phones = "", {"phones": f" {WORD_MARK} ".join(" ".join(word) for word in words)}
        if said:
            found.append(Recording(one.path, one.duration, one.sample_rate, one.speaker, text, phones))
    return found
