"""Tar archives of clips: WebDataset (`key.flac`, `key.txt`, `key.json`) and Lhotse Shar (`recording.*.tar` beside
`cuts.*.jsonl.gz`). Nothing is unpacked: an index knows the byte at which each clip begins.
"""

import gzip
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

from wav2vec2.processing.audio_sources import AUDIO_ENDINGS
from wav2vec2.shards.column_names import (
    CORPUS_COLUMNS,
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    SPEAKER_COLUMNS,
    TEXT_COLUMNS,
    seconds_in,
    text_of,
)
from wav2vec2.shards.found_clips import FRAGMENT_BYTES, FoundClip, measured
from wav2vec2.shards.storage import ShardError, Storage

#: Members that say what is known of a clip, and what; a record says its names itself.
_TEXTS = {".txt": "transcript", ".cls": "label", ".json": ""}

#: Seconds by which the length of a cut may differ from that of its recording.
_ROUNDING = 0.01

#: A member of a remote tar up to this size comes with what is read anyway; of a larger one the header alone is.
_SMALL = 2**20


class _Member(tarfile.TarInfo):
    """A member of an archive that has to be whole: Python's reader takes a broken header, and the end of what was cut
    off between two members, for the archive's end. That is a block of zeros."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        """The next member."""
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(f"cut off or corrupt at byte {archive.offset}") from error


def opened_tar(stream: BinaryIO, mode: Literal["r:", "r|*"]) -> tarfile.TarFile:
    """A tar to be read anywhere ("r:") or, compressed or not, once from its beginning to its end ("r|*"); it is a
    tarfile.ReadError where it is cut off."""
    return tarfile.open(fileobj=stream, mode=mode, tarinfo=_Member)


def audio_in(archive: tarfile.TarFile, layout: str) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """The clips of a tar of this layout with their names, as they come."""
    if layout == "tar":
        yield from ((member, key) for member, key, ending in _members(archive) if ending in AUDIO_ENDINGS)
        return
    for number, member in enumerate(member for member in archive if member.isfile()):
        name = PurePosixPath(member.name)
        if number % 2 == 0 and name.suffix != ".nodata":
            yield member, str(name.with_suffix(""))


def _with_random_access(stream: BinaryIO, url: str) -> tarfile.TarFile:
    if not url.lower().endswith(".tar"):
        raise ShardError(f"{url}: is compressed, and clips of it cannot be read one by one: unpack it into a .tar")
    return opened_tar(stream, "r:")


def clips_in_tar(storage: Storage, url: str) -> list[FoundClip]:
    """The clips of a WebDataset tar. A clip is an audio member; members of the same key say what is known of it."""
    audio: dict[str, tuple[tarfile.TarInfo, float | None]] = {}
    known: dict[str, dict[str, Any]] = {}
    with storage.open(url) as stream, _with_random_access(stream, url) as archive:
        for member, key, ending in _members(archive):
            if ending in AUDIO_ENDINGS:
                said = seconds_in(known.get(key, {}))
                audio[key] = member, said or _seconds(archive, member, storage.local)
            elif ending in _TEXTS:
                content, name = _content(archive, member), _TEXTS[ending]
                known[key] = known.get(key, {}) | ({name: content} if name else _record(content))
    return [_found(key, member, seconds, known.get(key, {})) for key, (member, seconds) in audio.items()]


def clips_in_shar(storage: Storage, url: str, cuts_url: str) -> list[FoundClip]:
    """The clips of a Shar shard: the audio of its cuts, which stand in its `cuts` file in the same order."""
    cuts = _cuts(storage, cuts_url)
    with storage.open(url) as stream, _with_random_access(stream, url) as archive:
        pairs = [(member, _record(_content(archive, about))) for member, about in _recordings(archive, url)]
    if len(pairs) != len(cuts):
        raise ShardError(f"{url}: has {len(pairs)} recordings, and {cuts_url} has {len(cuts)} cuts")
    return [
        _found(str(cut["id"]), member, float(cut["duration"]), _said_in(cut))
        for cut, (member, about) in zip(cuts, pairs, strict=True)
        if _is_stored(cut, member, about, url)
    ]


def _cuts(storage: Storage, url: str) -> list[dict[str, Any]]:
    content = storage.read(url, 0, next(one.size for one in storage.find(url)))
    text = (gzip.decompress(content) if url.endswith(".gz") else content).decode("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _recordings(archive: tarfile.TarFile, url: str) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarInfo]]:
    """Each recording of a Shar with what Lhotse knows of it, which is the member behind it."""
    members = (member for member in archive if member.isfile())
    for member in members:
        about = next(members, None)
        if about is None:
            raise ShardError(f"{url}: nothing behind {member.name} says what it is: no tar of a Shar")
        yield member, about


def _is_stored(cut: Mapping[str, Any], member: tarfile.TarInfo, about: Mapping[str, Any], url: str) -> bool:
    """Whether a cut has audio here. A ShardError if that is another cut's, or more than the cut."""
    name = PurePosixPath(member.name)
    if str(name.with_suffix("")) != str(PurePosixPath(cut["id"])):
        raise ShardError(f"{url}: has {name} where its cuts have {cut['id']}: write the Shar anew")
    if name.suffix == ".nodata":
        return False
    whole = about.get("duration", cut["duration"])
    if cut["start"] or abs(whole - cut["duration"]) > _ROUNDING:
        raise ShardError(f"{url}: cut {cut['id']} is a part of its recording of {whole} s: write the Shar anew")
    return True


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """The files of a tar with their key and ending: what stands before and after the first dot of the name."""
    for member in archive:
        name = PurePosixPath(member.name)
        if member.isfile() and not name.name.startswith("."):
            key = name.name.partition(".")[0]
            yield member, str(name.with_name(key)) if key else member.name, name.suffix.lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    opened = archive.extractfile(member)
    return "" if opened is None else opened.read().decode("utf-8", "replace").strip()


def _record(content: str) -> dict[str, Any]:
    """What a JSON member says, nothing of one that is no record."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(archive: tarfile.TarFile, member: tarfile.TarInfo, local: bool) -> float:
    opened = archive.extractfile(member)
    if opened is None:
        return float("nan")
    return measured(opened.read() if not local and member.size <= _SMALL else opened)


def _found(name: str, member: tarfile.TarInfo, seconds: float | None, record: Mapping[str, Any]) -> FoundClip:
    at = member.offset_data
    return FoundClip(
        name,
        at // FRAGMENT_BYTES,
        at,
        member.size,
        float("nan") if seconds is None else seconds,
        text_of(SPEAKER_COLUMNS, record),
        text_of(TEXT_COLUMNS, record),
        text_of(CORPUS_COLUMNS, record),
        text_of(LANGUAGE_COLUMNS, record),
        text_of(LABEL_COLUMNS, record),
    )


def _said_in(cut: Mapping[str, Any]) -> dict[str, Any]:
    """What the supervisions of a cut say together."""
    found = sorted(cut.get("supervisions") or [], key=lambda one: one.get("start", 0))
    texts = [one["text"] for one in found if one.get("text")]
    first = found[0] if found else {}
    return {
        "speaker": first.get("speaker"),
        "transcript": " ".join(texts) or None,
        "language": first.get("language"),
    } | {
        name: one[name]
        for one in (first.get("custom") or {}, cut.get("custom") or {})
        for name in ("corpus", "label")
        if name in one
    }
