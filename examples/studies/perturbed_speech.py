"""Copies of recordings at other speeds: the voices of larger and smaller speakers, from the speech of a few."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import soundfile
import soxr

from wav2vec2 import load_audio

RATE = 16000


def table(path: Path) -> list[dict[str, str]]:
    """The lines of a manifest."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """A manifest of these lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)
    return path


def with_other_speeds(
    rows: Sequence[dict[str, str]], source: Path, speeds: Sequence[float], folder: Path
) -> list[dict[str, str]]:
    """The lines, whose paths are below `source`, and behind each its copies, which are written once into `folder`.

    A copy is resampled: at 1.2 it is as if the tape ran faster, shorter and higher by that much, formants included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in rows:
        original = (source / row["path"]).resolve()
        found.append(row | {"path": str(original)})
        for speed in speeds:
            copy = folder / f"{original.parent.name}_{original.stem}_{speed:g}.flac"
            if not copy.is_file():
                partial = copy.with_suffix(f".{os.getpid()}")  # other parts may run beside this one
                samples = soxr.resample(load_audio(original), RATE * speed, RATE)
                soundfile.write(partial, samples, RATE, format="FLAC")
                partial.rename(copy)
            seconds = float(row["duration"]) / speed
            found.append(row | {"path": str(copy.resolve()), "duration": f"{seconds:.4f}"})
    return found
