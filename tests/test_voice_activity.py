"""Speech is found where it was put, in silence and in noise; packets, rates and hours make no difference."""

import tracemalloc
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shared_data import SHARED_DATA, needs_shared_data

from wav2vec2.inference.speech_by_level import LevelDetector
from wav2vec2.inference.voice_activity import Section, SilenceRules, VoiceActivity, silence_rules

RATE = 16_000
Samples = NDArray[np.float32]

#: Where somebody speaks in 70 s: seconds. The last is one short word.
SAID = [(2.0, 8.0), (15.0, 17.0), (30.0, 45.0), (60.0, 60.4)]


def speech(seconds: float, rate: int = RATE) -> Samples:
    """Harmonics of 120 Hz under formants, in four syllables a second with gaps between them; its level is -26 dB."""
    time = np.arange(round(seconds * rate)) / rate
    sound = np.zeros(len(time))
    for number in range(1, 25):
        loudness = sum(np.exp(-(((120 * number - formant) / 200) ** 2)) for formant in (500.0, 1500.0, 2500.0))
        sound += loudness * np.sin(2 * np.pi * 120 * number * time + number)
    sound *= np.clip(1.5 * np.sin(np.pi * 4 * time) ** 2, 0.0, 1.0)
    return leveled(sound.astype(np.float32), -26.0)


def leveled(sound: Samples, decibels: float) -> Samples:
    scale = 10 ** (decibels / 20) / np.sqrt(np.square(sound, dtype=np.float64).mean())
    return np.asarray(sound * scale, np.float32)


@cache
def recording(rate: int = RATE) -> Samples:
    sound = np.zeros(70 * rate, np.float32)
    for start, end in SAID:
        sound[round(start * rate) : round(end * rate)] = speech(end - start, rate)
    return sound


@cache
def background(kind: str, decibels: float) -> Samples:
    count = 70 * RATE
    time = np.arange(count) / RATE
    white = np.random.default_rng(5).standard_normal(count)
    if kind == "hum":
        return leveled(np.sum([np.sin(2 * np.pi * 50 * n * time + n) / n for n in range(1, 9)], 0), decibels)
    if kind == "white":
        return leveled(white.astype(np.float32), decibels)
    spectrum = np.fft.rfft(white) / np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20.0))
    return leveled(np.fft.irfft(spectrum, count).astype(np.float32), decibels)


def found_in(sound: Samples, rules: SilenceRules, rate: int = RATE, packets: Any = (480_000,)) -> list[Section]:
    voice = VoiceActivity(rules, rate)
    found: list[Section] = []
    place = number = 0
    while place < len(sound):
        size = packets[number % len(packets)]
        found += voice.push(sound[place : place + size])
        place, number = place + size, number + 1
    return found + voice.finish()


NOISES: dict[str, Samples] = {
    "digital silence": np.zeros(1, np.float32),
    "offset": np.full(1, 0.2, np.float32),
    "hum louder than speech": background("hum", -20.0),
    "white noise, 20 dB below": background("white", -46.0),
    "white noise, 5 dB below": background("white", -31.0),
    "pink noise, 20 dB below": background("pink", -46.0),
    "pink noise, 5 dB below": background("pink", -31.0),
}


@pytest.mark.parametrize("kind", NOISES)
def test_speech_is_found_where_it_was_put(kind: str) -> None:
    """No frame of it is missed; half a second and 0.16 s more of silence on either side is all that is heard."""
    found = found_in(recording() + NOISES[kind], SilenceRules())
    assert len(found) == len(SAID)
    for section, (start, end) in zip(found, SAID, strict=True):
        assert start - 0.66 <= section.start / RATE <= start
        assert end <= section.end / RATE <= end + 0.66


@pytest.mark.parametrize("decibels", [-20, -45])
def test_quiet_speech_is_found(decibels: int) -> None:
    """46 and 71 dB below full scale, in 16 bits: of the quietest the loudest samples are 35 steps high."""
    sound = np.round(recording() * 10 ** (decibels / 20) * 32767).astype(np.int16)
    found = found_in((sound / 32768).astype(np.float32), SilenceRules())
    assert len(found) == len(SAID)
    for section, (start, end) in zip(found, SAID, strict=True):
        assert section.start / RATE <= start and end <= section.end / RATE


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_no_speech(kind: str) -> None:
    assert found_in(np.zeros(70 * RATE, np.float32) + NOISES[kind], SilenceRules()) == []


def test_a_click_is_no_speech_and_the_end_of_a_recording_ends_it() -> None:
    sound = background("white", -60.0).copy()
    sound[20 * RATE : 20 * RATE + 40] += 0.5
    assert found_in(sound, SilenceRules()) == []
    sound[-RATE:] += speech(1.0)
    ((start, end),) = found_in(sound, SilenceRules())
    assert 68.3 <= start / RATE <= 69 and end == len(sound)


def test_noise_that_rises_is_speech_for_ten_seconds_at_most() -> None:
    sound = np.concatenate([background("white", -60.0), background("white", -40.0)])
    ((start, end),) = found_in(sound, SilenceRules())
    assert 69 <= start / RATE <= 70 and end / RATE <= 82


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_other_rates(rate: int) -> None:
    found = found_in(recording(rate), SilenceRules(), rate, (10_000,))
    for section, (start, end) in zip(found, SAID, strict=True):
        assert start - 0.66 <= section.start / rate <= start and end <= section.end / rate <= end + 0.66


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=9), st.integers(0, 6 * RATE))
def test_packets_leave_no_trace(packets: list[int], length: int) -> None:
    sound = (recording()[13 * RATE : 13 * RATE + length] + NOISES["pink noise, 20 dB below"][:length])[:length]
    rules = SilenceRules(shortest_silence=0.3, padding=0.1)
    assert found_in(sound, rules, packets=packets) == found_in(sound, rules)


def test_single_samples_leave_no_trace() -> None:
    sound = speech(1.3)
    voice, packets = (LevelDetector(RATE) for _ in range(2))
    whole = np.concatenate([voice.push(sound), voice.finish()])
    single = np.concatenate([packets.push(sound[n : n + 1]) for n in range(len(sound))] + [packets.finish()])
    np.testing.assert_array_equal(single, whole)
    assert len(whole) == 65


def by_hand(scores: list[float], silence: int, speech: int, enters: float, leaves: float) -> list[tuple[int, int]]:
    """Frames of speech, by an obvious way: from each beginning on, the first run that is silent for long enough."""
    found, place = [], 0
    while (start := next((n for n in range(place, len(scores)) if scores[n] >= enters), None)) is not None:
        end, place = len(scores), len(scores)
        for quiet in range(start + 1, len(scores)):
            loud = next((n for n in range(quiet, len(scores)) if scores[n] >= enters), len(scores))
            below = [n for n in range(quiet, loud) if scores[n] < leaves]
            if below and below[-1] - below[0] >= silence and scores[quiet - 1] >= enters:
                end, place = below[0], next(n for n in below if n - below[0] >= silence)
                break
        if end - start > speech:
            found.append((start, end))
    return found


class Given:
    """A detector with given scores, a frame for each of which is one sample."""

    enters, leaves, frame = 2.0, 1.0, 1

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)

    def push(self, samples: Samples) -> NDArray[np.float64]:
        return np.array([next(self.scores) for _ in samples])

    def finish(self) -> NDArray[np.float64]:
        return np.empty(0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0]), max_size=40), st.integers(1, 6), st.integers(0, 4))
def test_sections_are_those_of_an_obvious_way(scores: list[float], silence: int, least: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SilenceRules, "detector", lambda rules, rate: Given(scores))
        found = found_in(np.zeros(len(scores), np.float32), SilenceRules("level", silence, least, 0.0), 1, (3,))
    assert found == by_hand(scores, silence, least, 2.0, 1.0)


def minutes(count: int) -> Iterator[Samples]:
    sound = background("pink", -40.0)[: 60 * RATE].copy()
    sound[: 10 * RATE] += speech(10.0)
    yield from (sound for _ in range(count))


def test_memory_does_not_grow_with_the_recording() -> None:
    """Of minutes in packets of half a second, less than a megabyte is kept."""
    voice = VoiceActivity(SilenceRules(), RATE)
    peaks, found = [], 0
    for minute in minutes(3):
        tracemalloc.start()
        for packet in minute.reshape(-1, RATE // 2):
            found += len(voice.push(packet))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found == 3
    assert max(peaks) < 2**20


@needs_shared_data("fsdd")
def test_single_words_of_real_voices_are_heard_whole() -> None:
    """40 digits of four speakers, five seconds apart, in pink noise 20 dB below them: none has a frame unheard."""
    clips = [leveled(soundfile.read(path, dtype="float32")[0], -26.0) for path in _digits(40)]
    places = [round((2 + 5 * number) * RATE) for number in range(len(clips))]
    sound = np.tile(background("pink", -46.0), 3)[: places[-1] + 5 * RATE]
    for place, clip in zip(places, clips, strict=True):
        sound[place : place + len(clip)] += clip
    found = found_in(sound, SilenceRules())
    for place, clip in zip(places, clips, strict=True):
        assert any(start <= place and place + len(clip) <= end for start, end in found)
    assert sum(end - start for start, end in found) < sum(map(len, clips)) + len(clips) * 1.4 * RATE


def _digits(count: int) -> list[Any]:
    return sorted((SHARED_DATA / "fsdd").glob("*.flac"))[:: 1200 // count][:count]


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="skip_silence='loud': must be one of level, silero"):
        silence_rules("loud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="longer than what is heard of it"):
        SilenceRules(shortest_silence=1.0, padding=0.5)
    with pytest.raises(ValueError, match="no negative seconds"):
        SilenceRules(padding=-1.0)
    with pytest.raises(ValueError, match="1200 Hz are the least"):
        LevelDetector(1000)
    assert silence_rules(SilenceRules(padding=0.1)) == SilenceRules(padding=0.1)
