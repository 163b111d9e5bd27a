"""Clips as long as LibriSpeech's, for the loop of `on_accelerator.py`: recordings of one speaker joined and cut anew.

    python benchmarks/accelerator_audio.py FOLDER --source PARQUETS --hours 6

Without a source the clips are noise. Most are 12 to 16.5 s long, the others 2 to 12 s, 12 s on average; FLAC, 16 kHz.
Where the source is shorter than what is asked for, its recordings are cut again at other places.
"""

import argparse
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet
import soundfile
from numpy.typing import NDArray

from wav2vec2.processing.audio_files import load_audio

SAMPLING_RATE = 16000

#: Seconds of one speaker that one task of a process joins.
_JOINED = 120.0

#: Share of the clips that are about as long as a pretraining crop, and between which seconds those and others are.
_LONG, _LONG_SECONDS, _SHORT_SECONDS = 0.72, (12.0, 16.5), (2.0, 12.0)


@dataclass(frozen=True)
class Task:
    """What one process joins and cuts."""

    #: Its number, from which all that is random follows.
    number: int
    #: The files of one speaker, as bytes; of noise there are none.
    recordings: list[bytes]
    #: Seconds of clips to write.
    seconds: float
    #: Where to.
    folder: Path
    #: The longest clip.
    longest: float


def tasks_of(source: Path | None, folder: Path, seconds: float, longest: float) -> list[Task]:
    """The source in pieces of about `_JOINED` seconds, each of one speaker, which share the work."""
    noise_alone: list[list[bytes]] = [[] for _ in range(math.ceil(seconds / _JOINED))]
    pieces = noise_alone if source is None else list(read(source))
    return [Task(number, piece, seconds / len(pieces), folder, longest) for number, piece in enumerate(pieces)]


def read(source: Path) -> Iterator[list[bytes]]:
    """The recordings of a folder of parquet shards, some minutes of a speaker at a time."""
    table = pyarrow.parquet.read_table(source, columns=["audio", "speaker", "duration"]).to_pylist()
    for _, rows in groupby(sorted(table, key=lambda row: row["speaker"]), key=lambda row: row["speaker"]):
        piece, held = list[bytes](), 0.0
        for row in rows:
            piece.append(row["audio"]["bytes"])
            held += row["duration"]
            if held >= _JOINED:
                yield piece
                piece, held = [], 0.0
        if piece:
            yield piece


def write_clips(task: Task) -> float:
    """Join the recordings and cut clips from them, round and round; their seconds."""
    random = np.random.default_rng(task.number)
    joined = np.concatenate([load_audio(one) for one in task.recordings]) if task.recordings else noise(random)
    written, begin = 0.0, 0
    while written < task.seconds:
        length = min(int(length_of(random) * SAMPLING_RATE), int(task.longest * SAMPLING_RATE))
        clip = joined.take(np.arange(begin, begin + length), mode="wrap")
        path = task.folder / f"{task.number:05d}-{int(written):06d}.flac"
        soundfile.write(path, clip, SAMPLING_RATE)
        written, begin = written + length / SAMPLING_RATE, (begin + length) % len(joined)
    return written


def noise(random: np.random.Generator) -> NDArray[np.float32]:
    """Half a minute."""
    return random.normal(0, 0.1, 30 * SAMPLING_RATE).astype(np.float32)


def length_of(random: np.random.Generator) -> float:
    """Seconds of a clip."""
    return float(random.uniform(*(_LONG_SECONDS if random.random() < _LONG else _SHORT_SECONDS)))


def main() -> None:
    """Write the clips, and say how many seconds they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="folder of parquet shards with audio, speaker, duration")
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--longest", type=float, default=16.5, help="seconds of a clip at most")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    tasks = tasks_of(options.source, options.folder, 3600 * options.hours, options.longest)
    # pyarrow has started threads, which no fork would survive
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        print(sum(pool.map(write_clips, tasks)))


if __name__ == "__main__":
    main()
