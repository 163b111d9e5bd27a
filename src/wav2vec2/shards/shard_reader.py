"""The audio of clips out of their shards: what is asked for and little else.

A clip of a tar on a disk of this machine is read where it lies. Everything else comes by the *fragment* (a row group of
parquet, 16 MiB of a tar), which is kept in the cache; without a cache, clips of a tar come one by one.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2vec2.shards.found_clips import FRAGMENT_BYTES
from wav2vec2.shards.fragment_cache import FragmentCache
from wav2vec2.shards.parquet_shards import audio_of, opened
from wav2vec2.shards.shard_index import ShardIndex
from wav2vec2.shards.storage import Storage

#: Bytes between two clips of a tar up to which they are read together.
_GAP = 8 * 2**10

#: Fragments that are fetched at once.
_THREADS = 8

#: Row groups that are in memory where there is no cache.
_ROW_GROUPS = 4


class Fragment(NamedTuple):
    """Clips of a shard that are read together: those from `begin` up to `end`."""

    shard: int
    begin: int
    end: int


class ShardReader:
    """Reads the clips of an index. In other processes it is made anew."""

    def __init__(self, index: ShardIndex, cache: FragmentCache | None, storage: Storage | None = None) -> None:
        self.index, self.cache = index, cache
        self.storage = storage or Storage(index.source)
        self._runs = lru_cache(maxsize=4096)(self._runs_of)
        self._key = lru_cache(maxsize=4096)(self._key_of)
        self._row_group = lru_cache(maxsize=_ROW_GROUPS)(self._fetch)

    def __reduce__(self) -> Any:
        return ShardReader, (self.index, self.cache, self.storage)

    def audio(self, clip: int) -> Path | bytes:
        """The encoded audio of a clip, or the file that it is."""
        shard = self.index.shard_of(clip)
        url, layout = self._url(shard), self._layout(shard)
        if layout == "manifest":
            return Path(url).parent / self.index.value("name", clip)
        if layout != "parquet" and (self.storage.local or self.cache is None):
            offset = self.index.value("offset", clip)
            return self.storage.read(url, offset, offset + self.index.value("size", clip))
        fragment = self.fragment(clip)
        number = clip - fragment.begin
        if self.cache is None:
            return self._row_group(fragment)[number]
        return self.cache.clip(self._key(fragment), number, lambda: self._fetch(fragment))

    def name(self, clip: int) -> str:
        """What reports call a clip: its shard, as the source has it, and its name in there."""
        shard = self.index.shard_of(clip)
        known = str(self.index.value("name", clip))
        if self._layout(shard) == "manifest":
            return known
        beginning = self.index.source.partition("*")[0].partition("{")[0].rpartition("/")[0]
        folder = self.index.source if self._url(shard).startswith(f"{self.index.source}/") else beginning
        return f"{self._url(shard).removeprefix(folder).lstrip('/')}/{known}"

    def fetch(self, clips: Iterable[int]) -> None:
        """Have the fragments of these clips in the cache, several fetched at once. What cannot be fetched is told of
        when a clip of it is asked for."""
        if self.cache is None:
            return
        fragments = dict.fromkeys(self.fragment(clip) for clip in clips if self._is_cached(self.index.shard_of(clip)))
        wanted = [one for one in fragments if not self.cache.holds(self._key(one))]
        if len(wanted) > 1:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="fragments") as pool:
                list(pool.map(self._hold, wanted))

    def fragment(self, clip: int) -> Fragment:
        """What a clip is read with."""
        shard = self.index.shard_of(clip)
        first = int(self.index.first[shard])
        runs = self._runs(shard)
        number = int(np.searchsorted(runs, clip - first, side="right")) - 1
        return Fragment(shard, first + int(runs[number]), first + int(runs[number + 1]))

    def cached(self) -> tuple[int, int]:
        """Bytes of the shards that are read by the fragment, and of the largest fragment."""
        layouts = np.array(self.index.shards["layout"].to_pylist())
        sizes = np.where(np.diff(self.index.first) > 0, self.index.shards["size"].to_numpy(), 0)
        parquet = np.where(layouts == "parquet", sizes, 0)
        tars = np.where((layouts == "tar") | (layouts == "shar"), sizes, 0) * (not self.storage.local)
        largest = min(int(tars.max(initial=0)), FRAGMENT_BYTES)
        if parquet.any():
            shard = int(parquet.argmax())
            groups = 1 + self.index.value("fragment", int(self.index.first[shard + 1]) - 1)
            largest = max(largest, int(parquet[shard]) // groups)
        return int(parquet.sum() + tars.sum()), largest

    def _is_cached(self, shard: int) -> bool:
        layout = self._layout(shard)
        return layout == "parquet" or (layout != "manifest" and not self.storage.local)

    def _hold(self, fragment: Fragment) -> None:
        try:
            if self.cache is not None:
                self.cache.fetch(self._key(fragment), lambda: self._fetch(fragment))
        except MemoryError:
            raise
        except Exception:
            return

    def _runs_of(self, shard: int) -> NDArray[np.int64]:
        """Where the fragments of a shard begin, and its end: fragments of two groups are two."""
        begin, end = self.index.first[shard : shard + 2].tolist()
        new = np.zeros(end - begin, bool)
        new[:1] = True
        for name in ("group", "fragment"):
            values = self.index.column(name, begin, end).to_numpy()
            new[1:] |= values[1:] != values[:-1]
        return np.append(np.flatnonzero(new), end - begin)

    def _fetch(self, fragment: Fragment) -> list[bytes]:
        """All clips of a fragment, read as few pieces."""
        index, url = self.index, self._url(fragment.shard)
        offsets = index.column("offset", fragment.begin, fragment.end).to_numpy()
        if self._layout(fragment.shard) == "parquet":
            with opened(self.storage, url, index.shards["size"][fragment.shard].as_py()) as shard:
                audio = audio_of(shard, index.value("fragment", fragment.begin), index.audio_column)
            return [audio[row] for row in offsets]
        ends = offsets + index.column("size", fragment.begin, fragment.end).to_numpy()
        cuts = np.flatnonzero(offsets[1:] - ends[:-1] > _GAP) + 1
        clips: list[bytes] = []
        for some in np.split(np.arange(len(offsets)), cuts):
            start = int(offsets[some[0]])
            piece = self.storage.read(url, start, int(ends[some[-1]]))
            clips += [piece[offsets[one] - start : ends[one] - start] for one in some]
        return clips

    def _key_of(self, fragment: Fragment) -> str:
        """A name that is another one when the clips are others."""
        first, last = self.index.clip(fragment.begin), self.index.clip(fragment.end - 1)
        parts = (self._url(fragment.shard), self.index.shards["stamp"][fragment.shard].as_py(), self.index.audio_column)
        text = "\0".join(
            str(one) for one in (*parts, first.fragment, first.offset, last.offset, fragment.end - fragment.begin)
        )
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]

    def _url(self, shard: int) -> str:
        return str(self.index.shards["url"][shard].as_py())

    def _layout(self, shard: int) -> str:
        return str(self.index.shards["layout"][shard].as_py())
