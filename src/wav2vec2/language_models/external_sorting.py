"""Arrays that live in files, and sorting, counting and look-up of more rows than memory holds.

Nothing here maps files into memory: every read is a block of a stated number of rows, so memory use is what it says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: A counted key with something that belongs to it.
ROW = np.dtype([("key", "<i8"), ("count", "<i8"), ("payload", "<i8")])

#: Sorted runs that are merged at a time.
_FAN_IN = 32


class FileArray:
    """A one-dimensional array in a file: appended to, read in blocks of `rows` rows."""

    def __init__(self, path: Path, dtype: DTypeLike, rows: int) -> None:
        self.path, self.dtype, self.rows = path, np.dtype(dtype), rows
        self.length = 0
        path.write_bytes(b"")

    def __len__(self) -> int:
        return self.length

    def append(self, values: NDArray[Any]) -> None:
        """Write these rows behind the others."""
        with self.path.open("ab") as stream:
            np.ascontiguousarray(values, dtype=self.dtype).tofile(stream)
        self.length += len(values)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop`, or to the end."""
        count = max(min(stop, self.length) - start, 0)
        return np.fromfile(self.path, self.dtype, count, offset=start * self.dtype.itemsize)

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """All blocks in order, each behind the number of its first row."""
        for start in range(0, self.length, self.rows):
            yield start, self.read(start, start + self.rows)

    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The values at `indices`, in any order; reads the file from the least to the greatest of them."""
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        taken = np.empty(len(indices), self.dtype)
        done = 0
        while done < len(ordered):
            start = int(ordered[done])
            block = self.read(start, start + self.rows)
            end = int(np.searchsorted(ordered, start + len(block)))
            taken[order[done:end]] = block[ordered[done:end] - start]
            done = end
        return taken

    def positions(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where `keys` are in this ascending array, which has all of them."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        found = np.empty(len(keys), np.int64)
        done = 0
        for start, block in self.blocks():
            end = int(np.searchsorted(ordered, block[-1], side="right"))
            found[order[done:end]] = start + np.searchsorted(block, ordered[done:end])
            done = end
            if done == len(ordered):
                break
        return found

    def delete(self) -> None:
        """Remove the file; nothing can be read any more."""
        self.path.unlink()


class CountingSorter:
    """Adds up the counts of equal keys and gives them in order; sorted runs go to disk and are merged.

    `rows` is the number of rows that may be in memory at a time.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.runs: list[FileArray] = []
        self.written = 0

    def add(self, keys: NDArray[np.int64], counts: NDArray[np.int64], payloads: NDArray[np.int64]) -> None:
        """Any number of rows in any order. Rows with equal keys must have equal payloads."""
        table = np.empty(len(keys), ROW)
        table["key"], table["count"], table["payload"] = keys, counts, payloads
        if len(self.runs) == _FAN_IN:
            merged = self._new_run()
            for block in self._merge():
                merged.append(block)
            self.runs = [merged]
        run = self._new_run()
        run.append(_added_up(table))
        self.runs.append(run)

    def result(self) -> Iterator[NDArray[Any]]:
        """Blocks of rows with ascending keys, each key once."""
        yield from self._merge()
        self.runs = []

    def _new_run(self) -> FileArray:
        self.written += 1
        return FileArray(self.folder / f"run-{self.written}", ROW, self.rows)

    def _merge(self) -> Iterator[NDArray[Any]]:
        """Each round emits all keys up to the least of the last keys in memory: no run can still hold a smaller one."""
        runs = self.runs
        rows = max(self.rows // (2 * max(len(runs), 1)), 1)
        positions = [0] * len(runs)
        buffers = [np.empty(0, ROW) for _ in runs]
        while True:
            for number, run in enumerate(runs):
                if not len(buffers[number]):
                    buffers[number] = run.read(positions[number], positions[number] + rows)
                    positions[number] += len(buffers[number])
            waiting = [buffer for buffer in buffers if len(buffer)]
            if not waiting:
                break
            last = min(buffer["key"][-1] for buffer in waiting)
            ends = [int(np.searchsorted(buffer["key"], last, side="right")) for buffer in buffers]
            yield _added_up(np.concatenate([buffer[:end] for buffer, end in zip(buffers, ends, strict=True)]))
            buffers = [buffer[end:] for buffer, end in zip(buffers, ends, strict=True)]
        for run in runs:
            run.delete()


def _added_up(table: NDArray[Any]) -> NDArray[Any]:
    """The rows sorted by key, each key once with the sum of its counts."""
    if not len(table):
        return table
    table = table[np.argsort(table["key"], kind="stable")]
    first = np.flatnonzero(np.append(True, table["key"][1:] != table["key"][:-1]))
    counts = np.add.reduceat(table["count"], first)
    table = table[first]
    table["count"] = counts
    return table


@dataclass(frozen=True)
class Workspace:
    """A folder for temporary files, and how many rows of them may be in memory at a time."""

    folder: Path
    rows: int

    def array(self, name: str, dtype: DTypeLike) -> FileArray:
        """A new array in the folder."""
        return FileArray(self.folder / name, dtype, self.rows)

    def sorter(self) -> CountingSorter:
        """A new sorter, with its runs in the folder."""
        return CountingSorter(self.folder, self.rows)
