"""Which shards a source has: parquet, tars, Shar, a manifest; and what their folders say of corpus and language."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from wav2vec2.shards.storage import ShardError, Storage, StoredFile

#: A Shar shard is made of files of one number, or none: `cuts.000000.jsonl.gz`, `recording.000000.tar`. Others of that
#: number hold other things that are known of the same cuts.
_PART = re.compile(r"(?P<folder>.*/)?(?P<field>[^/.]+)(?P<number>[^/]*?)\.(?:tar|jsonl(?:\.gz)?)")

#: Folders of a partitioned data set: `corpus=X/language=Y/`.
_HIVE = re.compile(r"(?:^|/)(corpus|language|split)=([^/]+)(?=/)")

#: Manifests by their endings.
_MANIFESTS = (".tsv",)


@dataclass(frozen=True)
class Shard:
    """A shard before it is read."""

    #: Where its audio is; of a manifest, the manifest.
    url: str
    #: "tar", "shar", "parquet" or "manifest".
    layout: str
    #: Bytes of the file.
    size: int
    #: Changes with the content of its file, or its files.
    stamp: str
    #: Of Shar, where the cuts are.
    cuts: str = ""
    #: What its folders say.
    corpus: str | None = None
    language: str | None = None


def shards_of(source: str, storage: Storage, split: str | None = None) -> list[Shard]:
    """The shards of a source in order; of a partitioned one with splits, those of this `split`."""
    shards = list(_shards(storage.find(source)))
    if not shards:
        raise ShardError(f"{source}: no shards there: nothing ends in .parquet, .tar or .tsv")
    kept = [shard for shard in shards if split is None or _folders(shard).get("split", split) == split]
    if not kept:
        raise ShardError(f"{source}: no shard of split={split}")
    return kept


def _shards(files: list[StoredFile]) -> Iterator[Shard]:
    parts = [(one, found) for one in files if (found := _PART.fullmatch(one.url))]
    cuts = {found.group("folder", "number"): one for one, found in parts if found["field"] == "cuts"}
    beside = {one.url: (found["field"], cuts.get(found.group("folder", "number"))) for one, found in parts}
    for one in files:
        suffix = PurePosixPath(one.url).suffix.lower()
        field, known = beside.get(one.url, ("", None))
        if suffix == ".tar" and known is not None:
            if field == "recording":
                yield _shard(one, "shar", f"{one.stamp} {known.stamp} {known.size}", known.url)
        elif suffix in (".tar", ".parquet"):
            yield _shard(one, suffix[1:], one.stamp)
        elif suffix in _MANIFESTS:
            yield _shard(one, "manifest", one.stamp)


def _shard(file: StoredFile, layout: str, stamp: str, cuts: str = "") -> Shard:
    shard = Shard(file.url, layout, file.size, stamp, cuts)
    folders = _folders(shard)
    return Shard(file.url, layout, file.size, stamp, cuts, folders.get("corpus"), folders.get("language"))


def _folders(shard: Shard) -> dict[str, str]:
    return dict(_HIVE.findall(shard.url))
