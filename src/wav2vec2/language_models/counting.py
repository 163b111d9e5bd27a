"""All n-grams of a text of any size, with their counts, level by level, on disk.

The words become a stream of ids with <s> and </s> around each sentence. Level k gives every position of the stream
the number of the k-gram that ends there; the (k+1)-gram is then the pair (number of the k-gram one position before,
word), one int64 key to sort. Numbering the sorted keys gives the next level. Its n-grams are so in the order of the
trie (`ngram_trie.py`), and the ending of each (all but its first word) is the k-gram at its own position.

Shapes: T positions of the stream, K n-grams of one order, V words.
"""

import gzip
import io
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from wav2vec2.language_models.external_sorting import FileArray, Workspace
from wav2vec2.language_models.ngram_trie import MOST_NGRAMS, LanguageModelError

UNKNOWN, START, END = 0, 1, 2
_LONGEST_LINE = 1 << 24
_TOLD_LINES = 1 << 12

#: The share of the time for one order after which its n-grams are sorted, and not yet merged and numbered.
_SORTED = 0.6

#: How long steps take beside each other, by a profile of a corpus of a million words: reading it; sorting the n-grams
#: of one order; estimating all of them.
_READING, _SORTING, ESTIMATING = 1.0, 1.8, 1.2

#: Told what is done now, and the share of all work that is done.
Tell = Callable[[str, float], None]


class EstimationProgress:
    """How far the estimation of a model is: steps of known weight, one after the other."""

    def __init__(self, order: int, tell: Tell | None) -> None:
        self._tell = tell
        self._total = _READING + _SORTING * (order - 1) + ESTIMATING
        self._before = self._weight = 0.0
        self._name = ""

    def begin(self, name: str, weight: float) -> None:
        """Go on to the next step: the one before is done."""
        self._before += self._weight
        self._name, self._weight = name, weight
        self.advance(0.0)

    def advance(self, share: float) -> None:
        """Tell that this share of the step is done."""
        if self._tell is not None:
            self._tell(self._name, min((self._before + self._weight * min(share, 1.0)) / self._total, 1.0))


@dataclass(frozen=True)
class CountedLevel:
    """All n-grams of one order that occur, in the order of their keys."""

    order: int
    #: (K,) the number of the n-gram without its last word * V + the last word.
    keys: FileArray
    #: (K,) how often it occurs.
    counts: FileArray
    #: (K,) the number of the n-gram without its first word.
    endings: FileArray
    #: (K,) what Kneser-Ney counts instead.
    adjusted: FileArray
    #: The n-grams that begin with <s>: the first of them, and the one after the last.
    opening: tuple[int, int]


def count_ngrams(
    texts: Path | str | Iterable[str | Path], order: int, space: Workspace, progress: EstimationProgress
) -> tuple[list[str], list[CountedLevel]]:
    """The vocabulary (id -> word) and the n-grams of order 1 to `order`, which are in files of `space`."""
    progress.begin("reading the text", _READING)
    vocabulary, stream = _encode(texts, space, progress)
    levels = [_count_words(stream, len(vocabulary), space)]
    numbers = stream  # a word is its own 1-gram
    while len(levels) < order:
        progress.begin(f"sorting {len(levels) + 1}-grams", _SORTING)
        levels.append(_count_level(stream, numbers, levels[-1], len(vocabulary), space, progress))
        if len(levels) < order:
            numbers = _number(stream, numbers, levels[-1], len(vocabulary), space)
    for level, longer in zip(levels, [*levels[1:], None], strict=True):
        _adjust(level, longer, space)
    return vocabulary, levels


def lines_of(
    texts: Path | str | Iterable[str | Path], tell: Callable[[float], None] | None = None
) -> Iterator[tuple[str, str]]:
    """Every line of a file, of files (plain or gz) or of sentences, each behind the words that say where it stands.

    `tell` is called now and then with the share of the files' bytes that is read.
    """
    if isinstance(texts, str | Path):
        texts = [Path(texts)]
    items = texts if isinstance(texts, list) else iter(texts)
    total = sum(item.stat().st_size for item in items if isinstance(item, Path)) if isinstance(items, list) else 0
    before = 0
    for number, item in enumerate(items, 1):
        if isinstance(item, Path):
            for place, line, position in _lines_of_file(item):
                if position and total and tell is not None:
                    tell((before + position) / total)
                yield place, line
            before += item.stat().st_size
        else:
            yield f"sentence {number}", item


def _lines_of_file(path: Path) -> Iterator[tuple[str, str, int]]:
    """Where each line stands, the line, and the bytes of the file that are read so far, where they were asked for.

    That is once in `_TOLD_LINES`; of the other lines the number is 0.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        stream, number = io.TextIOWrapper(content, encoding="utf-8-sig"), 0
        try:
            while line := stream.readline(_LONGEST_LINE):
                number += 1
                if len(line) == _LONGEST_LINE:
                    raise LanguageModelError(
                        f"{path}: line {number} has over {_LONGEST_LINE} characters; one sentence a line"
                    )
                yield f"{path}: line {number}", line, 0 if number % _TOLD_LINES else file.tell()
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise LanguageModelError(f"{path}: after line {number}: {error}; expected UTF-8 text") from error


def _encode(
    texts: Path | str | Iterable[str | Path], space: Workspace, progress: EstimationProgress
) -> tuple[list[str], FileArray]:
    """The words, and the text as their ids in the order of first appearance, each sentence between <s> and </s>."""
    ids = {"<unk>": UNKNOWN, "<s>": START, "</s>": END}
    stream = space.array("stream", "<i4")
    waiting = array("i")
    for place, line in lines_of(texts, progress.advance):
        words = line.split()
        if not words:
            continue
        if "s>" in line and not {"<s>", "</s>"}.isdisjoint(words):
            raise LanguageModelError(
                f"{place}: <s> and </s> stand for the ends of a sentence; take them out of the text"
            )
        waiting.append(START)
        waiting.extend([ids.setdefault(word, len(ids)) for word in words])
        waiting.append(END)
        if len(waiting) >= space.rows:
            stream.append(np.frombuffer(waiting, np.int32))
            waiting = array("i")
    stream.append(np.frombuffer(waiting, np.int32) if waiting else np.empty(0, np.int32))
    if not len(stream):
        raise LanguageModelError("there is no word in the text")
    return list(ids), stream


def _count_words(stream: FileArray, vocabulary_size: int, space: Workspace) -> CountedLevel:
    counts = np.zeros(vocabulary_size, np.int64)
    for _, words in stream.blocks():
        counts += np.bincount(words, minlength=vocabulary_size)
    level = _new_level(1, space, (START, START + 1))
    level.keys.append(np.arange(vocabulary_size))
    level.counts.append(counts)
    level.endings.append(np.zeros(vocabulary_size, np.int64))
    return level


def _new_level(order: int, space: Workspace, opening: tuple[int, int]) -> CountedLevel:
    names = ("keys", "counts", "endings", "adjusted")
    return CountedLevel(order=order, opening=opening, **{name: space.array(f"{name}-{order}", "<i8") for name in names})


def _ngrams_at(
    stream: FileArray, numbers: FileArray, vocabulary_size: int
) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]]:
    """Block by block: its positions, which of them end a long enough n-gram, and the keys and endings of those."""
    last = -1
    for start, words in stream.blocks():
        endings = numbers.read(start, start + len(words)).astype(np.int64)
        before = np.append(last, endings[:-1])
        last = endings[-1]
        there = (before >= 0) & (words != START)
        yield len(words), there, before[there] * vocabulary_size + words[there], endings[there]


def _count_level(
    stream: FileArray,
    numbers: FileArray,
    shorter: CountedLevel,
    vocabulary_size: int,
    space: Workspace,
    progress: EstimationProgress,
) -> CountedLevel:
    sorter, done = space.sorter(), 0
    for length, _, keys, endings in _ngrams_at(stream, numbers, vocabulary_size):
        sorter.add(keys, np.ones(len(keys), np.int64), endings)
        done += length
        progress.advance(_SORTED * done / len(stream))
    level = _new_level(shorter.order + 1, space, (0, 0))
    first, end = 0, 0
    for block in sorter.result():
        level.keys.append(block["key"])
        level.counts.append(block["count"])
        level.endings.append(block["payload"])
        first += int(np.searchsorted(block["key"], shorter.opening[0] * vocabulary_size))
        end += int(np.searchsorted(block["key"], shorter.opening[1] * vocabulary_size))
    if len(level.keys) > MOST_NGRAMS:
        raise LanguageModelError(f"more than {MOST_NGRAMS} n-grams of one order: use less text or a lower order")
    return replace(level, opening=(first, end))


def _number(
    stream: FileArray, numbers: FileArray, level: CountedLevel, vocabulary_size: int, space: Workspace
) -> FileArray:
    """The number of the n-gram of `level` that ends at each position (T,), -1 where the sentence is too young."""
    longer = space.array(f"numbers-{level.order}", "<i4")
    for length, there, keys, _ in _ngrams_at(stream, numbers, vocabulary_size):
        found = np.full(length, -1, np.int64)
        found[there] = level.keys.positions(keys)
        longer.append(found)
    if numbers is not stream:
        numbers.delete()
    return longer


def _adjust(level: CountedLevel, longer: CountedLevel | None, space: Workspace) -> None:
    """Kneser-Ney's counts: in how many different contexts to the left an n-gram occurs.

    N-grams that begin with <s> have nothing to their left, and the longest ones nothing that was counted: theirs stay.
    """
    if longer is None:
        for start, counts in level.counts.blocks():
            level.adjusted.append(_but_start(level, start, counts))
        return
    sorter = space.sorter()
    for start, counts in level.counts.blocks():
        numbers = np.arange(start, start + len(counts))
        kept = np.where((numbers >= level.opening[0]) & (numbers < level.opening[1]), counts, 0)
        listed = (kept > 0) | (level.order == 1)  # words such as <unk> may end no pair
        sorter.add(numbers[listed], kept[listed], numbers[listed])
    for _, endings in longer.endings.blocks():
        sorter.add(endings, np.ones(len(endings), np.int64), endings)
    start = 0
    for block in sorter.result():
        level.adjusted.append(_but_start(level, start, block["count"]))
        start += len(block)


def _but_start(level: CountedLevel, start: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts from row `start` on, with 0 for <s> itself, which is never predicted."""
    if level.order == 1 and start <= START < start + len(counts):
        counts = counts.copy()
        counts[START - start] = 0
    return counts
