"""Transcripts as files: text, JSON, tab-separated values, SRT and WebVTT."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2.inference.subtitle_formats import render
from wav2vec2.inference.timed_words import TimedWord

if TYPE_CHECKING:
    from wav2vec2.inference.transcript import Transcript

#: What a transcript can be written as.
FORMATS = ("txt", "json", "jsonl", "srt", "vtt", "tsv")

#: Formats that say nothing without times.
TIMED_FORMATS = ("srt", "vtt", "tsv")


def transcript_as(transcript: "Transcript", format: str) -> str:
    """The content of a file, in one of the FORMATS.

    Where times of characters were asked for, tsv has a row for each of them, json has both; captions are of words.
    jsonl is json on one line.
    """
    if format not in FORMATS:
        raise ValueError(f"{format!r} is no format of transcripts: take one of {', '.join(FORMATS)}")
    if format == "txt":
        return transcript.text + "\n"
    if format in ("json", "jsonl"):
        return _to_json(transcript, indent=1 if format == "json" else None)
    if format == "tsv":
        return _to_tsv(transcript.characters or transcript.words)
    return render(transcript.words, format, Path(transcript.path).stem, transcript.duration)


def _to_json(transcript: "Transcript", indent: int | None) -> str:
    content = {
        "path": transcript.path,
        "duration": round(transcript.duration, 4),
        "text": transcript.text,
        "words": _rows(transcript.words),
    }
    if transcript.characters:
        content["characters"] = _rows(transcript.characters)
    return json.dumps(content, ensure_ascii=False, indent=indent) + "\n"


def _rows(timed: Sequence[TimedWord]) -> list[dict[str, str | float]]:
    return [
        {
            "text": one.text,
            "start": round(one.start, 4),
            "end": round(one.end, 4),
            "confidence": round(one.confidence, 4),
        }
        for one in timed
    ]


def _to_tsv(timed: Sequence[TimedWord]) -> str:
    rows = [f"{one.start:.3f}\t{one.end:.3f}\t{one.confidence:.4f}\t{' '.join(one.text.split())}" for one in timed]
    return "\n".join(["start\tend\tconfidence\ttext", *rows]) + "\n"
