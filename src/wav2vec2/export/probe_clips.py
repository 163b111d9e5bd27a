"""The clips that every export is tried on: the caller's or a bundled one, and cuts of it where mistakes show.

`clip.flac`: "three one four two seven", five recordings of the Free Spoken Digit Dataset in a row (CC BY-SA 4.0, as the
weights that come with the package).
"""

from collections.abc import Sequence
from importlib.resources import as_file, files

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
    if audio:
        return [load_audio(one, rate) for one in audio]
    with as_file(files("wav2vec2.export") / "clip.flac") as path:
        return [load_audio(path, rate)]


def cuts(clip: Array, config: Wav2Vec2Config) -> list[Array]:
    """Beginnings of a clip: one frame, a sample more, all samples but one of two frames, a second; and all of it."""
    field, stride = receptive_field(config.conv_kernel, config.conv_stride), frame_stride(config.conv_stride)
    if len(clip) < field:
        raise ExportError(f"a clip of {len(clip)} samples is too short to try a model on: a frame hears {field}")
    loudest = int(np.abs(clip).argmax())  # silence would try nothing
    begin = max(min(loudest - field // 2, len(clip) - field - stride), 0)
    lengths = [field, field + 1, field + stride - 1]
    return [*(clip[begin : begin + length] for length in lengths), clip[:16_000], clip]
