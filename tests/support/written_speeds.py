"""Copies at other speeds as files: what a run with `data.speeds` must be the same as."""

from collections.abc import Sequence
from pathlib import Path

import soundfile
import soxr
from training_audio import RATE

from wav2vec2 import load_audio


def written_out(manifest: Path, speeds: Sequence[float]) -> Path:
    """A manifest of the same clips and, behind them, of their copies at each speed, which are written as files."""
    head, *lines = manifest.read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]
    copies = []
    for speed in speeds:
        for row in rows:
            copy = manifest.parent / f"{Path(row['path']).stem} at {speed:g}.wav"
            if not copy.exists():
                samples = soxr.resample(load_audio(manifest.parent / row["path"]), RATE * speed, RATE)
                soundfile.write(copy, samples, RATE, subtype="FLOAT")  # as it is, to the last bit
            copies.append(row | {"path": copy.name, "duration": repr(float(row["duration"]) / speed)})
    path = manifest.with_name(f"{manifest.stem}_written.tsv")
    path.write_text("\n".join([head, *("\t".join(row.values()) for row in [*rows, *copies]), ""]), encoding="utf-8")
    return path
