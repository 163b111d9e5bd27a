"""Rate and pauses: where between two words nothing is heard for as long as listeners notice.

A gap between aligned words is not yet a pause: CTC puts a sound into few of its frames. So the sound itself decides.
Pauses are those of 250 ms and more (De Jong and Bosker 2013, "Choosing a threshold for silent pauses to measure second
language fluency").

Shapes: S samples, F frames of 10 ms.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec2.pronunciation.assessment import AssessedWord, Fluency, Pause

#: Seconds of the shortest pause, and of a frame in which sound is measured.
SHORTEST_PAUSE, _FRAME = 0.25, 0.01

#: The lowest level that is told from silence, in dB below the largest sample there can be.
_FLOOR = -90.0


def fluency(words: Sequence[AssessedWord], samples: NDArray[np.float32], sampling_rate: int) -> Fluency:
    """How words run on in the samples (S,) in which they were said."""
    spoken = [(number, word) for number, word in enumerate(words) if not word.omitted]
    if not spoken:
        return Fluency(0.0, 0.0, 0.0, 0.0, ())
    quiet = _quiet(samples, sampling_rate)
    pauses = []
    for (_, before), (number, after) in zip(spoken, spoken[1:], strict=False):
        pauses += [Pause(start, end, number) for start, end in _long_runs(quiet, before.end, after.start)]
    seconds = max(spoken[-1][1].end - spoken[0][1].start, _FRAME)
    silent = sum(pause.end - pause.start for pause in pauses)
    phones = sum(bool(phone.said) for _, word in spoken for phone in word.phones)
    articulating = max(seconds - silent, _FRAME)
    rate, words_per_minute = phones / articulating, 60 * len(spoken) / seconds
    return Fluency(articulating / seconds, seconds, rate, words_per_minute, tuple(pauses))


def _quiet(samples: NDArray[np.float32], sampling_rate: int) -> NDArray[np.bool_]:
    """Which frames (F,) are nearer to the quietest of the recording than to its speech, in dB."""
    size = max(1, round(_FRAME * sampling_rate))
    frames = len(samples) // size
    if not frames:
        return np.zeros(0, dtype=bool)
    power = np.square(samples[: frames * size].reshape(frames, size), dtype=np.float64).mean(1)
    level = np.maximum(10 * np.log10(power + 1e-12), _FLOOR)
    quietest, speech = np.percentile(level, (5, 90))
    return np.asarray(level < (quietest + speech) / 2)


def _long_runs(quiet: NDArray[np.bool_], start: float, end: float) -> Iterator[tuple[float, float]]:
    """The times of runs of quiet frames between two times that are as long as a pause."""
    first, last = round(start / _FRAME), min(round(end / _FRAME), len(quiet))
    edges = np.flatnonzero(np.diff(quiet[first:last].astype(np.int8), prepend=0, append=0))
    for begun, over in edges.reshape(-1, 2):
        if (over - begun) * _FRAME >= SHORTEST_PAUSE - 1e-9:
            yield float(first + begun) * _FRAME, float(first + over) * _FRAME
