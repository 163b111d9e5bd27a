"""Which clips need not be read any more, as the training process tells its workers.

What the convolutions make of a clip may be kept (`wav2vec2.training.kept_features`); whoever makes a batch then leaves
the clip's samples out. Workers run ahead of the training process and each for itself, so the two share one array in
memory: of every clip how many samples it has, once it is kept, and 0 before. What is kept stays kept, so it does not
matter when a worker learns of it.
"""

import mmap
import os
import tempfile
import weakref
from multiprocessing import reduction
from typing import Any

import numpy as np


class KeptClips:
    """The samples of each kept clip by the clip's number, 0 of the others. Processes that are started with it see the
    same array."""

    def __init__(self, clips: int) -> None:
        self._file = tempfile.TemporaryFile(prefix="wav2vec2-")  # noqa: SIM115 (it lives as long as this)
        weakref.finalize(self, self._file.close)
        self._file.truncate(4 * max(1, clips))
        self._lengths = _mapped(self._file.fileno())

    def samples(self, number: int | None) -> int:
        """Of one clip; 0 of one that is not kept, or that has no number."""
        return 0 if number is None else int(self._lengths[number])

    def add(self, number: int, samples: int) -> None:
        """From now on this clip need not be read."""
        self._lengths[number] = samples

    def __reduce__(self) -> Any:
        """Sent to a process that is being started, it is the same array. Where files are not handed on it knows of
        none, and the process reads every clip."""
        if os.name != "posix":
            return KeptClips, (len(self._lengths),)
        return _received, (reduction.DupFd(self._file.fileno()),)


def _received(descriptor: Any) -> KeptClips:
    """In the other process."""
    kept = KeptClips.__new__(KeptClips)
    number = descriptor.detach()
    kept._lengths = _mapped(number)
    os.close(number)
    return kept


def _mapped(file: int) -> Any:
    return np.frombuffer(mmap.mmap(file, 0), np.int32)
