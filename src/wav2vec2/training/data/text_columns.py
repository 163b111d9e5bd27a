"""Columns of texts and paths as a few arrays, so that processes can share them.

A list of a million texts is a million objects: to read it from a pickle takes every process seconds and hundreds of
megabytes. Arrays are mapped, and a text is made when it is asked for.

Letters: n texts, N bytes of all of them.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

_Value = TypeVar("_Value", covariant=True)

#: Names of files may be no valid UTF-8, which Python writes as lone surrogates.
_ENCODING = ("utf-8", "surrogatepass")


class Column(Sequence[_Value]):
    """Values that are made when they are asked for."""

    @abstractmethod
    def at(self, index: int) -> _Value:
        """The value of a number from 0 on."""

    @overload
    def __getitem__(self, index: int) -> _Value: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Value]: ...
    def __getitem__(self, index: int | slice) -> _Value | list[_Value]:
        numbers = range(len(self))[index]
        return self.at(numbers) if isinstance(numbers, int) else [self.at(number) for number in numbers]


class TextColumn(Column[str | None]):
    """Texts of which some may be None.

    >>> column = TextColumn(["one", None, ""])
    >>> list(column)
    ['one', None, '']
    """

    def __init__(self, texts: Iterable[str | None]) -> None:
        encoded = [None if text is None else text.encode(*_ENCODING) for text in texts]
        self._ends = np.cumsum([0, *(len(text or b"") for text in encoded)])
        self._missing = np.array([text is None for text in encoded], np.bool_)
        self._bytes = np.frombuffer(b"".join(text or b"" for text in encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._missing)

    def at(self, index: int) -> str | None:
        """One text."""
        if self._missing[index]:
            return None
        return self._bytes[self._ends[index] : self._ends[index + 1]].tobytes().decode(*_ENCODING)


class PathColumn(Column[Path]):
    """The same of paths."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._texts = TextColumn(map(str, paths))

    def __len__(self) -> int:
        return len(self._texts)

    def at(self, index: int) -> Path:
        """One path."""
        return Path(self._texts.at(index) or "")
