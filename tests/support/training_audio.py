"""Small audio files of known content, and a collate function that worker processes can import."""

import io
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.data.batch_loading import Batch
from wav2vec2.training.data.division import AS_THE_CLIPS, Shape

RATE = 16000


def noise(seed: int, seconds: float, rate: int = RATE, channels: int = 1) -> NDArray[np.float64]:
    """Noise (S,) or (S, C) that 16-bit files hold exactly."""
    shape = (round(seconds * rate), channels)[: 1 if channels == 1 else 2]
    return np.random.default_rng(seed).integers(-8000, 8000, shape) / 32768


def encoded(seed: int, seconds: float, container: str = "WAV", rate: int = RATE, channels: int = 1) -> bytes:
    """The bytes of a file with that noise."""
    stream = io.BytesIO()
    soundfile.write(stream, noise(seed, seconds, rate, channels), rate, format=container)
    return stream.getvalue()


def encoded_samples(samples: NDArray[np.float64]) -> bytes:
    """The bytes of a WAV file with these samples (S,)."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV")
    return stream.getvalue()


def write_manifest(folder: Path, seconds: Sequence[float], *, durations: bool = True, text: bool = False) -> Path:
    """Files clip000.wav ... of these lengths, and a manifest that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tduration\ttranscript" if text else "path\tduration"]
    for number, length in enumerate(seconds):
        name = f"clip{number:03d}.wav"
        (folder / name).write_bytes(encoded(number, length))
        lines.append(f"{name}\t{length if durations else ''}" + (f"\tWORD {number}" if text else ""))
    path = folder / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Rows with encoded audio as a parquet file, in the form that data sets with embedded audio have."""
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def joined(clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, torch.Tensor]:
    """All samples end to end, their lengths and seeds: a collate function that loses nothing."""
    samples = [torch.from_numpy(clip.samples) for clip in clips]
    return {
        "samples": torch.cat(samples) if samples else torch.zeros(0),
        "lengths": torch.tensor([len(one) for one in samples], dtype=torch.long),
        "clip_seeds": torch.tensor([clip.seed for clip in clips], dtype=torch.long),
    }


def clips_of(batches: Iterable[Batch]) -> dict[tuple[int, int], tuple[str, bytes]]:
    """(update, clip seed) -> (id, its samples): what was heard, however it was cut into batches."""
    found: dict[tuple[int, int], tuple[str, bytes]] = {}
    for batch in batches:
        pieces = torch.split(batch.inputs["samples"], batch.inputs["lengths"].tolist())
        seeds = batch.inputs["clip_seeds"].tolist()
        for name, piece, seed in zip(batch.ids, pieces, seeds, strict=True):
            assert (batch.update, seed) not in found
            found[batch.update, seed] = (name, piece.numpy().tobytes())
    return found
