"""Transcripts of whole corpora: units of clips in, a file of JSON lines for each out, on any number of processes.

Each process takes a unit (`files.shared_work` says how they divide them), transcribes its clips in shared batches and
writes its file whole or not at all; a clip that cannot be used has its `error` there, and stops none of the others.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.shared_work import Division, LostClaimError
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.subtitle_formats import timed_row
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.inference.transcript import Timestamps, Transcript
from wav2vec2.inference.voice_activity import SkipSilence
from wav2vec2.shards.clip_collections import Clip, Unit
from wav2vec2.shards.storage import ShardError

#: Calls between two batches: with the seconds of audio that were got further.
Progress = Callable[[float], None]


@dataclass
class UnitReport:
    """What became of a unit."""

    unit: Unit
    #: How many clips have a transcript.
    clips: int = 0
    #: Their seconds.
    seconds: float = 0.0
    #: What could not be used, and why.
    faults: list[str] = field(default_factory=list)
    #: Why there is no file of it: it could not be reached now, or somebody else is at it.
    unfinished: str | None = None


@dataclass(frozen=True)
class Wanted:
    """How clips are transcribed."""

    #: Which times a row has.
    timestamps: Timestamps = None
    #: Whether silence is skipped, and what finds it.
    skip_silence: SkipSilence = False


def transcribe_units(
    transcriber: Transcriber,
    units: Sequence[Unit],
    results: Sequence[Path],
    division: Division,
    wanted: Wanted,
    progress: Progress,
) -> Iterator[UnitReport]:
    """Do the units that fall to this process, each into its file of `results`; a report of each when it is done.

    What `progress` raises ends the unit between two batches: nothing of it is written, and it is free for others.
    """
    with closing(division.units(results)) as mine:
        for number, check in mine:
            report = UnitReport(units[number])

            def advance(seconds: float, check: Callable[[], None] = check) -> None:
                check()
                progress(seconds)

            try:
                results[number].parent.mkdir(parents=True, exist_ok=True)
                with replaced_file(results[number], shared=True) as file:
                    for row in rows_of(transcriber, report.unit.clips(), wanted, advance):
                        _count(row, report)
                        file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
                    check()
            except LostClaimError:
                report.unfinished = "this process was away for too long, and another does it now"
            except _UnreachableError as error:
                report.unfinished = str(error)
            yield report


def rows_of(
    transcriber: Transcriber, clips: Iterable[Clip], wanted: Wanted = Wanted(), progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each clip, in order: `id`, `text`, `seconds`, `confidence` and the times that are wanted; or `id` and
    `error`. The confidence is the mean of the words', and None without words."""
    waiting: deque[Clip] = deque()

    def inputs() -> Iterator[AudioInput]:
        for clip in _reachable(clips):
            waiting.append(clip)
            if clip.error is None:
                yield AudioInput(clip.id, clip.content)

    timestamps = wanted.timestamps or "word"  # which the confidence is of
    found = transcriber.transcribe_each(inputs(), timestamps, progress, skip_silence=wanted.skip_silence)
    for transcript in found:
        yield from _faults_before(waiting)
        yield row_of(waiting.popleft().id, transcript, wanted.timestamps)
    yield from _faults_before(waiting)


def row_of(id: str, transcript: Transcript, timestamps: Timestamps = None) -> dict[str, Any]:
    """The row of one clip."""
    if transcript.error is not None:
        return {"id": id, "error": transcript.error}
    words = transcript.words
    confidence = round(sum(word.confidence for word in words) / len(words), 4) if words else None
    row = {"id": id, "text": transcript.text, "seconds": round(transcript.duration, 4), "confidence": confidence}
    if timestamps is not None:
        row["words"] = [timed_row(word) for word in words]
    if timestamps == "char":
        row["characters"] = [timed_row(one) for one in transcript.characters]
    return row


class _UnreachableError(Exception):
    """A unit cannot be read now, though it may be sound."""


def _reachable(clips: Iterable[Clip]) -> Iterator[Clip]:
    try:
        yield from clips
    except (OSError, ShardError) as error:
        raise _UnreachableError(str(error)) from error


def _faults_before(waiting: deque[Clip]) -> Iterator[dict[str, Any]]:
    """Those at the front of the line of which no transcript comes."""
    while waiting and waiting[0].error is not None:
        clip = waiting.popleft()
        yield {"id": clip.id, "error": clip.error}


def _count(row: dict[str, Any], report: UnitReport) -> None:
    if "error" in row:
        report.faults.append(row["error"] if row["id"] in row["error"] else f"{row['id']}: {row['error']}")
    else:
        report.clips += 1
        report.seconds += row["seconds"]
