"""Sounds made of numbers, each with a name: music, applause, a telephone, beeps, and noise that has no name.

Every function draws one sound of so many seconds from a generator of random numbers: float32 (S,) at 16 kHz, at the
loudness 1 (root of the mean square), and never the same twice.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 16000
Samples = NDArray[np.float32]
Chance = np.random.Generator

#: Semitones above the key's note of the three notes of a chord, by the degree of the scale.
_CHORDS = ((0, 4, 7), (2, 5, 9), (4, 7, 11), (5, 9, 12), (7, 11, 14), (9, 12, 16))


def music(seconds: float, chance: Chance) -> Samples:
    """Chords, a bass and a melody of notes with harmonics that fade, in a steady beat, often with drums."""
    samples = np.zeros(round(seconds * RATE) + RATE * 2)
    beat = 60 / chance.uniform(70, 160)
    key = chance.uniform(90, 180)
    harmonics = chance.uniform(0, 1, 8) * np.arange(1, 9) ** -chance.uniform(0.5, 2.0)
    fade, arpeggio, drums, level = chance.uniform(0.8, 5), chance.random() < 0.4, chance.random() < 0.5, 0.3
    for number, begin in enumerate(np.arange(0, seconds, beat)):
        if number % 4 == 0:
            chord = _CHORDS[chance.integers(len(_CHORDS))]
        for place, step in enumerate(chord):
            if number % 2 == 0 or arpeggio:
                later = place * beat / 3 if arpeggio else chance.uniform(0, 0.02)
                _add(samples, begin + later, _note(2 * key * 2 ** (step / 12), 2 * beat, harmonics, fade))
        _add(samples, begin, 0.8 * _note(key / 2 * 2 ** (chord[0] / 12), beat, harmonics, fade))
        if chance.random() < 0.6:
            step = chord[chance.integers(3)] + 12
            _add(
                samples,
                begin + beat * chance.choice([0, 0.5]),
                _note(2 * key * 2 ** (step / 12), beat, harmonics, fade),
            )
        if drums:
            _add(samples, begin, level * _burst(0.15, *((40, 200) if number % 2 == 0 else (1000, 5000)), 25.0, chance))
            _add(samples, begin + beat / 2, level / 2 * _burst(0.05, 4000, 7900, 60.0, chance))
    return _even(samples[: round(seconds * RATE)])


def applause(seconds: float, chance: Chance) -> Samples:
    """Claps of many hands: short bursts of noise, each pair of hands with its colour, in a room."""
    hands = [_burst(0.04, low, low * chance.uniform(1.5, 4), chance.uniform(80, 250), chance)
             for low in chance.uniform(400, 2500, 24)]  # fmt: skip
    samples = np.zeros(round(seconds * RATE) + RATE)
    swell = chance.uniform(0.5, 1.0, 2)
    for begin in chance.uniform(0, seconds, round(seconds * np.exp(chance.uniform(np.log(25), np.log(250))))):
        loud = np.interp(begin, [0, seconds], swell) * chance.lognormal(0, 0.5)
        _add(samples, begin, loud * hands[chance.integers(len(hands))])
    echo = chance.normal(size=RATE // 3) * np.exp(-np.arange(RATE // 3) / RATE * chance.uniform(10, 30))
    echo[0] = 0
    dry = samples[: round(seconds * RATE)]
    size = len(dry) + len(echo)
    wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(echo, size), size)[: len(dry)]
    return _even(dry + chance.uniform(0.02, 0.2) * wet)


def ringing(seconds: float, chance: Chance) -> Samples:
    """A telephone: a bell with a clapper, a warble of two tones, or the two tones that a caller hears."""
    time = np.arange(round(seconds * RATE)) / RATE
    kind, clapper = chance.integers(3), chance.uniform(15, 25)
    if kind == 0:
        tones = sum(np.sin(2 * np.pi * f * time) / n for n, f in enumerate(chance.uniform(900, 3500, 5), 1))
        return _even(tones * np.exp(-6 * ((time * clapper) % 1)))
    if kind == 1:
        low, ratio = chance.uniform(500, 1800), chance.uniform(1.15, 1.6)
        high = (time * clapper) % 1 < 0.5
        phase = 2 * np.pi * np.cumsum(np.where(high, low * ratio, low)) / RATE
        return _even(np.sin(phase) + chance.uniform(0, 0.4) * np.sin(3 * phase))
    first, second = ((440, 480), (400, 450), (350, 440))[chance.integers(3)]
    return _even(np.sin(2 * np.pi * first * time) + np.sin(2 * np.pi * second * time))


def beep(seconds: float, chance: Chance) -> Samples:
    """One tone, or the two tones of a key, on and off, or once."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitches = (
        chance.uniform(300, 3200, 2) if chance.random() < 0.6 else chance.choice([697, 770, 852, 1209, 1336, 1477], 2)
    )
    tone = np.sin(2 * np.pi * pitches[0] * time)
    if chance.random() < 0.4:
        tone = tone + np.sin(2 * np.pi * pitches[1] * time)
    if chance.random() < 0.25:
        tone = np.sign(tone)
    period = chance.uniform(0.15, 0.5)
    edge = np.clip(np.minimum(time, time[-1] - time) / 0.005, 0, 1)
    return _even(tone * edge * ((time / period) % 1 < 0.5 if seconds > 0.7 else 1))


def noise(seconds: float, chance: Chance) -> Samples:
    """White to brown, hum, or knocks: nothing that a caption would name."""
    size = round(seconds * RATE)
    kind = chance.integers(4)
    if kind < 2:
        return coloured(size, chance.uniform(0, 2), chance)
    if kind == 2:
        time = np.arange(size) / RATE
        hum = sum(np.sin(2 * np.pi * 50 * n * time) * chance.uniform(0, 1) / n for n in range(1, 9))
        return _even(np.asarray(hum + 0.1 * coloured(size, 1, chance), np.float64))
    knocks = np.zeros(size + RATE)
    for begin in np.sort(chance.uniform(0, seconds, max(1, round(seconds * chance.uniform(1, 6))))):
        low = chance.uniform(80, 2000)
        _add(knocks, begin, chance.lognormal(0, 0.4) * _burst(0.08, low, 4 * low, chance.uniform(40, 120), chance))
    return _even(knocks[:size] + 0.02 * chance.normal(size=size))


#: What can be drawn, by its label; "none" is the background, which has no caption.
SOUNDS: dict[str, Callable[[float, Chance], Samples]] = {
    "music": music,
    "applause": applause,
    "ringing": ringing,
    "beep": beep,
    "none": noise,
}


def coloured(size: int, slope: float, chance: Chance) -> Samples:
    """Noise whose power falls by so many powers of the frequency: 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(chance.normal(size=max(size, 2)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 20 * size / RATE + 1) ** (-slope / 2)
    return _even(np.fft.irfft(spectrum, max(size, 2))[:size])


def _note(hertz: float, seconds: float, harmonics: NDArray[np.float64], fade: float) -> NDArray[np.float64]:
    """A note (S,) that sets in quickly and fades."""
    time = np.arange(round(seconds * RATE)) / RATE
    tones = [loud * np.sin(2 * np.pi * hertz * n * time) for n, loud in enumerate(harmonics, 1) if hertz * n < RATE / 2]
    ends = np.clip(np.minimum(time / 0.01, (time[-1] - time) / 0.03), 0, 1)
    note: NDArray[np.float64] = np.sum(tones, axis=0) * np.exp(-fade * time) * ends
    return note


def _burst(seconds: float, low: float, high: float, fade: float, chance: Chance) -> NDArray[np.float64]:
    """Noise (S,) between two frequencies that sets in at once and fades."""
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(chance.normal(size=size))
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    burst = np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), size)
    burst /= max(float(np.abs(burst).max()), 1e-9)
    return burst * np.exp(-fade * np.arange(size) / RATE)


def _add(samples: NDArray[np.float64], second: float, sound: NDArray[np.float64]) -> None:
    """Add a sound from a second on, as far as there is room."""
    begin = round(second * RATE)
    end = min(begin + len(sound), len(samples))
    if end > begin:
        samples[begin:end] += sound[: end - begin]


def _even(samples: NDArray[np.float64]) -> Samples:
    """At the loudness 1."""
    return (samples / max(float(np.sqrt(np.mean(samples**2))), 1e-9)).astype(np.float32)
