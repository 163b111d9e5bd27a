"""What `Transcriber.transcribe` may be given, each as an input whose samples can be read block by block, twice.

Shapes: S samples of a recording, n samples of a block.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_files import audio_blocks
from wav2vec2.processing.audio_sources import AUDIO_ENDINGS, name_of
from wav2vec2.processing.waveforms import check_rate, resample


@dataclass(frozen=True)
class AudioInput:
    """A file (a path, or its bytes), or samples."""

    name: str
    #: The path, the bytes, or the samples of one channel.
    content: Any
    #: The rate of samples; None for a file.
    rate: int | None = None
    #: Called with every block: what it raises ends the reading in between, where nothing is lost.
    check: Callable[[], None] = field(default=lambda: None, compare=False)

    @property
    def is_file(self) -> bool:
        """Whether the samples are still to be decoded."""
        return self.rate is None

    @property
    def is_path(self) -> bool:
        """Whether it is a file on this machine, which can be read again later."""
        return isinstance(self.content, str | os.PathLike)

    def blocks(self, rate: int, size: int, overlap: int) -> Iterator[NDArray[np.float32]]:
        """float32 (n,) at `rate`: blocks of `size` samples, each beginning with the last `overlap` of the one before.

        Only the last block is shorter. Files are decoded as blocks are asked for.
        """
        if self.is_file:
            for block in audio_blocks(self.content, rate, size / rate, overlap / rate):
                self.check()
                yield block
            return
        samples = resample(self.content, self.rate or rate, rate)
        for begin in range(0, max(len(samples) - overlap, min(len(samples), 1)), size - overlap):
            self.check()
            yield samples[begin : begin + size]


def audio_in(folder: Path) -> list[Path]:
    """The audio files of a folder and all folders in it, in alphabetical order. None at all is an error."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_ENDINGS and path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder}: no audio files in it (nothing ends in {' '.join(sorted(AUDIO_ENDINGS))})")
    return found


def audio_inputs(audio: object, sampling_rate: int | None) -> tuple[list[AudioInput], bool]:
    """The inputs that `audio` means, and whether it means one alone: a file, its bytes, or samples.

    A folder and a list mean several. Arrays need their rate: `sampling_rate`, or a pair (array, rate).
    """
    if isinstance(audio, str | os.PathLike) and Path(audio).is_dir():
        return [AudioInput(str(path), path) for path in audio_in(Path(audio))], False
    if isinstance(audio, list) and not (audio and isinstance(audio[0], Real)):  # which would be samples
        return [_one_input(item, sampling_rate, f"audio {number}") for number, item in enumerate(audio)], False
    return [_one_input(audio, sampling_rate, "the audio")], True


def _one_input(audio: object, sampling_rate: int | None, name: str) -> AudioInput:
    if isinstance(audio, AudioInput):
        return audio
    if isinstance(audio, str | os.PathLike | bytes | bytearray | memoryview):
        return AudioInput(name_of(audio), audio)
    if isinstance(audio, tuple) and len(audio) == 2 and isinstance(audio[1], Real):
        audio, sampling_rate = audio
    if not hasattr(audio, "shape") and not isinstance(audio, Sequence):
        raise ValueError(f"{name} is {type(audio).__name__}: need a path, the bytes of a file, or (array, rate)")
    if sampling_rate is None:
        raise ValueError(f"{name} is an array without its rate: pass (array, sampling_rate), or sampling_rate=")
    return AudioInput(name, audio, check_rate(sampling_rate, f"the sampling rate of {name}"))
