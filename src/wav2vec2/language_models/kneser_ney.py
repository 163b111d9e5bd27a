"""Interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3), with pruning, in bounded memory.

For an n-gram cw (context c, word w) with adjusted count a(cw):

    p(w | c) = (a(cw) - D(a(cw))) / a(c.) + g(c) p(w | c'),    c' = c without its first word

where a(c.) sums a over all words, D is 0, D1, D2 or D3 for counts of 0, 1, 2, and 3 or more, and g(c) is what the
discounts set free, so that the sum over w is one. Below the words lies the uniform distribution over all of them and
<unk>. An n-gram that occurs no more often than its order's threshold is left out: it loses its own term, and g(c)
takes its whole count. Then g(c) is the back-off weight, and the sum over w is still exactly one.

Shapes: K n-grams of one order, V words.
"""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.language_models.arpa_files import HIGHEST_ORDER, LOG_ZERO
from wav2vec2.language_models.compact_model_file import new_compact_file, read_compact
from wav2vec2.language_models.counting import ESTIMATING, START, CountedLevel, EstimationProgress, Tell, count_ngrams
from wav2vec2.language_models.external_sorting import FileArray, Workspace
from wav2vec2.language_models.ngram_trie import MOST_NGRAMS, LanguageModelError, NgramTrie

logger = logging.getLogger("wav2vec2")

#: Discounts where a text is too small or too odd to estimate them.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

#: Working memory per row of a block.
_ROW_BYTES = 160
_LEAST_MEMORY = 1 << 20


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order, and what they say about the contexts before them.

    There is a row of `totals` and of `freed` for each n-gram of the order below, all of them.
    """

    level: CountedLevel
    #: What is taken from counts of 0, 1, 2, and 3 or more.
    discounts: NDArray[np.float64]
    #: N-grams that occur this often or less are left out.
    threshold: int
    #: a(c.).
    totals: FileArray
    #: g(c) a(c.).
    freed: FileArray
    #: How many n-grams stay.
    kept: int


def train_compact(
    texts: Path | str | Iterable[str | Path],
    path: Path | str,
    order: int = 5,
    prune: Sequence[int] = (0, 0, 1),
    memory: int = 1 << 30,
    tell: Tell | None = None,
) -> None:
    """Estimate a model and write it as a compact file.

    Args:
        texts: a text file (plain or gzipped, UTF-8, one sentence a line), several as `Path`s, or sentences as strings.
            Words are what stands between blanks: normalise the text as the decoder will spell it.
        path: the file to write.
        order: length of the longest n-grams.
        prune: for each order, leave out n-grams that occur this often or less; the last entry holds for all higher
            orders. The first must be 0 (every word stays), and none may be less than the one before.
        memory: bytes of working memory. The vocabulary comes on top, and so does the finished model, mapped from its
            file. Temporary files, beside `path`, take 12 bytes a word of text and 90 an n-gram.
        tell: called now and then with what is done, and the share of all work that is done.
    """
    thresholds = _checked_thresholds(order, prune)
    if memory < _LEAST_MEMORY:
        raise ValueError(f"memory={memory} bytes, expected at least {_LEAST_MEMORY}")
    path, progress = Path(path), EstimationProgress(order, tell)
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        space = Workspace(Path(folder), memory // _ROW_BYTES)
        vocabulary, levels = count_ngrams(texts, order, space, progress)
        progress.begin("estimating", ESTIMATING)
        ranked = zip(levels, thresholds, strict=True)
        orders = [_weigh(level, threshold, len(vocabulary), space) for level, threshold in ranked]
        sizes = tuple(one.kept for one in orders)
        if sum(sizes) > MOST_NGRAMS:
            raise LanguageModelError(f"{sum(sizes)} n-grams, at most {MOST_NGRAMS} fit: prune more")
        with new_compact_file(path, vocabulary, sizes) as trie:
            _fill(trie, orders, space)
            progress.advance(0.7)
            trie.link()
            progress.advance(1.0)


def train_in_memory(
    texts: Path | str | Iterable[str | Path], order: int, prune: Sequence[int], memory: int, tell: Tell | None = None
) -> tuple[list[str], NgramTrie]:
    """The vocabulary and the n-grams that `train_compact` estimates, without a file that stays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        train_compact(texts, path, order, prune, memory, tell)
        vocabulary, trie = read_compact(path)
        return vocabulary, trie.copy()


def _checked_thresholds(order: int, prune: Sequence[int]) -> list[int]:
    if not 1 <= order <= HIGHEST_ORDER:
        raise ValueError(f"order={order}, expected 1 to {HIGHEST_ORDER}")
    thresholds = [*prune, *[prune[-1]] * (order - len(prune))][:order] if prune else []
    if not thresholds or thresholds[0] != 0 or thresholds != sorted(thresholds):
        raise ValueError(f"prune={tuple(prune)}: expected a threshold per order that starts at 0 and never falls")
    return thresholds


def discounts_of(counts_of_counts: NDArray[np.int64], order: int) -> NDArray[np.float64]:
    """(0, D1, D2, D3) from the number of n-grams with adjusted counts 1, 2, 3 and 4 (Chen and Goodman, equation 26)."""
    one, two, three, four = (int(number) for number in counts_of_counts)
    if min(one, two, three, four) > 0:
        share = one / (one + 2 * two)
        found = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
        if all(0 <= discount <= count for count, discount in enumerate(found, 1)):
            return np.array([0.0, *found])
    logger.warning(
        "%d-grams: %s of them have adjusted counts of 1, 2, 3, 4, too odd to estimate discounts from; %s are used",
        order,
        (one, two, three, four),
        FALLBACK_DISCOUNTS,
    )
    return np.array([0.0, *FALLBACK_DISCOUNTS])


def _kept(counts: NDArray[np.int64], level: CountedLevel, threshold: int) -> NDArray[np.bool_]:
    """Which n-grams stay. Words always do, <unk> as well."""
    return counts > threshold if level.order > 1 else np.ones(len(counts), dtype=bool)


def _weigh(level: CountedLevel, threshold: int, vocabulary_size: int, space: Workspace) -> _Order:
    """Estimate the discounts of an order, and add up for each context what they set free."""
    counts_of_counts = np.zeros(6, np.int64)
    for _, adjusted in level.adjusted.blocks():
        counts_of_counts += np.bincount(np.minimum(adjusted, 5), minlength=6).astype(np.int64)
    discounts = discounts_of(counts_of_counts[1:5], level.order)
    totals, freed = space.array(f"totals-{level.order}", "<f8"), space.array(f"freed-{level.order}", "<f8")
    kept_in_all = context = 0
    unfinished: NDArray[np.float64] = np.zeros((2, 1))  # of the last context, which may go on in the next block
    for start, keys in level.keys.blocks():
        adjusted = level.adjusted.read(start, start + len(keys))
        kept = _kept(level.counts.read(start, start + len(keys)), level, threshold)
        kept_in_all += int(kept.sum())
        rest = np.where(kept, discounts[np.minimum(adjusted, 3)], adjusted)
        contexts = _contexts(level, keys, vocabulary_size) - context
        sums = np.array([np.bincount(contexts, adjusted), np.bincount(contexts, rest)], np.float64)
        sums[:, 0] += unfinished[:, 0]
        totals.append(sums[0, :-1])
        freed.append(sums[1, :-1])
        context, unfinished = context + sums.shape[1] - 1, sums[:, -1:]
    totals.append(unfinished[0])
    freed.append(unfinished[1])
    return _Order(level, discounts, threshold, totals, freed, kept_in_all)


def _contexts(level: CountedLevel, keys: NDArray[np.int64], vocabulary_size: int) -> NDArray[np.int64]:
    """Row of each n-gram's context in the order below; the empty context of the words is row 0."""
    return keys // vocabulary_size if level.order > 1 else np.zeros_like(keys)


def _fill(trie: NgramTrie, orders: list[_Order], space: Workspace) -> None:
    """Probabilities from the words upwards, written to where the kept n-grams belong in the trie."""
    size = trie.vocabulary_size
    nodes: FileArray | None = None
    lower: FileArray | None = None
    for order, longer, (node, _) in zip(orders, [*orders[1:], None], trie.levels(), strict=True):
        level = order.level
        probabilities = space.array(f"probabilities-{level.order}", "<f8")
        numbered = space.array(f"nodes-{level.order}", "<i4")
        for start, keys in level.keys.blocks():
            contexts = _contexts(level, keys, size)
            found = _probabilities(order, start, contexts, lower, size)
            probabilities.append(found)
            kept = _kept(level.counts.read(start, start + len(keys)), level, order.threshold)
            end = node + int(kept.sum())
            parents = np.zeros_like(keys) if nodes is None else nodes.take(contexts[kept]).astype(np.int64)
            trie.keys[node:end] = torch.from_numpy(parents * size + keys[kept] % size)
            trie.log_probs[node:end] = torch.from_numpy(np.log10(found[kept]))
            if longer is not None:
                trie.back_offs[node:end] = torch.from_numpy(_back_offs(longer, start, len(keys))[kept])
            numbered.append(np.where(kept, node + np.cumsum(kept) - 1, -1))
            node = end
        nodes, lower = numbered, probabilities
    trie.log_probs[1 + START] = LOG_ZERO


def _probabilities(
    order: _Order, start: int, contexts: NDArray[np.int64], lower: FileArray | None, vocabulary_size: int
) -> NDArray[np.float64]:
    """p(w | c) of the n-grams from row `start` on, whose contexts c are these rows, from p(w | c') in `lower`."""
    adjusted = order.level.adjusted.read(start, start + len(contexts))
    totals, freed = order.totals.take(contexts), order.freed.take(contexts)
    if lower is None:
        shorter = np.full(len(contexts), 1 / (vocabulary_size - 1))  # all but <s>
    else:
        shorter = lower.take(order.level.endings.read(start, start + len(contexts)))
    return (adjusted - order.discounts[np.minimum(adjusted, 3)] + freed * shorter) / totals


def _back_offs(longer: _Order, start: int, count: int) -> NDArray[np.float64]:
    """log10 g(c) of the contexts from row `start` on, 0 for those that nothing follows."""
    totals, freed = longer.totals.read(start, start + count), longer.freed.read(start, start + count)
    found = np.zeros(count)
    with np.errstate(divide="ignore"):
        np.log10(freed / np.maximum(totals, 1), out=found[: len(freed)], where=totals > 0)
    return np.maximum(found, LOG_ZERO)
