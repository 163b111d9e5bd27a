"""What a recording says, and when; and its files: text, JSON, tab-separated values, SRT and WebVTT."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from wav2vec2.alignment.frame_times import in_order
from wav2vec2.decoding.transcripts import Hypothesis, Token, Word
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.tab_separated import table
from wav2vec2.inference.event_captions import SoundEvent, sound_rows, with_sounds
from wav2vec2.inference.subtitle_formats import captions, captions_as, timed_row

#: What a transcript can be written as, and which of these say nothing without times.
FORMATS = ("txt", "json", "jsonl", "srt", "vtt", "tsv")
TIMED_FORMATS = ("srt", "vtt", "tsv")

Timestamps = Literal["word", "char"] | None
Timed = TypeVar("Timed", Word, Token)


@dataclass(frozen=True)
class Transcript:
    """What was recognised in a recording. Times are in seconds, never run backwards and lie inside the recording."""

    #: The file, or what the caller's samples are called.
    path: str
    text: str = ""
    #: The words with their times, unless no times were asked for.
    words: list[Word] = field(default_factory=list)
    #: The characters with their times, if these were asked for.
    characters: list[Token] = field(default_factory=list)
    #: Of the recording, in seconds.
    duration: float = 0.0
    #: What else is heard, if that was asked for: with its name as a text where captions name it.
    sounds: list[SoundEvent] | None = None
    #: Why there is no text, if the recording could not be used.
    error: str | None = None

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all, as its ending says: .txt, .json, .jsonl, .srt, .vtt or .tsv."""
        path = Path(path)
        if self.error is not None:
            raise ValueError(f"{path}: there is no transcript to save: {self.error}")
        format = path.suffix.lower().removeprefix(".")
        if format in TIMED_FORMATS and self.text and not self.words:
            raise ValueError(f"{path}: {format} is made of times: transcribe with timestamps='word'")
        content = transcript_as(self, format)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as stream:
            stream.write(content.encode("utf-8"))


def transcript_as(transcript: Transcript, format: str) -> str:
    """The content of a file, in one of the FORMATS.

    Where times of characters were asked for, tsv has a row for each of them, json has both; captions are of words.
    jsonl is json on one line. Sounds, if they were asked for, are in all but txt.
    """
    if format not in FORMATS:
        raise ValueError(f"{format!r} is no format of transcripts: take one of {', '.join(FORMATS)}")
    if format == "txt":
        return transcript.text + "\n"
    if format == "tsv":
        timed: list[Word | Token | SoundEvent] = [*(transcript.characters or transcript.words)]
        named = [sound for sound in transcript.sounds or () if sound.text]
        timed = sorted([*timed, *named], key=lambda one: one.start) if named else timed
        rows = [[f"{one.start:.3f}", f"{one.end:.3f}", f"{one.confidence:.4f}", one.text] for one in timed]
        return table([["start", "end", "confidence", "text"], *rows])
    if format in TIMED_FORMATS:
        shown = captions(transcript.words, transcript.duration)
        return captions_as(with_sounds(shown, transcript.sounds or (), transcript.duration), format)
    content: dict[str, object] = {
        "path": transcript.path,
        "duration": round(transcript.duration, 4),
        "text": transcript.text,
        "words": [timed_row(word) for word in transcript.words],
    }
    if transcript.characters:
        content["characters"] = [timed_row(one) for one in transcript.characters]
    if transcript.sounds is not None:
        content["sounds"] = sound_rows(transcript.sounds)
    return json.dumps(content, ensure_ascii=False, indent=1 if format == "json" else None) + "\n"


def join_segments(
    path: str,
    segments: Sequence[tuple[float, Hypothesis]],
    duration: float,
    timestamps: Timestamps,
    separator: str = " ",
    lower_case: bool = False,
) -> Transcript:
    """One transcript from decoded segments, each with the second it begins at."""
    words = [word for start, found in segments for word in _later(found.words, start)] if timestamps else []
    tokens = [one for start, found in segments for one in _later(found.tokens, start)] if timestamps == "char" else []
    texts = [separator.join(word.text for word in found.words) for _, found in segments]
    text = separator.join(text for text in texts if text)
    if lower_case:
        text = text.lower()
        words = [replace(word, text=word.text.lower()) for word in words]
        tokens = [replace(token, text=token.text.lower()) for token in tokens]
    return Transcript(path, text, _within(words, duration), _within(tokens, duration), duration)


def _later(timed: Sequence[Timed], seconds: float) -> list[Timed]:
    """The same words or characters, these seconds later."""
    return [replace(one, start=one.start + seconds, end=one.end + seconds) for one in timed]


def _within(timed: Sequence[Timed], duration: float) -> list[Timed]:
    """The same words or characters, none beyond the end of the recording or before the one it follows."""
    times = in_order([(min(one.start, duration), min(one.end, duration)) for one in timed])
    return [replace(one, start=start, end=end) for one, (start, end) in zip(timed, times, strict=True)]
