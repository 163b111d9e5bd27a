"""Timed words as text files: JSON, Praat's TextGrid, CTM, and captions as SRT and WebVTT.

All but JSON count in whole milliseconds. Rounded times still never run backwards, and where a format has no room for
an empty interval a word gets a millisecond at least.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

#: What the words of a recording can be written as.
FORMATS = ("json", "textgrid", "ctm", "srt", "vtt")

#: What fits on a screen and can be read in time: two lines of 42 characters, up to seven seconds.
LINE_LENGTH, LINES, CAPTION_SECONDS = 42, 2, 7.0

#: Silence, in seconds, after which a new caption begins.
PAUSE = 0.8

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
_CLAUSE_ENDS = (",", ";", ":", "–", "—", "،", "、", "，")

#: Costs, in parts of a break where speech runs on: a break after a clause, a caption, an empty one on top.
_CLAUSE, _CAPTION, _EMPTY = 0.3, 0.2, 0.3


class TimedWord(Protocol):
    """A word with its time in seconds: `AlignedWord`, or a decoder's word."""

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def confidence(self) -> float: ...


def render(
    words: Sequence[TimedWord], format: str, recording: str, duration: float, part_name: str = "characters"
) -> str:
    """The words of a recording, which lasts `duration` seconds, in one of the FORMATS.

    Where words have `parts`, json and textgrid hold them as well, under the name `part_name`.
    """
    match format:
        case "json":
            return _json(words, recording, duration, part_name)
        case "textgrid":
            return _textgrid(words, duration, part_name)
        case "ctm":
            return _ctm(words, recording, duration)
        case "srt" | "vtt":
            return captions_as(captions(words, duration), format)
    raise ValueError(f"format {format!r}: must be one of {', '.join(FORMATS)}")


def _json(words: Sequence[TimedWord], recording: str, duration: float, part_name: str) -> str:
    """An object with the recording, its duration and its words; times in seconds."""
    rows = []
    for word in words:
        row = timed_row(word) | {"aligned": bool(getattr(word, "aligned", True))}
        parts = _parts([word])
        rows.append(row | ({part_name: [timed_row(part) for part in parts]} if parts else {}))
    content = {"recording": recording, "duration": round(duration, 4), "words": rows}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def timed_row(word: TimedWord) -> dict[str, Any]:
    """A word, or a part of one, as JSON files have it."""
    return {
        "text": word.text,
        "start": round(word.start, 4),
        "end": round(word.end, 4),
        "confidence": round(word.confidence, 4),
    }


def _parts(words: Sequence[TimedWord]) -> list[TimedWord]:
    """The letters or phones of the words, of those that have them."""
    return [part for word in words for part in getattr(word, "parts", ())]


def _ctm(words: Sequence[TimedWord], recording: str, duration: float) -> str:
    """NIST's CTM: recording, channel, start, length, word, confidence. Its fields cannot hold white space."""
    name = "_".join(recording.split()) or "_"
    lines = []
    for word, (start, end) in zip(words, milliseconds(words, duration, room=0), strict=True):
        text = "_".join(word.text.split()) or "_"
        lines.append(f"{name} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} {text} {word.confidence:.4f}\n")
    return "".join(lines)


def _textgrid(words: Sequence[TimedWord], duration: float, part_name: str) -> str:
    """Praat's long text format: a tier of words with empty intervals between, one of their confidences, and one of
    their letters or phones, if they have them."""
    parts = _parts(words)
    times, of_parts = milliseconds(words, duration, room=1), milliseconds(parts, duration, room=1)
    last = max(round(duration * 1000), 1, *(time[1] for time in (*times[-1:], *of_parts[-1:])))
    certainties = [f"{word.confidence:.4f}" if getattr(word, "aligned", True) else "not aligned" for word in words]
    tiers = {
        "words": _tiled(times, [word.text for word in words], last),
        "confidence": _tiled(times, certainties, last),
    }
    if parts:
        tiers[part_name] = _tiled(of_parts, [part.text for part in parts], last)
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {last / 1000:.3f}"]
    return "\n".join([*head, "tiers? <exists>", f"size = {len(tiers)}", "item []:", *_tier_lines(tiers, last)]) + "\n"


def _tiled(times: Sequence[tuple[int, int]], texts: Sequence[str], last: int) -> list[tuple[int, int, str]]:
    """Intervals without a gap up to `last`: empty ones where nothing is said."""
    rows, end = [], 0
    for (start, stop), text in zip(times, texts, strict=True):
        if start > end:
            rows.append((end, start, ""))
        rows.append((start, stop, text))
        end = stop
    return [*rows, (end, last, "")] if end < last else rows


def _tier_lines(tiers: dict[str, list[tuple[int, int, str]]], last: int) -> list[str]:
    lines = []
    for number, (name, rows) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {last / 1000:.3f}", f"        intervals: size = {len(rows)}"]
        for index, (start, end, text) in enumerate(rows, 1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start / 1000:.3f}",
                f"            xmax = {end / 1000:.3f}",
                f'            text = "{quoted}"',
            ]
    return lines


def captions_as(shown: Sequence["Caption"], format: str) -> str:
    """Captions in order as the content of a file, "srt" or "vtt"."""
    return _srt(shown) if format == "srt" else _vtt(shown)


def _srt(shown: Sequence["Caption"]) -> str:
    """SubRip captions. The format knows no escapes: an arrow in a word, which separates times, becomes "→"."""
    blocks = []
    for number, caption in enumerate(shown, 1):
        times = f"{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}"
        blocks.append("\n".join([str(number), times, *(line.replace("-->", "→") for line in caption.lines)]) + "\n")
    return "\n".join(blocks)


def _vtt(shown: Sequence["Caption"]) -> str:
    """WebVTT captions, with &, < and > escaped."""
    blocks = ["WEBVTT\n"]
    for caption in shown:
        times = f"{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}"
        lines = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in caption.lines]
        blocks.append("\n".join([times, *lines]) + "\n")
    return "\n".join(blocks)


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


def milliseconds(words: Sequence[TimedWord], duration: float, room: int) -> list[tuple[int, int]]:
    """Times in whole milliseconds that never overlap, each at least `room` long, inside the duration if it has room."""
    limit = max(round(duration * 1000), room * len(words))
    times: list[tuple[int, int]] = []
    clock = 0
    for word in words:
        start = max(clock, round(word.start * 1000))
        clock = max(start + room, round(word.end * 1000))
        times.append((start, clock))
    for index in reversed(range(len(times))):  # push back what was pushed over the end
        start, end = times[index]
        end = min(end, limit)
        start = min(start, end - room)
        times[index] = (start, end)
        limit = start
    return times


@dataclass(frozen=True)
class Caption:
    """Lines of text shown from `start` to `end`, in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """A word without line breaks in it, and its time in milliseconds."""

    text: str
    start: int
    end: int


def captions(words: Sequence[TimedWord], duration: float) -> list[Caption]:
    """Words in captions that a viewer can read: they fit the screen, in order, each word in exactly one.

    A caption ends in every long pause and after every sentence; where a sentence is too long for one, it is cut after
    a comma or in the longest pauses, into captions of similar length, with lines of similar length.

    Where they end is chosen for the whole recording at once: of all ways that fit the screen, the one whose breaks and
    captions cost least (dynamic programming over the words). A break costs nothing after a sentence, little after a
    comma or in a long pause, most where speech runs on; a caption costs something, and more the emptier it is.
    """
    times = milliseconds(words, duration, 1)
    pieces = [_Piece(" ".join(word.text.split()), *time) for word, time in zip(words, times, strict=True)]
    pieces = [piece for piece in pieces if piece.text]
    least, begins = [0.0], [0]  # of the first n words: the cost of their best captions, where the last one begins
    for stop in range(1, len(pieces) + 1):
        cost, begin = min((least[first] + cost, first) for first, cost in _last_captions(pieces, stop))
        least.append(cost + _break_cost(pieces, stop))
        begins.append(begin)
    found: list[Caption] = []
    stop = len(pieces)
    while stop:
        shown = pieces[begins[stop] : stop]
        texts = [piece.text for piece in shown]
        whole = " ".join(texts)
        lines = (whole,) if len(whole) <= LINE_LENGTH else _split(texts) or (whole,)
        found.append(Caption(shown[0].start, shown[-1].end, lines))
        stop = begins[stop]
    return found[::-1]


def _last_captions(pieces: Sequence[_Piece], stop: int) -> list[tuple[int, float]]:
    """Where a caption that ends before word `stop` may begin, and what it costs."""
    possible = []
    length = -1
    for first in range(stop - 1, -1, -1):
        length += 1 + len(pieces[first].text)
        alone = first == stop - 1
        if not alone and (_must_break(pieces, first + 1) or not _fits(pieces, first, stop, length)):
            break
        emptiness = max(0.0, 1 - length / (LINES * LINE_LENGTH))
        possible.append((first, _CAPTION + _EMPTY * emptiness**2))
    return possible


def _fits(pieces: Sequence[_Piece], first: int, stop: int, length: int) -> bool:
    """Whether the words `first` to `stop`, which have so many characters in all, can be shown together."""
    if length > LINES * LINE_LENGTH + LINES - 1 or pieces[stop - 1].end - pieces[first].start > CAPTION_SECONDS * 1000:
        return False
    return length <= LINE_LENGTH or _split([piece.text for piece in pieces[first:stop]]) is not None


def _must_break(pieces: Sequence[_Piece], place: int) -> bool:
    """Whether a caption has to end before this word."""
    before, after = pieces[place - 1], pieces[place]
    return before.text.endswith(_SENTENCE_ENDS) or after.start - before.end >= PAUSE * 1000


def _break_cost(pieces: Sequence[_Piece], place: int) -> float:
    """The cost, from 0 to 1, of ending a caption before this word."""
    if place == len(pieces) or _must_break(pieces, place):
        return 0.0
    cost = (1 - (pieces[place].start - pieces[place - 1].end) / (PAUSE * 1000)) ** 2
    return _CLAUSE * cost if pieces[place - 1].text.endswith(_CLAUSE_ENDS) else cost


def _split(texts: Sequence[str]) -> tuple[str, str] | None:
    """The texts in two lines of the most similar length; None where that does not fit."""
    halves = [(" ".join(texts[:place]), " ".join(texts[place:])) for place in range(1, len(texts))]
    fitting = [half for half in halves if max(map(len, half)) <= LINE_LENGTH]
    return min(fitting, key=lambda half: abs(len(half[0]) - len(half[1])), default=None)
