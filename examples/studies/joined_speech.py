"""Recordings of one speaker joined to stretches of half a minute, so that every pretraining window is full.

    python examples/studies/joined_speech.py SHARDS FOLDER --orders 3

SHARDS holds parquet files `train-*` with the columns audio, speaker, source and duration. Many of the recordings are
single words: a window of ten seconds has ten of them, and what stands beside a masked frame is worth looking at. Each
order joins all of the audio anew, with other neighbours. How the model `small` was made is in its card.
"""

import argparse
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wav2vec2.processing.audio_files import load_audio

RATE = 16000

#: A stretch ends after so many seconds, or where the speaker changes if it has at least this many.
LONG, SHORT = 30.0, 10.0

#: Silence between two recordings.
PAUSE = np.zeros(RATE // 10, np.float32)


@dataclass(frozen=True)
class Stretch:
    """Recordings that become one file."""

    path: Path
    recordings: list[bytes]


def stretches(rows: list[dict[str, Any]], folder: Path, orders: int) -> Iterator[Stretch]:
    """Every recording once in each order, beside others of its speaker, or at least of its source."""
    for order in range(orders):
        shuffled = random.Random(order).sample(rows, len(rows))
        shuffled.sort(key=lambda row: (row["source"], row["speaker"]))
        for source, of_source in groupby(shuffled, key=lambda row: row["source"]):
            for number, piece in enumerate(_pieces(list(of_source))):
                path = folder / f"{source}-{order}-{number:04d}.wav"
                yield Stretch(path, [row["audio"]["bytes"] for row in piece])


def _pieces(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The recordings of a source in their order, in pieces that are long enough; a short rest goes to the last one."""
    pieces: list[list[dict[str, Any]]] = [[]]
    held = 0.0
    for row in rows:
        turn = pieces[-1] and row["speaker"] != pieces[-1][-1]["speaker"]
        if held >= LONG or (turn and held >= SHORT):
            pieces.append([])
            held = 0.0
        pieces[-1].append(row)
        held += row["duration"]
    if held < SHORT and len(pieces) > 1:
        rest = pieces.pop()
        pieces[-1].extend(rest)
    return pieces


def write(stretch: Stretch) -> float:
    """Join and write; the seconds."""
    parts = [part for one in stretch.recordings for part in (load_audio(one, RATE), PAUSE)]
    joined = np.concatenate(parts)
    soundfile.write(stretch.path, joined, RATE)
    return len(joined) / RATE


def main() -> None:
    """Write the stretches, and say how many hours they are."""
    import pyarrow.parquet as parquet

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--orders", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    columns = ["audio", "speaker", "source", "duration"]
    shards = sorted(options.shards.glob("train-*.parquet"))
    rows = [row for shard in shards for row in parquet.read_table(shard, columns=columns).to_pylist()]
    tasks = list(stretches(rows, options.folder, options.orders))
    with ThreadPoolExecutor(options.threads) as pool:
        seconds = sum(pool.map(write, tasks))
    print(f"{seconds / 3600:.2f} h in {len(tasks)} files, of {len(rows)} recordings in {len(shards)} shards")


if __name__ == "__main__":
    main()
