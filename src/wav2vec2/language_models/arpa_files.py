"""ARPA files, plain or gzipped: the text format in which n-gram models are exchanged.

A line is `log10 probability, words, [log10 back-off weight]`, separated by blanks or tabs; a word is whatever stands
between ASCII blanks. Files are read in blocks of whole lines and parsed a block at a time, so a header that promises
a billion n-grams costs nothing.

Shapes: K n-grams of one order.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.language_models.ngram_trie import BLOCK, LanguageModelError, NgramLevel, NgramTrie, build_trie

#: Longest n-grams that are read; published models have 3 to 6.
HIGHEST_ORDER = 16

#: What "-inf" is read as: the format's own spelling of log 0.
LOG_ZERO = -99.0

#: What a model without <unk> gives to an unknown word (as KenLM does).
LOG_UNKNOWN = -100.0

_BLOCK_BYTES = 1 << 22
_LONGEST_LINE = 1 << 20

#: A gzip file may unpack to this many times its size (language models: 3 to 6 times), and a bit.
_MOST_EXPANSION, _ALWAYS_ALLOWED = 64, 1 << 24

_IS_BLANK = np.zeros(256, dtype=bool)
_IS_BLANK[list(b" \t\n\r\x0b\x0c")] = True


def read_arpa(path: Path | str) -> tuple[list[str], NgramTrie]:
    """The vocabulary (id -> word) and the n-grams of an ARPA file; `LanguageModelError` if it is none."""
    path = Path(path)
    try:
        with _opened(path) as lines:
            sizes = _read_header(lines)
            levels, words = _read_sections(lines, sizes)
        return _complete(levels, words)
    except (LanguageModelError, UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path}: {error}") from error


def write_arpa(path: Path | str, vocabulary: list[str], trie: NgramTrie) -> None:
    """Write an ARPA file, gzipped if its name ends in .gz. Every number is read back bit for bit."""
    with replaced_file(path) as stream:
        if str(path).endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0) as packed:
                _write(cast(BinaryIO, packed), vocabulary, trie)
        else:
            _write(stream, vocabulary, trie)


class _LineBlocks:
    """A stream in blocks of whole lines."""

    def __init__(self, stream: BinaryIO, most_bytes: int) -> None:
        self.stream, self.left = stream, most_bytes
        #: Whole lines that were given back, and the beginning of a line whose end is not read yet.
        self.pending, self.tail = b"", b""

    def take(self) -> bytes:
        """The next whole lines; empty at the end of the file."""
        text, self.pending = self.pending, b""
        while not text and (fresh := self.stream.read(_BLOCK_BYTES)):
            self.left -= len(fresh)
            if self.left < 0:
                raise LanguageModelError(
                    f"unpacks to more than {_MOST_EXPANSION} times its size: no language model does"
                )
            joined = self.tail + fresh
            cut = joined.rfind(b"\n") + 1
            text, self.tail = joined[:cut], joined[cut:]
            if len(self.tail) > _LONGEST_LINE:
                raise LanguageModelError(f"a line is longer than {_LONGEST_LINE} bytes: this is no ARPA file")
        if not text:
            text, self.tail = self.tail, b""
        return text

    def take_line(self) -> bytes:
        """The next line that is not blank, stripped; empty at the end of the file."""
        while text := self.take():
            line, _, self.pending = text.lstrip().partition(b"\n")
            if line:
                return line.rstrip()
        return b""

    def take_section(self) -> Iterator[bytes]:
        """The lines before the next one that starts with a backslash."""
        while text := self.take():
            end = 0 if text.startswith(b"\\") else text.find(b"\n\\") + 1
            if not end and not text.startswith(b"\\"):
                yield text
                continue
            self.pending = text[end:]
            if end:
                yield text[:end]
            return


@contextmanager
def _opened(path: Path) -> Iterator[_LineBlocks]:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        size = stream.seek(0, 2)
        stream.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield _LineBlocks(cast(BinaryIO, unpacked), _MOST_EXPANSION * size + _ALWAYS_ALLOWED)
        else:
            yield _LineBlocks(stream, size)


def _read_header(lines: _LineBlocks) -> list[int]:
    r"""The number of n-grams of each order, which stands between `\data\` and `\1-grams:`."""
    line = lines.take_line()
    if line != b"\\data\\":
        raise LanguageModelError(rf"expected \data\ at the beginning of an ARPA file, found {_shown(line)}")
    sizes: list[int] = []
    while (line := lines.take_line()) != b"\\1-grams:":
        match = re.fullmatch(rb"ngram\s+(\d{1,2})\s*=\s*(\d{1,15})", line)
        if not match or int(match[1]) != len(sizes) + 1:
            raise LanguageModelError(f"expected `ngram {len(sizes) + 1}=COUNT` or \\1-grams:, found {_shown(line)}")
        sizes.append(int(match[2]))
        if len(sizes) > HIGHEST_ORDER:
            raise LanguageModelError(f"order {len(sizes)}: n-grams to order {HIGHEST_ORDER} are read")
    if not sizes:
        raise LanguageModelError("the header lists no n-gram counts")
    return sizes


def _read_sections(lines: _LineBlocks, sizes: list[int]) -> tuple[list[NgramLevel], list[bytes]]:
    """The n-grams of each order, and the words in the order of the unigrams."""
    levels: list[NgramLevel] = []
    words: list[bytes] = []
    ids: dict[bytes, int] = {}
    for order, size in enumerate(sizes, 1):
        marker = lines.take_line() if order > 1 else b"\\1-grams:"
        if marker != b"\\%d-grams:" % order:
            raise LanguageModelError(f"expected \\{order}-grams:, found {_shown(marker)}")
        parts = [NgramLevel(np.zeros((0, order), np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))]
        for block in lines.take_section():
            try:
                parts.append(_parse(block, order, len(sizes), ids, words))
            except LanguageModelError as error:
                raise LanguageModelError(f"in the {order}-grams: {error}") from error
        level = NgramLevel(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        if len(level.words) != size:
            raise LanguageModelError(f"the header says {size} {order}-grams, there are {len(level.words)}")
        levels.append(level)
    if (line := lines.take_line()) != b"\\end\\":
        raise LanguageModelError(rf"expected \end\, found {_shown(line)}: the file is not whole")
    return levels, words


def _parse(block: bytes, order: int, highest: int, ids: dict[bytes, int], words: list[bytes]) -> NgramLevel:
    """The n-grams of one order that some whole lines list; `ids` and `words` are filled from the unigrams."""
    tokens = np.array([*block.split(), None], dtype=object)[:-1]  # None: never a fixed-width array
    fields = _fields_per_line(block)
    starts = np.cumsum(fields) - fields
    weighted = fields == order + 2
    wrong = ~weighted & (fields != order + 1) if order < highest else fields != order + 1
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        line = b" ".join(tokens[starts[first] : starts[first] + fields[first]])
        raise LanguageModelError(
            f"a line has {fields[first]} fields, expected {order + 1} or, with a back-off weight "
            f"(not in the highest order), {order + 2}: {_shown(line)}"
        )
    back_offs = np.zeros(len(fields), np.float32)
    back_offs[weighted] = _numbers(tokens[starts[weighted] + order + 1])
    log_probs = _numbers(tokens[starts])
    if (log_probs > 0).any():
        raise LanguageModelError(f"log probability {log_probs.max():g} is positive")
    spelled = tokens[starts[:, None] + np.arange(1, order + 1)].ravel().tolist()
    if order == 1:
        for word in spelled:
            if ids.setdefault(word, len(ids)) < len(words):
                raise LanguageModelError(f"{_shown(word)} is listed twice")
            words.append(word)
    return NgramLevel(_look_up(spelled, ids).reshape(-1, order), log_probs, back_offs)


def _fields_per_line(block: bytes) -> NDArray[np.int64]:
    """How many fields stand on each line that is not blank."""
    characters = np.frombuffer(block, dtype=np.uint8)
    blank = _IS_BLANK[characters]
    begins = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    ends = np.append(np.flatnonzero(characters == ord("\n")), len(characters))
    fields = np.diff(np.searchsorted(begins, ends), prepend=0)
    return fields[fields > 0]


def _look_up(spelled: list[bytes], ids: dict[bytes, int]) -> NDArray[np.int32]:
    try:
        return np.fromiter(map(ids.__getitem__, spelled), dtype=np.int32, count=len(spelled))
    except KeyError as error:
        raise LanguageModelError(f"{_shown(error.args[0])} is not among the 1-grams") from None


def _numbers(tokens: NDArray[np.object_]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            numbers = np.fromiter(map(float, tokens.tolist()), np.float64, len(tokens)).astype(np.float32)
    except ValueError as error:
        raise LanguageModelError(f"not a number: {error}") from None
    numbers[np.isneginf(numbers)] = LOG_ZERO
    if not np.isfinite(numbers).all():
        raise LanguageModelError("a number is not finite")
    return numbers


def _complete(levels: list[NgramLevel], spelled: list[bytes]) -> tuple[list[str], NgramTrie]:
    """Check the special words, add <unk> if there is none, and build the trie."""
    words = b"\n".join(spelled).decode("utf-8").split("\n") if spelled else []
    for needed in ("<s>", "</s>"):
        if needed not in words:
            raise LanguageModelError(
                f"{needed} is not among the 1-grams, so sentences have no boundaries; add it with a probability "
                "(and a back-off weight for <s>)"
            )
    if "<unk>" not in words:
        if "<UNK>" in words:
            words[words.index("<UNK>")] = "<unk>"
        else:
            words.append("<unk>")
            unknown = ([[len(words) - 1]], [LOG_UNKNOWN], [0])
            levels[0] = NgramLevel(
                *(np.concatenate([c, np.array(u, c.dtype)]) for c, u in zip(levels[0], unknown, strict=True))
            )
    return words, build_trie(levels)


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return "the end of the file" if not text else repr(text if len(text) <= 80 else f"{text[:77]}...")


def _write(stream: BinaryIO, vocabulary: list[str], trie: NgramTrie) -> None:
    counts = "".join(f"ngram {order}={size}\n" for order, size in enumerate(trie.level_sizes, 1))
    stream.write(f"\\data\\\n{counts}".encode())
    spelled = np.array([*vocabulary, None], dtype=object)[:-1]
    for order, (start, stop) in enumerate(trie.levels(), 1):
        stream.write(f"\n\\{order}-grams:\n".encode())
        for first in range(start, stop, BLOCK):
            stream.write(_formatted(trie, spelled, order, torch.arange(first, min(first + BLOCK, stop))).encode())
    stream.write(b"\n\\end\\\n")


def _formatted(trie: NgramTrie, spelled: NDArray[np.object_], order: int, nodes: torch.Tensor) -> str:
    """The lines of some nodes; numpy prints the shortest decimal that gives the same float32."""
    columns = []
    contexts = nodes
    for _ in range(order):
        parents = trie.keys[contexts] // trie.vocabulary_size
        columns.append(spelled[(trie.keys[contexts] - parents * trie.vocabulary_size).numpy()])
        contexts = parents
    numbers = trie.log_probs[nodes].numpy()
    words = map(" ".join, zip(*reversed(columns), strict=True))
    if order == trie.order:
        return "".join(f"{number!s}\t{text}\n" for number, text in zip(numbers, words, strict=True))
    weights = trie.back_offs[nodes].numpy()
    return "".join(
        f"{number!s}\t{text}\t{weight!s}\n" if weight else f"{number!s}\t{text}\n"
        for number, text, weight in zip(numbers, words, weights, strict=True)
    )
