"""Clips of the validation data that are training data too: the same file, the same bytes, the same sound coded anew."""

import bisect
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.report import Finding, example
from wav2vec2.training.checks.sound import likeness

#: Files that are read to be compared, pairs of clips whose sound is, and clips of one text that are paired with one.
_MOST_READ, _MOST_HEARD, _NEAREST = 10_000, 60, 5

#: A coder may lengthen a clip by that many seconds (MP3).
_PADDING = 0.1

#: Correlation of the same audio coded anew; two recordings of one word by one speaker stay below 0.8.
_SAME = 0.9

#: Bytes that are read at once, and those in the middle of a file that nearly all files differ in.
_BLOCK, _PIECE = 1 << 20, 4096

#: Seconds of a clip that are compared by sound.
_SECONDS = 30.0


def duplicate_findings(train: ClipSource, valid: ClipSource) -> Iterator[Finding]:
    """What validation data share with training data. Scores on what was trained on say nothing."""
    same = _same_file(train, valid)
    copies, unread = _same_bytes(train, valid, set(same))
    heard = _same_sound(train, valid, set(same) | set(copies))
    kinds = ((same, "the same file"), (copies, "the same bytes"), (heard, "the same sound"))
    partner = {one: (other, how) for pairs, how in kinds for one, other in pairs.items()}
    if partner:
        yield valid.finding(
            "duplicate",
            "problem",
            "clips of the validation data are in the training data too: their scores would say nothing",
            partner,
            len(valid),
            "no recording in both; take them out of one",
            lambda one: f"{partner[one][1]} as {example(train.id(partner[one][0])).id} in train",
        )
    if unread:
        yield Finding(
            "duplicates_not_all_compared",
            "note",
            "valid",
            "clips have the size or length of too many others for all to be read, and were not compared with them",
            unread,
            len(valid),
        )
    yield from _shared_texts(train, valid, set(partner))
    yield from _shared_speakers(train, valid)


def repeated_findings(source: ClipSource) -> Iterator[Finding]:
    """One file listed several times in the same data."""
    counts = Counter(_place(path) for path in source.paths if path is not None)
    repeated = {place for place, count in counts.items() if count > 1}
    if repeated:
        which = [i for i, path in enumerate(source.paths) if path is not None and _place(path) in repeated]
        yield source.finding(
            "repeated_file",
            "warning",
            "clips are of a file that is listed more than once",
            which,
            len(source),
            "each file once (to weigh a source, there is `weight`)",
        )


def _place(path: Path) -> str:
    return os.path.normpath(os.path.abspath(path))


def _same_file(train: ClipSource, valid: ClipSource) -> dict[int, int]:
    """Clip of valid -> clip of train with the same path."""
    places = {_place(path): index for index, path in enumerate(train.paths) if path is not None}
    return {
        index: places[place]
        for index, path in enumerate(valid.paths)
        if path is not None and (place := _place(path)) in places
    }


def _same_bytes(train: ClipSource, valid: ClipSource, known: set[int]) -> tuple[dict[int, int], int]:
    """Clip of valid -> clip of train with the same content, and how many clips of valid were too many to compare.

    Sizes first: something is read only of files that have as many bytes as another, first a piece of each and all of
    it where the pieces are equal. Audio that is no file is compared where it is equally long.
    """
    groups: dict[tuple[str, float], tuple[list[int], list[int]]] = {}
    for index in sorted(set(range(len(valid))) - known):
        if (key := _key(valid, index)) is not None:
            groups.setdefault(key, ([], []))[0].append(index)
    for index in range(len(train)):
        if (key := _key(train, index)) is not None and key in groups:
            groups[key][1].append(index)
    found: dict[int, int] = {}
    budget, left = _MOST_READ, 0
    for ours, theirs in sorted(groups.values(), key=lambda group: len(group[0]) + len(group[1])):
        if theirs and len(ours) + len(theirs) > budget:
            left += len(ours)
        elif theirs:
            budget -= len(ours) + len(theirs)
            found |= _equal(valid, ours, train, theirs)
    return found, left


def _equal(valid: ClipSource, ours: list[int], train: ClipSource, theirs: list[int]) -> dict[int, int]:
    """Of clips with one key: clip of valid -> clip of train with the same content."""
    pieces: dict[bytes, list[int]] = defaultdict(list)
    for index in theirs:
        pieces[_digest(train, index, _PIECE)].append(index)
    found = {}
    for index in ours:
        alike = pieces.get(_digest(valid, index, _PIECE), [])
        whole = _digest(valid, index) if alike else b""
        same = next((other for other in alike if whole and _digest(train, other) == whole), None)
        if same is not None:
            found[index] = same
    return found


def _key(source: ClipSource, index: int) -> tuple[str, float] | None:
    """What two clips of the same content have in common: the size of their files or, without files, their length."""
    path, seconds = source.paths[index], float(source.seconds[index])
    if path is None:
        return None if np.isnan(seconds) or not source.complete else ("seconds", seconds)
    try:
        return "bytes", os.stat(path).st_size
    except (OSError, ValueError):
        return None


def _digest(source: ClipSource, index: int, piece: int | None = None) -> bytes:
    """A hash of the encoded audio, or of `piece` bytes in its middle; b"" if it cannot be read."""
    audio, content = source.audio(index), blake2b(digest_size=16)
    try:
        with io.BytesIO(audio) if isinstance(audio, bytes) else open(audio, "rb") as file:
            if piece is not None:
                file.seek(file.seek(0, os.SEEK_END) // 2)
                content.update(file.read(piece))
            while piece is None and (block := file.read(_BLOCK)):
                content.update(block)
    except (OSError, ValueError):
        return b""
    return content.digest()


def _same_sound(train: ClipSource, valid: ClipSource, known: set[int]) -> dict[int, int]:
    """Clips with one text and nearly one length, whose waveforms are alike: the same audio coded anew, or cut anew."""
    by_text: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for index, text in enumerate(train.transcripts):
        if text and train.complete and not np.isnan(train.seconds[index]):
            by_text[_plain(text)].append((float(train.seconds[index]), index))
    for clips in by_text.values():
        clips.sort()
    pairs = []
    for index, text in enumerate(valid.transcripts):
        if text and index not in known:
            near = _nearest(by_text.get(_plain(text), []), float(valid.seconds[index]))
            pairs += [(-len(text), away, index, other) for away, other in near]
    pairs.sort()
    found: dict[int, int] = {}
    for _, _, index, other in pairs[:_MOST_HEARD]:
        if index not in found and _sounds_alike(valid, index, train, other):
            found[index] = other
    return found


def _nearest(clips: list[tuple[float, int]], seconds: float) -> list[tuple[float, int]]:
    """(seconds away, clip) of the few clips, sorted by length, that are nearest to `seconds`."""
    first = bisect.bisect_left(clips, (seconds, -1))
    around = clips[max(0, first - _NEAREST) : first + _NEAREST]
    near = sorted((abs(length - seconds), clip) for length, clip in around)
    return [one for one in near[:_NEAREST] if one[0] <= _PADDING]


def _sounds_alike(valid: ClipSource, index: int, train: ClipSource, other: int) -> bool:
    try:
        first = load_audio(valid.audio(index), duration=_SECONDS)
        second = load_audio(train.audio(other), duration=_SECONDS)
    except MemoryError:
        raise
    except Exception:  # unreadable or silent audio is told of elsewhere
        return False
    return likeness(first, second) > _SAME


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _shared_texts(train: ClipSource, valid: ClipSource, duplicates: set[int]) -> Iterator[Finding]:
    """Texts of the training data that are said again: no fault of commands or digits, one of a test of sentences."""
    texts = {_plain(text) for text in train.transcripts if text}
    by_speaker = {(_plain(t), s) for t, s in zip(train.transcripts, train.speakers, strict=True) if t and s}
    shared = [i for i, text in enumerate(valid.transcripts) if text and _plain(text) in texts and i not in duplicates]
    if shared:
        again = sum((_plain(valid.transcripts[i] or ""), valid.speakers[i]) in by_speaker for i in shared)
        by_the_same = f", {again} of them by the same speaker" if again else ""
        message = f"transcripts also stand in the training data{by_the_same}"
        yield valid.finding("shared_transcript", "note", message, shared, len(valid))


def _shared_speakers(train: ClipSource, valid: ClipSource) -> Iterator[Finding]:
    """Speakers of the training data who are heard again."""
    speakers = {one for one in valid.speakers if one}
    shared = sorted(speakers & {one for one in train.speakers if one})
    if shared:
        listed = ", ".join(shared[:10]) + (" …" if len(shared) > 10 else "")
        yield Finding(
            "shared_speaker",
            "note",
            "valid",
            f"{len(shared)} of {len(speakers)} speakers are in the training data too ({listed}): scores are those of "
            "known voices",
        )
