"""How far sound rises above the noise it lies in: a detector of speech that needs no model.

The power of every 20 ms is taken in six bands between 100 and 7500 Hz, so that neither a constant offset nor rumble
counts, and hum fills one band, not all. Noise is steady, and even quick speech has gaps: the noise in a band is the
lowest level that the band has had around a moment (Martin 2001, minimum statistics). A frame's score is how many
decibels its two strongest bands lie above their noise: 4 on average in noise alone, whatever noise it is.

Shapes: S samples, n samples of a frame, F frames of a block, B bands.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Numbers = NDArray[np.float64]

#: Where bands meet, in Hz. The first begins above mains hum, the last ends below what telephones and codecs cut off.
_EDGES = (100, 300, 600, 1200, 2400, 4000, 7500)

#: Frames a second: 20 ms each, whose spectrum has a value every 50 Hz.
_FRAMES_A_SECOND = 50

#: Frames that are computed together, half a second of them. What came in which packet can thus make no difference.
_BLOCK = 25

#: A level is that of so many frames up to this one: 100 ms, less than the pauses in speech, and steady in noise.
_AVERAGED = 5

#: Blocks before and behind a block in which its noise is looked for: 10 s, and 1 s that has to be waited for.
_BEFORE, _BEHIND = 20, 2

#: Decibels in a band, 0 for a square wave of full scale, below which nothing is told apart: near silence in 16 bits.
_SILENCE = -85.0


class LevelDetector:
    """Scores of one stream, in decibels above its noise. They do not depend on the packets in which it comes.

    A score is given when the sound of one to one and a half seconds behind its frame is there.
    """

    #: Speech begins with a frame of this score, and lasts until one has less than the second.
    enters, leaves = 8.0, 6.0

    def __init__(self, rate: int) -> None:
        #: Samples of a frame.
        self.frame = rate // _FRAMES_A_SECOND
        bins = self.frame // 2
        self._edges = [edge for edge in (hertz // _FRAMES_A_SECOND for hertz in _EDGES) if edge <= bins]
        if len(self._edges) < 3:
            raise ValueError(f"speech is not found by its level in audio of {rate} Hz: 1200 Hz are the least")
        self._taper = np.hanning(self.frame + 1)[:-1]
        self._waiting: list[Samples] = []
        self._count = 0
        self._powers = np.empty((0, len(self._edges) - 1))  # of the frames before a block that its levels average
        self._levels: deque[Numbers] = deque(maxlen=_BEFORE + 1 + _BEHIND)  # (F, B) of the last blocks
        self._ahead = 0  # blocks at the end of these that have no scores yet

    def push(self, samples: Samples) -> Numbers:
        """Take in samples (S,); the scores of the next frames whose surroundings are known now."""
        self._waiting.append(samples)
        self._count += len(samples)
        size = _BLOCK * self.frame
        if self._count < size:
            return np.empty(0)
        sound = np.concatenate(self._waiting)
        whole = len(sound) // size * size
        self._waiting, self._count = [sound[whole:].copy()], len(sound) - whole
        return np.concatenate([self._next(block) for block in sound[:whole].reshape(-1, size)])

    def finish(self) -> Numbers:
        """At the end of the stream: the scores of the frames that are left. Samples that fill no frame have none."""
        sound = np.concatenate([np.empty(0, np.float32), *self._waiting])
        rest = sound[: len(sound) // self.frame * self.frame]
        found = [self._next(rest)] if len(rest) else []
        while self._ahead:
            found.append(self._scores())
        return np.concatenate([np.empty(0), *found])

    def _next(self, block: Samples) -> Numbers:
        """Take in a block (S,), and give the scores of the block that now has enough behind it, if there is one."""
        self._levels.append(self._levels_of(block))
        self._ahead += 1
        return self._scores() if self._ahead > _BEHIND else np.empty(0)

    def _levels_of(self, block: Samples) -> Numbers:
        """The levels (F, B) of a block (S,), in decibels."""
        frames = block.reshape(-1, self.frame).astype(np.float64) * self._taper
        spectrum = np.square(np.abs(np.fft.rfft(frames))) * (2 / (self.frame * np.square(self._taper).sum()))
        powers = np.add.reduceat(spectrum, self._edges, axis=1)[:, :-1]
        if not len(self._powers):  # a stream begins as if it had been so before
            self._powers = np.repeat(powers[:_AVERAGED].mean(0, keepdims=True), _AVERAGED - 1, axis=0)
        known = np.concatenate([self._powers, powers])
        self._powers = known[len(known) - _AVERAGED + 1 :]
        averaged = sum(known[late : len(known) - _AVERAGED + 1 + late] for late in range(_AVERAGED)) / _AVERAGED
        levels: Numbers = 10 * np.log10(averaged + 10 ** (_SILENCE / 10))
        return levels

    def _scores(self) -> Numbers:
        """Of the first block that has none yet."""
        place = len(self._levels) - self._ahead
        self._ahead -= 1
        oldest = max(0, place - _BEFORE)
        around = [levels.min(0) for number, levels in enumerate(self._levels) if number >= oldest]
        above = np.sort(self._levels[place] - np.min(around, axis=0), axis=1)
        scores: Numbers = above[:, -2:].mean(1)
        return scores
