"""The windows of a recording in which somebody speaks: what lies between them, the model does not hear.

Sections of speech begin and end on the frame grid of the whole recording, whose moments normalise them. So their frames
are those that the recording has there, and their times need no correction.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np

from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.voice_activity import Section, SilenceRules, VoiceActivity
from wav2vec2.inference.windows_and_segments import Moments, Samples, Window, WindowPlan


def spoken_windows(plan: WindowPlan, audio: AudioInput, heard: Moments, rules: SilenceRules) -> Iterator[Window]:
    """`plan.windows` without the silence; a recording without speech has none. `heard` becomes its moments.

    A recording of several windows is read twice: once for its moments and its speech, once for the model.
    """
    voice = VoiceActivity(rules, plan.times.sampling_rate)
    sections: list[Section] = []
    pieces = _pieces(plan, audio)
    start = list(islice(pieces, 2))
    for piece in chain(start, pieces):
        heard.add(piece)
        sections += voice.push(piece)
    sections += voice.finish()
    sound = _Forward(start if len(start) < 2 else _pieces(plan, audio))
    stride = plan.times.stride
    for section in sections:
        first, last = section.start // stride * stride, min(-(-section.end // stride) * stride, heard.count)
        blocks = (sound.between(*cut) for cut in _overlapping(first, last, plan))
        yield from plan.cut((heard.normalised(block) if plan.normalise else block for block in blocks), first // stride)


def _pieces(plan: WindowPlan, audio: AudioInput) -> Iterator[Samples]:
    return audio.blocks(plan.times.sampling_rate, plan.size, 0)


def _overlapping(first: int, last: int, plan: WindowPlan) -> Iterator[tuple[int, int]]:
    """Where the windows of a section begin and end. Only the last is shorter."""
    overlap = 2 * plan.context
    for begin in range(first, max(last - overlap, first + 1), plan.size - overlap):
        yield begin, min(begin + plan.size, last)


class _Forward:
    """Samples of a recording by their place, which never goes back to before the last `start`."""

    def __init__(self, pieces: Iterable[Samples]) -> None:
        self._pieces = iter(pieces)
        self._kept: Samples = np.empty(0, np.float32)
        self._begin = 0

    def between(self, start: int, end: int) -> Samples:
        """Samples `start` ... `end` - 1."""
        while self._begin + len(self._kept) < end:
            left = self._kept[max(start - self._begin, 0) :]
            self._begin += len(self._kept) - len(left)
            if (piece := next(self._pieces, None)) is None:
                raise ValueError("the recording is shorter than when its speech was looked for: it has changed")
            self._kept = np.concatenate([left, piece])
        return self._kept[start - self._begin : end - self._begin]
