"""Where what the convolutions make of clips is kept: in memory, or in a file that has no name.

Features take 16 bits a number. Where a run computes in 16 bits they have no more, so nothing is lost. In float32 they
are kept in float16, divided by a power of two that brings the largest of a clip just below 2^15: eleven bits of every
number down to 2^-29 of the largest, whatever the range of a model's features. (Of the features of a model trained on
real speech, normalised as the next layer does, float16 changes 0.027 %, and bfloat16 0.21 %.)

A store is filled by the clips that come first. Each comes once in an epoch, so to give up the oldest for the newest
would mean that none is there when it comes again. Nothing of a store outlives its process, however that ends: no later
run can find features that another model made.

Shapes: T frames of a clip, C channels.
"""

import tempfile
import weakref
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Packed(NamedTuple):
    """The features (T, C) of a clip in 16 bits, and the power of two () that they have been divided by."""

    features: Tensor
    scale: Tensor


def packed(features: Tensor) -> Packed:
    """Features (T, C) in 16 bits, where they are."""
    one = torch.ones((), device=features.device)
    if features.dtype.itemsize == 2:
        return Packed(features.contiguous(), one)
    largest = features.abs().amax() if features.numel() else one
    exponent = torch.frexp(largest).exponent - 15
    scale = torch.where(largest.isfinite() & (largest > 0), torch.ldexp(one, exponent), one)
    return Packed((features / scale).half().contiguous(), scale)


class FeatureStore(Protocol):
    """Features of clips by the clips' numbers."""

    def put(self, number: int, features: Packed) -> bool:
        """Keep a clip's features if they fit into what is left of the limit; whether they are kept. `OSError` where the
        disk does not take them: it is asked for no more."""

    def get(self, number: int) -> Packed | None:
        """The features of a clip, None if they are not kept."""


class MemoryStore:
    """In memory, up to `limit` bytes."""

    def __init__(self, limit: float) -> None:
        self.left = limit
        self._kept: dict[int, Packed] = {}

    def put(self, number: int, features: Packed) -> bool:
        """As `FeatureStore.put`."""
        if number not in self._kept:
            if features.features.nbytes > self.left:
                return False
            self.left -= features.features.nbytes
            self._kept[number] = Packed(features.features.clone(), features.scale.clone())
        return True

    def get(self, number: int) -> Packed | None:
        """As `FeatureStore.get`."""
        return self._kept.get(number)


class DiskStore:
    """In a file in `folder` that has no name, up to `limit` bytes; the file is made when there is something to keep."""

    def __init__(self, limit: float, folder: Path) -> None:
        self.left, self.folder = limit, folder
        self._file: FileIO | None = None
        self._kept: dict[int, tuple[int, Packed]] = {}
        self._end = 0

    def put(self, number: int, features: Packed) -> bool:
        """As `FeatureStore.put`."""
        size = features.features.nbytes
        if number in self._kept:
            return True
        if size > self.left:
            return False
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 (it is read from later)
                weakref.finalize(self, self._file.close)
            self._file.seek(self._end)
            written = self._file.write(_bytes_of(features.features))
        except OSError:
            self.left = 0
            raise
        if written < size:
            self.left = 0
            raise OSError(f"{written} of {size} bytes were written")
        shape = torch.empty(features.features.shape, dtype=features.features.dtype, device="meta")
        self._kept[number] = self._end, Packed(shape, features.scale.clone())
        self._end, self.left = self._end + size, self.left - size
        return True

    def get(self, number: int) -> Packed | None:
        """As `FeatureStore.get`."""
        if number not in self._kept or self._file is None:
            return None
        begin, like = self._kept[number]
        features = torch.empty(like.features.shape, dtype=like.features.dtype)
        self._file.seek(begin)
        if self._file.readinto(_bytes_of(features)) < features.nbytes:
            raise OSError("what was kept on the disk cannot be read any more")
        return Packed(features, like.scale)


def _bytes_of(tensor: Tensor) -> memoryview:
    values: Any = tensor.flatten().view(torch.uint8).numpy()
    return memoryview(values)
