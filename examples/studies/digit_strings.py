"""Spoken digit strings, put together from single digits as `fsdd/digit_strings.tsv` says, and manifests of them."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from wav2vec2 import load_audio

RATE = 16000
HELD_OUT = "theo"  #: No second of this speaker is trained on, with labels or without.


def write_digit_strings(fsdd: Path, folder: Path) -> Path:
    """Write every string as a FLAC file, with a manifest; done once."""
    manifest = folder / "manifest.tsv"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tduration\tsample_rate\tspeaker\ttranscript\tbegins\tends"]
    with (fsdd / "digit_strings.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            samples, begins, ends = joined(fsdd, row)
            soundfile.write(folder / f"{row['id']}.flac", samples, RATE)
            seconds = len(samples) / RATE
            known = (f"{row['id']}.flac", f"{seconds:.4f}", str(RATE), row["speaker"], row["transcript"], begins, ends)
            lines.append("\t".join(known))
    partial = manifest.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(manifest)
    return manifest


def joined(fsdd: Path, row: dict[str, str]) -> tuple[np.ndarray, str, str]:
    """The clips of a string with silences before, between and after them; the samples where each begins and ends."""
    gaps = [np.zeros(int(gap) * RATE // 1000, np.float32) for gap in row["gaps_ms"].split(";")]
    pieces, begins, ends = [gaps[0]], [], []
    for clip, gap in zip(row["clips"].split(";"), gaps[1:], strict=True):
        samples = load_audio(fsdd / clip)
        begins.append(str(sum(map(len, pieces))))
        pieces += [samples, gap]
        ends.append(str(int(begins[-1]) + len(samples)))
    return np.concatenate(pieces), ";".join(begins), ";".join(ends)
