"""What a recording says, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from wav2vec2.alignment.frame_times import in_order
from wav2vec2.decoding.hypotheses import Hypothesis, Token, Word
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.inference.transcript_formats import TIMED_FORMATS, transcript_as

Timestamps = Literal["word", "char"] | None
Timed = TypeVar("Timed", Word, Token)


@dataclass(frozen=True)
class Transcript:
    """The text of a recording of `duration` seconds. `path` is its file, or what the caller's samples are called.

    `words` are there unless no times were asked for, `characters` if theirs were; times are in seconds, never run
    backwards and lie inside the recording. `error` says why there is no text, if the recording could not be used.
    """

    path: str
    text: str = ""
    words: list[Word] = field(default_factory=list)
    characters: list[Token] = field(default_factory=list)
    duration: float = 0.0
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
    return [replace(one, start=one.start + seconds, end=one.end + seconds) for one in timed]


def _within(timed: Sequence[Timed], duration: float) -> list[Timed]:
    """In order across segments, and not beyond the end."""
    times = in_order([(min(one.start, duration), min(one.end, duration)) for one in timed])
    return [replace(one, start=start, end=end) for one, (start, end) in zip(timed, times, strict=True)]
