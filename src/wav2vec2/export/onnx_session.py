"""Running an ONNX file with ONNX Runtime, on clips alone or together in a padded batch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec2.export.refusal import library

Array = NDArray[np.float32]


class OnnxSession:
    """A file that is loaded; by default on one thread, as what it is compared with."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        onnxruntime = library("onnxruntime", "export")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]

    def masked(self, clips: Sequence[Array]) -> list[Array]:
        """Outputs, in their order, for clips that are padded to the longest and masked."""
        values, mask = padded(clips)
        found: list[Array] = self._session.run(None, {"input_values": values, "attention_mask": mask})
        return found

    def unmasked(self, clip: Array) -> list[Array]:
        """Outputs, in their order, for one clip in a graph with the one input `x`."""
        found: list[Array] = self._session.run(None, {"x": clip[None]})
        return found


def padded(clips: Sequence[Array]) -> tuple[Array, NDArray[np.int64]]:
    """Clips as one batch with zeros behind the shorter ones, and its mask."""
    longest = max(map(len, clips))
    values, mask = np.zeros((len(clips), longest), np.float32), np.zeros((len(clips), longest), np.int64)
    for row, clip in enumerate(clips):
        values[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    return values, mask
