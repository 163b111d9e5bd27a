"""Tensors that stay in their files until they are written elsewhere, one after another.

A checkpoint may be larger than the memory: what is known of a tensor is its type, its shape and where its bytes lie.
"""

import os
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from wav2vec2.modeling.loading import CheckpointError

Shape = tuple[int, ...]


class LazyTensor(Protocol):
    """What a reader hands on and a writer takes: type and shape at once, values when they are asked for."""

    @property
    def dtype(self) -> torch.dtype:
        """Of which type its values are."""

    @property
    def shape(self) -> Shape:
        """How many there are in each direction."""

    def read(self) -> Tensor:
        """The values, in memory of their own."""


class TensorFile:
    """A file of which pieces are read: where each piece begins, and how many bytes it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = os.stat(path).st_size
        self.pieces: dict[str, tuple[int, int]] = {}

    def add(self, key: str, start: int, length: int) -> None:
        """Name a piece; one that would not lie in the file is a `CheckpointError`."""
        if start < 0 or length < 0 or start + length > self.size:
            raise CheckpointError(f"{self.path}: truncated, piece {key!r} would end behind the file")
        self.pieces[key] = (start, length)

    def piece(self, key: str, offset: int = 0, length: int | None = None) -> bytearray:
        """So many bytes of a piece."""
        start, whole = self.pieces[key]
        buffer = bytearray(whole - offset if length is None else length)
        with self.path.open("rb") as stream:
            stream.seek(start + offset)
            if stream.readinto(buffer) != len(buffer):
                raise CheckpointError(f"{self.path}: truncated at piece {key!r}")
        return buffer


class StoredTensor(NamedTuple):
    """A tensor in a file. It is a tuple, since a pickle can change no tuple that it has made."""

    #: Where it lies.
    file: TensorFile
    #: In which piece of the file.
    key: str
    #: Of which type it is.
    dtype: torch.dtype
    #: How many values of the piece stand before its first.
    offset: int
    #: Its shape in the file, and how many values lie from one to the next in each direction.
    size: Shape
    stride: Shape

    @property
    def shape(self) -> Shape:
        """Its shape, which is that in the file."""
        return self.size

    @property
    def extent(self) -> int:
        """From its first value to its last, all of them and what lies between."""
        if 0 in self.size:
            return 0
        return 1 + sum((count - 1) * step for count, step in zip(self.size, self.stride, strict=True))

    def read(self) -> Tensor:
        """The values, in memory of their own."""
        if not self.extent:
            return torch.empty(self.size, dtype=self.dtype)
        bytes_each = self.dtype.itemsize
        buffer = self.file.piece(self.key, self.offset * bytes_each, self.extent * bytes_each)
        return torch.frombuffer(buffer, dtype=self.dtype).as_strided(self.size, self.stride)

    @classmethod
    def whole(cls, file: TensorFile, key: str, dtype: torch.dtype, size: Shape) -> Self:
        """A tensor that is all of a piece, row after row."""
        return cls(file, key, dtype, 0, size, row_major(size))


def row_major(size: Shape) -> Shape:
    """How many values lie from one to the next in each direction if the last one is written fastest.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    stride, step = [], 1
    for count in reversed(size):
        stride.append(step)
        step *= max(count, 1)
    return tuple(reversed(stride))


class MadeTensor(NamedTuple):
    """A small tensor that no file holds: its `values`."""

    values: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Of which type they are."""
        return self.values.dtype

    @property
    def shape(self) -> Shape:
        """How many there are in each direction."""
        return tuple(self.values.shape)

    def read(self) -> Tensor:
        """The values."""
        return self.values


class Reshaped(NamedTuple):
    """A `source` in another `shape`."""

    source: LazyTensor
    shape: Shape

    @property
    def dtype(self) -> torch.dtype:
        """Of which type it is."""
        return self.source.dtype

    def read(self) -> Tensor:
        """The values."""
        return self.source.read().reshape(self.shape)


class ChosenRows(NamedTuple):
    """Rows of a `source` in a new order; a row that is None holds `fill` everywhere."""

    source: LazyTensor
    rows: tuple[int | None, ...]
    fill: float

    @property
    def dtype(self) -> torch.dtype:
        """Of which type it is."""
        return self.source.dtype

    @property
    def shape(self) -> Shape:
        """As many rows as were chosen."""
        return (len(self.rows), *self.source.shape[1:])

    def read(self) -> Tensor:
        """The values."""
        values = self.source.read()
        new = values.new_full(self.shape, self.fill)
        for row, old in enumerate(self.rows):
            if old is not None:
                new[row] = values[old]
        return new


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row after row."""
    flat = tensor.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")
