"""Which shards a source has: parquet, tars, Shar, a manifest; and what their folders say of corpus and language."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wav2vec2.shards.storage import MISSING, ShardError, Storage, StoredFile

#: A Shar shard is made of files of one number, or none: `cuts.000000.jsonl.gz`, `recording.000000.tar`. Others of that
#: number hold other things that are known of the same cuts.
_PART = re.compile(r"(?P<folder>.*/)?(?P<field>[^/.]+)(?P<number>[^/]*?)\.(?:tar|tar\.gz|tgz|jsonl|jsonl\.gz)")

#: Folders of a partitioned data set: `corpus=X/language=Y/`.
_HIVE = re.compile(r"(?:^|/)(corpus|language|split)=([^/]+)(?=/)")

#: What the names of shards and manifests end in, and the layout that is meant.
SHARD_ENDINGS, MANIFEST_ENDING = (".parquet", ".tar", ".tar.gz", ".tgz"), ".tsv"
_LAYOUTS = {".parquet": "parquet", MANIFEST_ENDING: "manifest"} | dict.fromkeys((".tar", ".tar.gz", ".tgz"), "tar")


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


def shards_of(source: str, storage: Storage, split: str | None = None, *, manifests: bool = True) -> list[Shard]:
    """The shards of a source in order; of a partitioned one with splits, those of this `split`. Among them are those
    that are named and are not there."""
    files = storage.find(source)
    if files and all(one.stamp == MISSING for one in files):
        raise ShardError(f"{source}: no such file or folder")
    shards = [shard for shard in _shards(files) if manifests or shard.layout != "manifest"]
    if not shards:
        endings = (*SHARD_ENDINGS, MANIFEST_ENDING) if manifests else SHARD_ENDINGS
        raise ShardError(f"{source}: no shards there: nothing ends in {', '.join(endings[:-1])} or {endings[-1]}")
    kept = [shard for shard in shards if split is None or _folders(shard).get("split", split) == split]
    if not kept:
        raise ShardError(f"{source}: no shard of split={split}")
    return kept


def _shards(files: list[StoredFile]) -> Iterator[Shard]:
    parts = {one.url: found for one in files if (found := _PART.fullmatch(one.url))}
    cuts = {_number(parts[one.url]): one for one in files if one.url in parts and parts[one.url]["field"] == "cuts"}
    for one in files:
        part = parts.get(one.url)
        known = None if part is None else cuts.get(_number(part))
        layout = next((layout for ending, layout in _LAYOUTS.items() if one.url.lower().endswith(ending)), None)
        if layout == "tar" and part is not None and known is not None:
            if part["field"] == "recording":
                yield _shard(one, "shar", f"{one.stamp} {known.stamp} {known.size}", known.url)
        elif layout is not None:
            yield _shard(one, layout, one.stamp)


def _number(part: re.Match[str]) -> tuple[str, ...]:
    """What the files of one Shar shard have in common."""
    return part["folder"] or "", part["number"]


def _shard(file: StoredFile, layout: str, stamp: str, cuts: str = "") -> Shard:
    shard = Shard(file.url, layout, file.size, stamp, cuts)
    folders = _folders(shard)
    return Shard(file.url, layout, file.size, stamp, cuts, folders.get("corpus"), folders.get("language"))


def _folders(shard: Shard) -> dict[str, str]:
    return dict(_HIVE.findall(shard.url))
