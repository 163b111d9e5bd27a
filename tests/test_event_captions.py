"""Captions of sounds: every sound is named, captions are in order and never overlap, words stay as they were."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2.inference.event_captions import SoundEvent, with_sounds
from wav2vec2.inference.subtitle_formats import Caption, captions_as

TICK = 100  # ms


def sound(start: float, end: float, name: str = "music") -> SoundEvent:
    return SoundEvent(name, start, end, 0.9, f"[{name}]" if name != "speech" else "")


def shown(captions: list[Caption]) -> list[tuple[int, int, str]]:
    return [(one.start, one.end, "|".join(one.lines)) for one in captions]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Caption], list[SoundEvent], float]:
    """Captions of speech, sounds that do not overlap each other, and the seconds of both."""

    def intervals(most: int) -> list[tuple[int, int]]:
        places = sorted(draw(st.sets(st.integers(0, 300), max_size=2 * most)))
        return list(zip(places[::2], places[1::2], strict=False))

    speech = [Caption(a * TICK, b * TICK, ("words",) * draw(st.integers(1, 2))) for a, b in intervals(8)]
    sounds = [
        sound(a * TICK / 1000, b * TICK / 1000, draw(st.sampled_from(["music", "beep", "applause", "speech"])))
        for a, b in intervals(8)
    ]
    return speech, sounds, 30.0


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_order_and_room_hold_for_any_scene(scene: tuple[list[Caption], list[SoundEvent], float]) -> None:
    speech, sounds, duration = scene
    found = with_sounds(speech, sounds, duration)
    times = [time for caption in found for time in (caption.start, caption.end)]
    assert times == sorted(times) and all(one.end > one.start for one in found)
    assert not times or (times[0] >= 0 and times[-1] <= 1000 * duration)
    words = [one for one in found if any("words" in line for line in one.lines)]
    assert [(one.start, one.end) for one in words] == [(one.start, one.end) for one in speech]
    assert [sum(line.endswith("words") for line in one.lines) for one in words] == [len(one.lines) for one in speech]
    near = {(one.start, one.end): " ".join(one.lines) for one in found}
    for one in sounds:
        if one.text:  # named within two seconds of where it is, or where the nearest words are
            around = [
                text
                for (start, end), text in near.items()
                if start < 1000 * one.end + 2000 and end > 1000 * one.start - 2000
            ]
            assert any(one.text in text for text in around) or any(one.text in text for text in near.values())
    assert not any("[speech]" in text for text in near.values())


def test_alone_where_nobody_speaks_and_beside_words_where_somebody_does() -> None:
    speech = [Caption(2000, 4000, ("hello",)), Caption(4500, 6000, ("all", "of you"))]
    assert shown(with_sounds(speech, [sound(0, 10)], 10.0)) == [
        (0, 2000, "[music]"),
        (2000, 4000, "hello"),
        (4500, 6000, "all|of you"),
        (6000, 10000, "[music]"),
    ]
    assert shown(with_sounds(speech, [sound(2.5, 5.5)], 10.0))[0] == (2000, 4000, "[music]|hello")
    assert shown(with_sounds(speech, [sound(5.0, 9.0)], 10.0))[1:] == [
        (4500, 6000, "[music] all|of you"),
        (6000, 9000, "[music]"),
    ]


def test_short_sounds_can_be_read() -> None:
    """For a second, where there is room: later, or earlier at the end; without room, with the words beside it."""
    assert shown(with_sounds([], [sound(3.0, 3.2, "beep")], 10.0)) == [(3000, 4000, "[beep]")]
    assert shown(with_sounds([], [sound(9.8, 10.0, "beep")], 10.0)) == [(9000, 10000, "[beep]")]
    speech = [Caption(0, 3000, ("one",)), Caption(3200, 5000, ("two",))]
    assert shown(with_sounds(speech, [sound(3.0, 3.2, "beep")], 5.0)) == [(0, 3000, "[beep]|one"), (3200, 5000, "two")]
    both = [sound(3.0, 3.2, "beep"), sound(3.4, 3.6)]
    assert shown(with_sounds([], both, 10.0)) == [(3000, 4400, "[beep] [music]")]


def test_a_sound_with_short_gaps_is_one_caption() -> None:
    rings = [sound(1, 2, "ringing"), sound(2.5, 3.5, "ringing"), sound(6, 7, "ringing")]
    assert shown(with_sounds([], rings, 10.0)) == [(1000, 3500, "[ringing]"), (6000, 7000, "[ringing]")]


def test_files_are_those_of_all_captions() -> None:
    """Read back: WebVTT escapes, SubRip numbers."""
    found = with_sounds([Caption(0, 1000, ("a < b",))], [sound(1.5, 4.0, "Q&A")], 5.0)
    vtt, srt = captions_as(found, "vtt"), captions_as(found, "srt")
    assert vtt.split("\n\n")[2] == "00:00:01.500 --> 00:00:04.000\n[Q&amp;A]\n"
    assert re.findall(r"^\d+$", srt, re.MULTILINE) == ["1", "2"]
    assert "00:00:01,500 --> 00:00:04,000\n[Q&A]\n" in srt
