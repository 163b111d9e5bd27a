"""The clips of an index of shards as the table of a source: nothing of a clip is in memory before it is asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wav2vec2.shards.fragment_cache import FragmentCache
from wav2vec2.shards.indexing import IndexRequest, cache_folder, current_index, index_path
from wav2vec2.shards.shard_index import ENDING, ShardIndex
from wav2vec2.shards.shard_reader import ShardReader
from wav2vec2.shards.storage import ShardError
from wav2vec2.training.data.audio_clips import Clip, Skipped, TrainingDataError
from wav2vec2.training.data.text_columns import Column

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import DataSection, Source

#: The column that holds labels, where they are what is learnt.
LABEL = "label"


def open_shards(source: "Source", section: "DataSection", label: str, *, with_text: bool) -> "ShardTable":
    """The shards of a source, whose index is made if there is none or if shards have come or changed."""
    of_label = source.text_column == LABEL
    is_index = Path(source.path).suffix == ENDING
    try:
        if is_index:
            index = ShardIndex(source.path)
        else:
            request = IndexRequest(
                source.path, source.split, source.audio_column, None if of_label else source.text_column
            )
            index = current_index(request, index_path(request, section.cache))
        cache = None
        if section.shard_cache_gib:
            cache = FragmentCache(cache_folder(section.cache) / "fragments", round(section.shard_cache_gib * 2**30))
        table = ShardTable(ShardReader(index, cache), label, LABEL if of_label else "transcript")
    except (ShardError, OSError) as error:
        raise TrainingDataError(str(error)) from error
    chosen = source.text_column not in (None, LABEL, "transcript")
    if chosen and (is_index or set(index.shards["layout"].to_pylist()) != {"parquet"}):
        raise TrainingDataError(
            f"{source.path}: text_column={source.text_column} is a column of parquet, which is chosen where that is "
            "indexed (wav2vec2 index --text-column); leave it out, or set it to label"
        )
    if with_text and table.transcripts is None:
        what = "labels" if of_label else "transcripts"
        raise TrainingDataError(f"{source.path}: no {what} in its shards (text_column names the column of parquet)")
    return table


class ShardTable:
    """The n clips of an index."""

    rates: None = None
    paths: None = None

    def __init__(self, reader: ShardReader, label: str, text: str = "transcript") -> None:
        self.reader, self.index, self.label = reader, reader.index, label
        #: The column of the index with what is learnt: "transcript" or "label".
        self.text = text

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
        return _Column(self.index, self.text) if self.index.has(self.text) else None

    @property
    def speakers(self) -> Sequence[str | None]:
        """The column of speakers."""
        return _Column(self.index, "speaker")

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip."""
        found: str | None = self.index.value(self.text, index)
        return found

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples; its encoded bytes are read."""
        return replace(self.facts(index), audio=self.reader.audio(index))

    def facts(self, index: int) -> Clip:
        """The same without its audio."""
        known = self.index.clip(index)
        name = self.label + self.reader.name(index)
        return Clip(name, b"", known.seconds, speaker=known.speaker, transcript=getattr(known, self.text))


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
