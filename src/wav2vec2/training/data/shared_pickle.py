"""An object that many processes read: pickled once into a file without a name, not once for each of them.

The arrays in it are not read at all, but mapped: all processes share the pages of the file.
"""

import mmap
import os
import pickle
import struct
import tempfile
from multiprocessing import reduction
from typing import Any

#: Where a piece of the file begins: a multiple of this many bytes, as arrays like it.
_ALIGNMENT = 64


class SharedPickle:
    """Pickled itself, for the start of another process, it is a descriptor; what comes out there is the object."""

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        self._objects = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        pieces = [memoryview(self._objects), *(buffer.raw() for buffer in buffers)]
        self.file = tempfile.TemporaryFile(prefix="wav2vec2-")  # noqa: SIM115 (it lives as long as this)
        self.file.write(struct.pack(f"<{len(pieces) + 1}q", len(pieces), *(piece.nbytes for piece in pieces)))
        for piece in pieces:
            self.file.write(bytes(-self.file.tell() % _ALIGNMENT))
            self.file.write(piece)
        self.file.flush()

    def names(self, module: str) -> bool:
        """Whether something in the object is defined in this module, so that whoever reads it must import that."""
        return module.encode() in self._objects

    def __reduce__(self) -> Any:
        return _received, (reduction.DupFd(self.file.fileno()),)


def _received(descriptor: Any) -> Any:
    number = descriptor.detach()
    try:
        return read_pickle(number)
    finally:
        os.close(number)


def read_pickle(descriptor: int) -> Any:
    """The object; its arrays cannot be changed."""
    content = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    (count,) = struct.unpack_from("<q", content)
    at, pieces = 8 * (count + 1), []
    for length in struct.unpack_from(f"<{count}q", content, 8):
        at += -at % _ALIGNMENT
        pieces.append(content[at : at + length])
        at += length
    return pickle.loads(pieces[0], buffers=pieces[1:])
