"""The index of shards: one Arrow file that is mapped, not read. Processes of a machine share its pages, and none of
them has an object for a clip.

Shapes: S shards, G groups (a corpus and a language), n clips. The clips of a shard stand together, those of a group
together within it, and those of a fragment together within that.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wav2vec2.shards.storage import ShardError

#: Under this name the schema says what the file is; the number rises when a column changes its meaning.
_FORMAT, _VERSION = b"wav2vec2 shards", b"2"

#: What the names of indices end in.
ENDING = ".arrow"

CLIPS = pa.schema(
    [
        ("name", pa.string()),
        ("group", pa.int32()),
        ("fragment", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("seconds", pa.float64()),
        ("speaker", pa.string()),
        ("transcript", pa.string()),
        ("label", pa.string()),
    ]
)

SHARDS = pa.schema(
    [
        ("url", pa.string()),
        ("layout", pa.string()),
        ("size", pa.int64()),
        ("stamp", pa.string()),
        ("clips", pa.int64()),
        ("problem", pa.string()),
    ]
)


class Group(NamedTuple):
    """Clips of a corpus in a language; either is empty where nobody says it."""

    corpus: str
    language: str


class IndexedClip(NamedTuple):
    """What the index says of one clip."""

    name: str
    fragment: int
    offset: int
    size: int
    seconds: float
    speaker: str | None
    transcript: str | None
    label: str | None


class ShardIndex:
    """An index that was written before, opened in a moment however long it is. In other processes it is opened anew."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise ShardError(f"{path}: is no index of shards ({error}); make one: wav2vec2 index SOURCE") from error
        about = self._file.schema.metadata or {}
        if about.get(_FORMAT) != _VERSION:
            raise ShardError(f"{path}: is no index that this version reads; make it again: wav2vec2 index SOURCE")
        #: What was indexed, as it was named.
        self.source = about[b"source"].decode()
        #: The column of parquet shards that holds the audio.
        self.audio_column = about[b"audio_column"].decode()
        self.groups = [Group(*one) for one in json.loads(about[b"groups"])]
        #: A row for each shard, those that were passed over among them.
        self.shards: pa.Table = pa.ipc.open_stream(about[b"shards"]).read_all()
        #: The first clip of each shard (S + 1,).
        self.first = np.concatenate([[0], np.cumsum(self.shards["clips"].to_numpy())]).astype(np.int64)
        self._starts = np.arange(self._file.num_record_batches + 1)
        if len(self._starts) > 1:
            sizes = [self._file.get_batch(number).num_rows for number in range(len(self._starts) - 1)]
            self._starts = np.cumsum([0, *sizes])
        self._batch = lru_cache(maxsize=64)(self._file.get_batch)

    def __reduce__(self) -> Any:
        return ShardIndex, (self.path,)

    def __len__(self) -> int:
        return int(self.first[-1])

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """All clips, some columns of them, a piece after the other with the number of its first clip. They lie in the
        mapped file, so none of it stays in memory."""
        for number, start in enumerate(self._starts[:-1].tolist()):
            yield start, self._file.get_batch(number).select(list(columns))

    def column(self, name: str, begin: int, end: int) -> pa.Array:
        """A column of the clips from `begin` up to `end`."""
        pieces = []
        while begin < end:
            number = int(np.searchsorted(self._starts, begin, side="right")) - 1
            stop = min(end, int(self._starts[number + 1]))
            pieces.append(self._batch(number).column(name).slice(begin - int(self._starts[number]), stop - begin))
            begin = stop
        return pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces or [pa.array([], CLIPS.field(name).type)])

    def seconds(self, begin: int, end: int) -> NDArray[np.float64]:
        """Seconds of the clips from `begin` up to `end`."""
        found: NDArray[np.float64] = self.column("seconds", begin, end).to_numpy()
        return found

    def value(self, name: str, clip: int) -> Any:
        """What a column says of one clip."""
        number = int(np.searchsorted(self._starts, clip, side="right")) - 1
        return self._batch(number).column(name)[clip - int(self._starts[number])].as_py()

    def clip(self, number: int) -> IndexedClip:
        """All that is known of one clip."""
        return IndexedClip(*(self.value(name, number) for name in IndexedClip._fields))

    def shard_of(self, clip: int) -> int:
        """The shard in which a clip is."""
        return int(np.searchsorted(self.first, clip, side="right")) - 1

    def has(self, column: str) -> bool:
        """Whether any clip has a transcript, or what else a column says."""
        return any(batch.column(0).null_count < batch.num_rows for _, batch in self.batches([column]))

    def distinct(self, column: str) -> set[str | None]:
        """All that a column says, None if it says nothing of some clip."""
        return {value for _, batch in self.batches([column]) for value in batch.column(0).unique().to_pylist()}

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The shards that were passed over, and why."""
        found = self.shards.filter(pa.compute.is_valid(self.shards["problem"]))
        return list(zip(found["url"].to_pylist(), found["problem"].to_pylist(), strict=True))


def about(source: str, audio_column: str, groups: Sequence[Group], shards: pa.Table) -> dict[bytes, bytes]:
    """What an index says of itself, in its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SHARDS) as writer:
        writer.write_table(shards)
    return {
        _FORMAT: _VERSION,
        b"source": source.encode(),
        b"audio_column": audio_column.encode(),
        b"groups": json.dumps(list(groups)).encode(),
        b"shards": sink.getvalue().to_pybytes(),
    }
