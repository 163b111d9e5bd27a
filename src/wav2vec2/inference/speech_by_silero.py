"""Speech as the model of the package silero-vad hears it (MIT licence), run by ONNX Runtime alone.

Only the file of the model is used, in the folder of the installed package, whose code is not imported: it would set the
number of PyTorch's threads to one for the whole process. The model hears 512 samples at a time with 64 before them.

Shapes: S samples, F frames.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_RATE, _FRAME, _BEFORE = 16_000, 512, 64

#: Numbers that the model keeps from frame to frame, in each of its two states.
_STATE = (1, 1, 128)

_MODEL = "silero_vad_16k_sequence.onnx"


class SileroDetector:
    """Scores of one stream, whatever its packets: how probable speech is in each 32 ms."""

    #: Speech begins with a frame of this score, and lasts until one has less than the second; the package's own.
    enters, leaves = 0.5, 0.35

    #: Samples of a frame.
    frame = _FRAME

    def __init__(self, rate: int) -> None:
        if rate != _RATE:
            raise ValueError(f"silero-vad hears 16000 Hz, and the model for speech wants {rate}: take 'level'")
        self._session = silero_session(silero_file())
        self._waiting = np.zeros(_BEFORE, np.float32)  # first those before the next frame
        self._states = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)

    def push(self, samples: Samples) -> NDArray[np.float64]:
        """Take in samples (S,); the scores of the frames that are whole now."""
        self._waiting = np.concatenate([self._waiting, samples])
        count = (len(self._waiting) - _BEFORE) // _FRAME
        if not count:
            return np.empty(0)
        heard = np.lib.stride_tricks.sliding_window_view(self._waiting, _BEFORE + _FRAME)[::_FRAME]  # (F, 576)
        self._waiting = self._waiting[count * _FRAME :].copy()
        inputs = {"input": np.ascontiguousarray(heard[:count]), "h": self._states[0], "c": self._states[1]}
        scores, *states = self._session.run(["speech_probs", "hn", "cn"], inputs)
        self._states = states[0], states[1]
        return np.asarray(scores, np.float64).reshape(-1)

    def finish(self) -> NDArray[np.float64]:
        """At the end of the stream: the score of what is left, with zeros behind it."""
        left = (len(self._waiting) - _BEFORE) % _FRAME
        return self.push(np.zeros(_FRAME - left, np.float32)) if left else np.empty(0)


def silero_file() -> Path:
    """The model in the installed package."""
    package = find_spec("silero_vad")
    if package is None or package.submodule_search_locations is None:
        raise ImportError("speech by 'silero' needs silero-vad, which is not installed: pip install 'wav2vec2[vad]'")
    path = Path(package.submodule_search_locations[0]) / "data" / _MODEL
    if not path.is_file():
        raise ImportError(f"the installed silero-vad has no {_MODEL}: pip install 'silero-vad>=6.2.3'")
    return path


@cache
def silero_session(path: Path) -> Any:
    """The model, which several threads may run at once."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(f"speech by 'silero' needs ONNX Runtime: pip install 'wav2vec2[vad]' ({error})") from error
    options = runtime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns of parts of the model that it leaves out
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
