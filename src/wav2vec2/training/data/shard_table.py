"""The clips of an index of shards as the table of a source: nothing of a clip is in memory before it is asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wav2vec2.shards.fragment_cache import FragmentCache
from wav2vec2.shards.indexing import IndexRequest, cache_folder, current_index, index_path
from wav2vec2.shards.shard_index import ShardIndex, is_index
from wav2vec2.shards.shard_reader import ShardReader
from wav2vec2.shards.storage import ShardError
from wav2vec2.training.data.audio_clips import Clip, Skipped, TrainingDataError
from wav2vec2.training.data.text_columns import Column

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import DataSection, Source


def open_shards(source: "Source", section: "DataSection", label: str, *, with_text: bool) -> "ShardTable":
    """The shards of a source, whose index is made if there is none or if shards have come or changed."""
    try:
        if is_index(Path(source.path)):
            index = ShardIndex(source.path)
        else:
            request = IndexRequest(source.path, source.split, source.audio_column, source.text_column)
            index = current_index(request, index_path(request, section.cache))
        cache = None
        if section.shard_cache_gib:
            cache = FragmentCache(cache_folder(section.cache) / "fragments", round(section.shard_cache_gib * 2**30))
        table = ShardTable(ShardReader(index, cache), label)
    except (ShardError, OSError) as error:
        raise TrainingDataError(str(error)) from error
    if with_text and not index.has_transcripts:
        raise TrainingDataError(
            f"{source.path}: no transcripts in its shards (text_column names the column of parquet)"
        )
    return table


class ShardTable:
    """The n clips of an index."""

    rates: None = None
    paths: None = None

    def __init__(self, reader: ShardReader, label: str) -> None:
        self.reader, self.index, self.label = reader, reader.index, label

    def __len__(self) -> int:
        return len(self.index)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds (n,), NaN where a header could not be read; read anew each time."""
        return self.index.seconds(0, len(self.index))

    @property
    def problems(self) -> list[Skipped]:
        """The shards that were passed over. Clips with damaged headers are told of by their number alone."""
        return [Skipped(url, reason) for url, reason in self.index.problems]

    @property
    def transcripts(self) -> Sequence[str | None] | None:
        """The column of transcripts."""
        return _Column(self.index, "transcript") if self.index.has_transcripts else None

    @property
    def speakers(self) -> Sequence[str | None]:
        """The column of speakers."""
        return _Column(self.index, "speaker")

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip."""
        found: str | None = self.index.value("transcript", index)
        return found

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples; its encoded bytes are read."""
        return replace(self.facts(index), audio=self.reader.audio(index))

    def facts(self, index: int) -> Clip:
        """The same without its audio."""
        known = self.index.clip(index)
        name = self.label + self.reader.name(index)
        return Clip(name, b"", known.seconds, speaker=known.speaker, transcript=known.transcript)


class _Column(Column[str | None]):
    """Texts of an index."""

    def __init__(self, index: ShardIndex, name: str) -> None:
        self._index, self._name = index, name

    def __len__(self) -> int:
        return len(self._index)

    def at(self, index: int) -> str | None:
        """One text."""
        found: str | None = self._index.value(self._name, index)
        return found
