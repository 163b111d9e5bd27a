"""The compact file of an n-gram model: the trie's own arrays behind a small header, mapped into memory when read.

    magic (8 bytes), version, order (uint32), words, bytes of vocabulary (uint64), CRC-32 of all that follows the
    header (uint32), 4 unused bytes, number of n-grams of each order (order x uint64);
    vocabulary (UTF-8, one word a line), keys, log_probs, back_offs, after, fallback

Everything is little-endian, every part starts at a multiple of 64 bytes. The sizes in the header must add up to the
size of the file before anything is read, and every index is checked: no file can make the reader allocate more than
its size or look outside it.
"""

import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.language_models.arpa_files import HIGHEST_ORDER
from wav2vec2.language_models.ngram_trie import BLOCK, MOST_NGRAMS, LanguageModelError, NgramTrie

MAGIC = b"W2VNGRAM"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQQII")
_ALIGNMENT = 64
#: No number of a model reaches it, so that the sums of a look-up stay finite.
_ABSURD = 1e30
_ARRAYS = {"keys": "<i8", "log_probs": "<f4", "back_offs": "<f4", "after": "<i4", "fallback": "<i4"}


class _Layout(NamedTuple):
    """Where the parts of a file are: this follows from the number of words, the bytes that list them, and the number
    of n-grams of each order."""

    vocabulary_size: int
    vocabulary_bytes: int
    level_sizes: tuple[int, ...]

    @property
    def header_bytes(self) -> int:
        return _HEADER.size + 8 * len(self.level_sizes)

    def parts(self) -> dict[str, tuple[int, int]]:
        """The offset and the number of items of each part by its name; the offset of "end" is the size of the file."""
        ngrams, contexts = sum(self.level_sizes) + 1, sum(self.level_sizes[:-1]) + 1
        counts = {"keys": ngrams, "log_probs": ngrams, "back_offs": contexts, "after": ngrams, "fallback": contexts}
        found = {"vocabulary": (_aligned(self.header_bytes), self.vocabulary_bytes)}
        end = _aligned(self.header_bytes) + self.vocabulary_bytes
        for name, dtype in _ARRAYS.items():
            found[name] = (_aligned(end), counts[name])
            end = _aligned(end) + counts[name] * np.dtype(dtype).itemsize
        return {**found, "end": (end, 0)}

    def trie(self, content: NDArray[np.uint8]) -> NgramTrie:
        """The arrays within the bytes of a whole file; nothing is copied."""
        tensors: dict[str, Any] = {}
        for name, (offset, count) in self.parts().items():
            if name in _ARRAYS:
                dtype = np.dtype(_ARRAYS[name])
                tensors[name] = torch.from_numpy(content[offset : offset + count * dtype.itemsize].view(dtype))
        return NgramTrie(vocabulary_size=self.vocabulary_size, level_sizes=self.level_sizes, **tensors)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def write_compact(path: Path | str, vocabulary: list[str], trie: NgramTrie) -> None:
    """Write the file; a model that is there already is replaced only when all is written."""
    with new_compact_file(path, vocabulary, trie.level_sizes) as written:
        for name in _ARRAYS:
            source, target = getattr(trie, name), getattr(written, name)
            for first in range(0, len(source), BLOCK):
                target[first : first + BLOCK] = source[first : first + BLOCK]


@contextmanager
def new_compact_file(path: Path | str, vocabulary: list[str], level_sizes: tuple[int, ...]) -> Iterator[NgramTrie]:
    """The empty trie of a new file, mapped into memory, to be filled in; on leaving, the file is finished."""
    _require_little_endian()
    text = "\n".join(vocabulary).encode("utf-8")
    layout = _Layout(len(vocabulary), len(text), level_sizes)
    with replaced_file(path) as stream:
        end, start = layout.parts()["end"][0], layout.parts()["vocabulary"][0]
        stream.truncate(end)
        content = np.memmap(stream, dtype=np.uint8, mode="r+", shape=(end,))
        content[start : start + len(text)] = np.frombuffer(text, dtype=np.uint8)
        trie = layout.trie(content)
        trie.keys[0] = -1
        yield trie
        checksum = _checksum(content[layout.header_bytes :])
        header = _HEADER.pack(MAGIC, _VERSION, len(level_sizes), len(vocabulary), len(text), checksum, 0)
        header += struct.pack(f"<{len(level_sizes)}Q", *level_sizes)
        content[: len(header)] = np.frombuffer(header, dtype=np.uint8)
        content.flush()


def read_compact(path: Path | str) -> tuple[list[str], NgramTrie]:
    """The vocabulary and the n-grams of a compact file, mapped into memory."""
    _require_little_endian()
    try:
        with Path(path).open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            layout, checksum = _read_header(stream.read(_HEADER.size + 8 * HIGHEST_ORDER), size)
            # Copy on write: torch wants writable memory, and the file must never change through it.
            content = np.memmap(stream, dtype=np.uint8, mode="c")
        if _checksum(content[layout.header_bytes :]) != checksum:
            raise LanguageModelError("the checksum is wrong: the file is damaged, fetch or write it again")
        offset, length = layout.parts()["vocabulary"]
        vocabulary = content[offset : offset + length].tobytes().decode("utf-8").split("\n")
        trie = layout.trie(content)
        _check(vocabulary, trie)
        return vocabulary, trie
    except (LanguageModelError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path}: {error}") from error


def _read_header(start: bytes, file_size: int) -> tuple[_Layout, int]:
    if len(start) < _HEADER.size or not start.startswith(MAGIC):
        raise LanguageModelError("not a compact n-gram model (its first bytes are not " + MAGIC.decode() + ")")
    _, version, order, words, vocabulary_bytes, checksum, _ = _HEADER.unpack_from(start)
    if version != _VERSION:
        raise LanguageModelError(f"format version {version}, expected {_VERSION}: write the file again")
    if not 1 <= order <= HIGHEST_ORDER or len(start) < _HEADER.size + 8 * order:
        raise LanguageModelError(f"order {order}, expected 1 to {HIGHEST_ORDER}")
    layout = _Layout(words, vocabulary_bytes, struct.unpack_from(f"<{order}Q", start, _HEADER.size))
    end = layout.parts()["end"][0]
    if end != file_size:
        raise LanguageModelError(f"{file_size} bytes, but the header says {end}: the file is not whole")
    if layout.level_sizes[0] != words or words < 1 or sum(layout.level_sizes) > MOST_NGRAMS:
        raise LanguageModelError(f"{words} words and {layout.level_sizes} n-grams: the header is wrong")
    return layout, checksum


def _check(vocabulary: list[str], trie: NgramTrie) -> None:
    """Refuse what would lead a look-up astray or out of the arrays."""
    if len(vocabulary) != trie.vocabulary_size or len(set(vocabulary)) != len(vocabulary):
        raise LanguageModelError(f"expected {trie.vocabulary_size} different words")
    if not {"<unk>", "<s>", "</s>"} <= set(vocabulary):
        raise LanguageModelError("the vocabulary lacks one of <unk>, <s>, </s>")
    if trie.keys[0] != -1 or any((block.diff() <= 0).any() for block in _blocks(trie.keys)):
        raise LanguageModelError("the n-grams are not in order")
    for numbers in (trie.log_probs, trie.back_offs):
        if not all((block.abs() < _ABSURD).all() for block in _blocks(numbers)):
            raise LanguageModelError("a probability or back-off weight is not finite, or absurdly large")
    for states in (trie.after, trie.fallback):
        if any(block.min() < 0 or block.max() >= len(trie.back_offs) for block in _blocks(states)):
            raise LanguageModelError("a state is out of range")


def _blocks(values: torch.Tensor) -> Iterator[torch.Tensor]:
    """Pieces of `values`, each beginning with the last value of the one before, so that neighbours can be compared."""
    for first in range(0, max(len(values) - 1, 1), BLOCK):
        yield values[first : first + BLOCK + 1]


def _checksum(content: NDArray[np.uint8]) -> int:
    checksum = 0
    for first in range(0, len(content), 1 << 22):
        checksum = zlib.crc32(content[first : first + (1 << 22)].data, checksum)
    return checksum


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise LanguageModelError("compact n-gram models are read and written on little-endian machines; use ARPA")
