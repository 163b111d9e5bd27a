"""Sounds that are no speech, as captions: alone where nobody speaks, beside the words where somebody does.

Captions never overlap, since players differ in what they then do, and they are in order. Each sound is named where it
begins, be it in a caption of speech, of which it is then the first line, and alone in every gap between captions that
leaves time to read it. What is too short to be read is shown for a second where there is room.

Times are in seconds in a `SoundEvent` and in milliseconds in a `Caption`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from wav2vec2.inference.subtitle_formats import LINE_LENGTH, LINES, Caption

#: Milliseconds that a sound is shown at least, and of a caption of speech in which it may be named.
_SHOWN, _BESIDE = 1000, 300

#: Of two sounds of one name with less than that between them, in milliseconds, there is one caption.
_JOINED = 1000

#: Labels whose captions say nothing that the words do not say.
_SAID_BY_WORDS = ("speech",)


@dataclass(frozen=True)
class SoundEvent:
    """A stretch of a recording with a label. Times are in seconds."""

    label: str
    start: float
    end: float
    #: The mean over its frames of the probability of the label.
    confidence: float
    #: What a caption says of it; empty: it has none.
    text: str = ""


def caption_text(label: str, names: Mapping[str, str]) -> str:
    """What a caption says of a label: its name in brackets, where `names` has another that one; an empty one is none.

    >>> caption_text("phone_ringing", {}), caption_text("music", {"music": "Musik"}), caption_text("speech", {})
    ('[phone ringing]', '[Musik]', '')
    """
    name = names.get(label, "" if label in _SAID_BY_WORDS else label.replace("_", " "))
    return f"[{name}]" if name else ""


def sound_rows(sounds: Sequence[SoundEvent]) -> list[dict[str, object]]:
    """Sounds as JSON files have them."""
    return [
        asdict(one) | {"start": round(one.start, 4), "end": round(one.end, 4), "confidence": round(one.confidence, 4)}
        for one in sounds
    ]


def with_sounds(speech: Sequence[Caption], sounds: Sequence[SoundEvent], duration: float) -> list[Caption]:
    """Captions of speech, in order, and of the sounds of a recording of so many seconds."""
    named = list(speech)
    alone: list[Caption] = []
    for sound in _joined(sounds):
        gaps, beside = _gaps(sound, speech), _beginning(sound, speech)
        long = [gap for gap in gaps if gap.end - gap.start >= _SHOWN]
        if beside is None and not long:
            lengthened = [_lengthened(gap, speech, round(duration * 1000)) for gap in gaps]
            long = [max(lengthened, key=lambda gap: gap.end - gap.start)] if lengthened else []
            if not long or long[0].end - long[0].start < _BESIDE:
                long, beside = [], _nearest(sound, speech)
        if beside is not None:
            named[beside] = _named(named[beside], sound.lines[0])
        alone += long
    return sorted([*named, *_apart(alone, speech)], key=lambda caption: caption.start)


def _joined(sounds: Sequence[SoundEvent]) -> list[Caption]:
    """A caption for each sound that has a text; one for several with the same that follow each other closely."""
    found: list[Caption] = []
    for sound in sounds:
        start, end = round(sound.start * 1000), round(sound.end * 1000)
        if not sound.text or end <= start:
            continue
        if found and found[-1].lines == (sound.text,) and start - found[-1].end < _JOINED:
            found[-1] = replace(found[-1], end=end)
        else:
            found.append(Caption(start, end, (sound.text,)))
    return found


def _gaps(sound: Caption, speech: Sequence[Caption]) -> list[Caption]:
    """The parts of a sound in which no words are shown."""
    parts, start = [], sound.start
    for caption in speech:
        if start < min(caption.start, sound.end):
            parts.append(replace(sound, start=start, end=min(caption.start, sound.end)))
        start = max(start, caption.end)
    return [*parts, replace(sound, start=start)] if start < sound.end else parts


def _beginning(sound: Caption, speech: Sequence[Caption]) -> int | None:
    """The caption of speech in which a sound begins, if it has a part of that which can be seen."""
    for number, caption in enumerate(speech):
        if caption.start <= sound.start < caption.end and min(caption.end, sound.end) - sound.start >= _BESIDE:
            return number
    return None


def _nearest(sound: Caption, speech: Sequence[Caption]) -> int | None:
    """The caption of speech that a sound overlaps most, or is nearest to."""
    overlaps = [min(caption.end, sound.end) - max(caption.start, sound.start) for caption in speech]
    return max(range(len(speech)), key=overlaps.__getitem__, default=None)


def _lengthened(gap: Caption, speech: Sequence[Caption], limit: int) -> Caption:
    """A caption for as long as it takes to read it, as far as no words are shown: later, then earlier."""
    before = max((caption.end for caption in speech if caption.end <= gap.start), default=0)
    after = min((caption.start for caption in speech if caption.start >= gap.end), default=max(limit, gap.end))
    end = min(max(gap.end, gap.start + _SHOWN), after)
    return replace(gap, start=max(before, min(gap.start, end - _SHOWN)), end=end)


def _named(caption: Caption, text: str) -> Caption:
    """A caption of speech with the name of a sound before its words: on a line of its own if there is one left."""
    if text in caption.lines:
        return caption
    first = f"{text} {caption.lines[0]}"
    if len(caption.lines) >= LINES and len(first) <= LINE_LENGTH:
        return replace(caption, lines=(first, *caption.lines[1:]))
    return replace(caption, lines=(text, *caption.lines))


def _apart(alone: Sequence[Caption], speech: Sequence[Caption]) -> list[Caption]:
    """Captions of sounds, some of which were lengthened into others: what then has no time left is named together."""
    found: list[Caption] = []
    for caption in sorted(alone, key=lambda one: (one.start, one.end)):
        last = found[-1] if found else None
        if last is None or caption.start >= last.end:
            found.append(caption)
        elif caption.end - last.end >= _SHOWN and not any(
            one.start < caption.end and one.end > last.end for one in speech
        ):
            found.append(replace(caption, start=last.end))
        elif caption.lines[0] in last.lines[0]:
            found[-1] = replace(last, end=max(last.end, caption.end))
        else:
            text = f"{last.lines[0]} {caption.lines[0]}"
            found[-1] = replace(last, end=max(last.end, caption.end), lines=(text,))
    return found
