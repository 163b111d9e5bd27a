"""Timed words as text files: JSON, Praat's TextGrid, CTM, SRT and WebVTT.

All but JSON count in whole milliseconds. Rounded times still never run backwards, and where a format has no room for
an empty interval a word gets a millisecond at least.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from wav2vec2.inference.captions import captions
from wav2vec2.inference.timed_words import TimedWord, milliseconds


def render(
    words: Sequence[TimedWord], format: str, recording: str, duration: float, part_name: str = "characters"
) -> str:
    """The words of a recording, which lasts `duration` seconds, in one of the FORMATS.

    Where words have `parts`, json and textgrid hold them as well, under the name `part_name`.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: must be one of {', '.join(FORMATS)}")
    if format == "json":
        return to_json(words, recording, duration, part_name)
    if format == "textgrid":
        return to_textgrid(words, recording, duration, part_name)
    return FORMATS[format](words, recording, duration)


def to_json(words: Sequence[TimedWord], recording: str, duration: float, part_name: str = "characters") -> str:
    """An object with the recording, its duration and its words; times in seconds."""
    rows = []
    for word in words:
        row = _timed(word) | {"aligned": bool(getattr(word, "aligned", True))}
        parts = _parts([word])
        rows.append(row | ({part_name: [_timed(part) for part in parts]} if parts else {}))
    content = {"recording": recording, "duration": round(duration, 4), "words": rows}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _timed(word: TimedWord) -> dict[str, Any]:
    return {
        "text": word.text,
        "start": round(word.start, 4),
        "end": round(word.end, 4),
        "confidence": round(word.confidence, 4),
    }


def _parts(words: Sequence[TimedWord]) -> list[TimedWord]:
    """The letters or phones of the words, of those that have them."""
    return [part for word in words for part in getattr(word, "parts", ())]


def to_ctm(words: Sequence[TimedWord], recording: str, duration: float) -> str:
    """NIST's CTM: recording, channel, start, length, word, confidence. Its fields cannot hold white space."""
    name = "_".join(recording.split()) or "_"
    lines = []
    for word, (start, end) in zip(words, milliseconds(words, duration, room=0), strict=True):
        text = "_".join(word.text.split()) or "_"
        lines.append(f"{name} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} {text} {word.confidence:.4f}\n")
    return "".join(lines)


def to_textgrid(words: Sequence[TimedWord], recording: str, duration: float, part_name: str = "characters") -> str:
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
    return "\n".join([*_textgrid_head(last, len(tiers)), *_textgrid_tiers(tiers, last)]) + "\n"


def _tiled(times: Sequence[tuple[int, int]], texts: Sequence[str], last: int) -> list[tuple[int, int, str]]:
    """Intervals without a gap up to `last`: empty ones where nothing is said."""
    rows, end = [], 0
    for (start, stop), text in zip(times, texts, strict=True):
        if start > end:
            rows.append((end, start, ""))
        rows.append((start, stop, text))
        end = stop
    return [*rows, (end, last, "")] if end < last else rows


def _textgrid_head(last: int, tiers: int) -> list[str]:
    return [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {last / 1000:.3f}",
        "tiers? <exists>",
        f"size = {tiers}",
        "item []:",
    ]


def _textgrid_tiers(tiers: dict[str, list[tuple[int, int, str]]], last: int) -> list[str]:
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


def to_srt(words: Sequence[TimedWord], recording: str, duration: float) -> str:
    """SubRip captions. The format knows no escapes: an arrow in a word, which separates times, becomes "→"."""
    blocks = []
    for number, caption in enumerate(captions(words, duration), 1):
        times = f"{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}"
        blocks.append("\n".join([str(number), times, *(line.replace("-->", "→") for line in caption.lines)]) + "\n")
    return "\n".join(blocks)


def to_vtt(words: Sequence[TimedWord], recording: str, duration: float) -> str:
    """WebVTT captions, with &, < and > escaped."""
    blocks = ["WEBVTT\n"]
    for caption in captions(words, duration):
        times = f"{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}"
        blocks.append("\n".join([times, *map(_escape, caption.lines)]) + "\n")
    return "\n".join(blocks)


#: The writers by name: each takes words, the name of the recording, and its duration in seconds.
FORMATS: dict[str, Callable[[Sequence[TimedWord], str, float], str]] = {
    "json": to_json,
    "textgrid": to_textgrid,
    "ctm": to_ctm,
    "srt": to_srt,
    "vtt": to_vtt,
}


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
