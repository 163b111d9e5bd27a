"""A transcript as OpenAI's answers have it."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.subtitle_formats import captions, timed_row
from wav2vec2.inference.transcript import Transcript, transcript_as

#: What can be asked for, and how HTTP calls it.
MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


def as_text(found: Transcript, format: str) -> str:
    """The formats that are no JSON: to the letter what `wav2vec2 transcribe` writes."""
    return transcript_as(found, "txt" if format == "text" else format)


def as_json(found: Transcript) -> dict[str, Any]:
    """The text, and what was used for it."""
    return {"text": found.text, "usage": usage(found)}


def usage(found: Transcript) -> dict[str, Any]:
    """What OpenAI would charge for: seconds begun."""
    return {"type": "duration", "seconds": math.ceil(found.duration)}


def as_verbose_json(found: Transcript, language: str, granularities: Sequence[str]) -> dict[str, Any]:
    """The text with its times: of words, of segments, or of both."""
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(found.duration, 4),
        "text": found.text,
    }
    if "word" in granularities:
        content["words"] = [timed(word) for word in found.words]
    if "segment" in granularities:
        content["segments"] = segments(found)
    return content | {"usage": usage(found)}


def timed(word: Word) -> dict[str, Any]:
    """A word as OpenAI's answers have it, and how likely it is to be right."""
    row = timed_row(word)
    return {"word": row.pop("text")} | row


def segments(found: Transcript) -> list[dict[str, Any]]:
    """What a caption holds is a segment. Of the figures that Whisper gives for each, these are the ones there are:
    `avg_logprob` is the mean logarithm of its words' confidences. A CTC model has no temperature, and no tokens that
    mean anything elsewhere."""
    shown, words = [], iter(found.words)
    for number, caption in enumerate(captions(found.words, found.duration)):
        text = " ".join(caption.lines)
        confidences = [word.confidence for word, _ in zip(words, text.split(), strict=False)]
        certainty = sum(math.log(max(one, 1e-6)) for one in confidences) / max(len(confidences), 1)
        encoded = text.encode("utf-8")
        shown.append(
            {
                "id": number,
                "seek": 0,
                "start": caption.start / 1000,
                "end": caption.end / 1000,
                "text": text,
                "tokens": [],
                "temperature": 0.0,
                "avg_logprob": round(certainty, 4),
                "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4),
                "no_speech_prob": 0.0,
            }
        )
    return shown
