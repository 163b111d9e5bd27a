"""The clips that every export is tried on: the caller's or one made here, and cuts of it where mistakes show.

Shapes: S samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import frame_stride, receptive_field
from wav2vec2.export.refusal import ExportError
from wav2vec2.processing.audio_files import load_audio
from wav2vec2.processing.audio_sources import Source

Array = NDArray[np.float32]


def whole_clips(audio: Sequence[Source], rate: int) -> list[Array]:
    """The clips (S,) themselves."""
    return [load_audio(one, rate) for one in audio] or [vowels(rate)]


#: Resonances (Hz) of five vowels, as in "father", "see", "do", "bed", "law".
_RESONANCES = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def vowels(rate: int) -> Array:
    """Five vowels of 0.4 s with a hiss before each: voiced, unvoiced and silent stretches, always the same."""
    noise = np.random.default_rng(0)
    time = np.arange(round(0.4 * rate)) / rate
    pieces = []
    for number, resonances in enumerate(_RESONANCES):
        pitch = 110.0 + 15 * number
        voice = np.zeros_like(time)
        for harmonic in range(1, int(0.45 * min(rate, 8000) / pitch)):
            distances = [(harmonic * pitch - peak) / 90 for peak in resonances]
            voice += sum(1 / (1 + one**2) for one in distances) * np.sin(2 * np.pi * harmonic * pitch * time)
        voice *= np.sin(np.pi * time / 0.4) ** 0.5 / np.abs(voice).max()
        hiss = noise.normal(0, 0.05, round(0.08 * rate))
        pieces += [hiss, 0.3 * voice, np.zeros(round(0.05 * rate))]
    return np.concatenate(pieces).astype(np.float32)


def cuts(clip: Array, config: Wav2Vec2Config) -> list[Array]:
    """Beginnings of a clip: one frame, a sample more, all samples but one of two frames, a second; and all of it."""
    field, stride = receptive_field(config.conv_kernel, config.conv_stride), frame_stride(config.conv_stride)
    if len(clip) < field:
        raise ExportError(f"a clip of {len(clip)} samples is too short to try a model on: a frame hears {field}")
    loudest = int(np.abs(clip).argmax())  # silence would try nothing
    begin = max(min(loudest - field // 2, len(clip) - field - stride), 0)
    lengths = [field, field + 1, field + stride - 1]
    return [*(clip[begin : begin + length] for length in lengths), clip[:16_000], clip]
