"""Lists of n-grams, in any order -> a trie.

Shapes: K n-grams of one order, V words.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.language_models.language_model_error import LanguageModelError
from wav2vec2.language_models.ngram_trie import MOST_NGRAMS, NgramTrie


class NgramLevel(NamedTuple):
    """All n-grams of one order, log10 as in an ARPA file."""

    words: NDArray[np.int32]  # (K, order)
    log_probs: NDArray[np.float32]  # (K,)
    back_offs: NDArray[np.float32]  # (K,); zeros in the highest order


class _MissingPrefixError(Exception):
    """An n-gram is listed without its own beginning."""


def build_trie(levels: list[NgramLevel]) -> NgramTrie:
    """The trie of `levels`; in the first of them, line i is word i.

    Pruned models of some tools list an n-gram without its own beginning (w1 w2 w3 without w1 w2). The beginning is
    added with the probability that backing off gives it, so that nothing that the model says changes.
    """
    try:
        keys, orders = _sorted_keys(levels)
    except _MissingPrefixError:
        levels = _with_prefixes(levels)
        keys, orders = _sorted_keys(levels)
    trie = NgramTrie.empty(len(levels[0].words), tuple(len(level.words) for level in levels))
    for (start, stop), level, level_keys, by_key in zip(trie.levels(), levels, keys, orders, strict=True):
        trie.keys[start:stop] = torch.from_numpy(level_keys)
        trie.log_probs[start:stop] = torch.from_numpy(level.log_probs[by_key])
        if stop <= len(trie.back_offs):
            trie.back_offs[start:stop] = torch.from_numpy(level.back_offs[by_key] + np.float32(0))  # no minus zero
    trie.link()
    _fill_in_prefixes(trie)
    return trie


def _sorted_keys(levels: list[NgramLevel]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The ascending keys of each level, and the order that sorts its n-grams."""
    size = len(levels[0].words)
    if sum(len(level.words) for level in levels) > MOST_NGRAMS:
        raise LanguageModelError(f"more than {MOST_NGRAMS} n-grams: prune the model")
    keys = [np.arange(size, dtype=np.int64)]
    orders = [np.arange(size, dtype=np.int64)]
    for level in levels[1:]:
        wanted = _prefix_nodes(level.words, keys) * size + level.words[:, -1]
        by_key = np.argsort(wanted)
        wanted = wanted[by_key]
        twice = np.flatnonzero(wanted[1:] == wanted[:-1])
        if len(twice):
            raise LanguageModelError(f"an n-gram is listed twice: word ids {level.words[by_key[twice[0]]].tolist()}")
        keys.append(wanted)
        orders.append(by_key)
    return keys, orders


def _prefix_nodes(words: NDArray[np.int32], keys: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The node of all words but the last, for each row."""
    size = len(keys[0])
    nodes = words[:, 0].astype(np.int64) + 1
    start = 1 + size
    for column, level_keys in enumerate(keys[1:], 1):
        wanted = nodes * size + words[:, column]
        found = np.searchsorted(level_keys, wanted)
        if not len(level_keys) or (level_keys[np.minimum(found, len(level_keys) - 1)] != wanted).any():
            if len(words):
                raise _MissingPrefixError
            return nodes
        nodes = start + found
        start += len(level_keys)
    return nodes


def _with_prefixes(levels: list[NgramLevel]) -> list[NgramLevel]:
    """Add the beginnings that are not listed, with nan for a probability."""
    complete = list(levels)
    for order in range(len(levels), 2, -1):
        level = complete[order - 2]
        listed = np.concatenate([level.words, complete[order - 1].words[:, :-1]])
        _, first_seen = np.unique(listed, axis=0, return_index=True)
        added = listed[np.sort(first_seen[first_seen >= len(level.words)])]
        complete[order - 2] = NgramLevel(
            np.concatenate([level.words, added]),
            np.concatenate([level.log_probs, np.full(len(added), np.nan, np.float32)]),
            np.concatenate([level.back_offs, np.zeros(len(added), np.float32)]),
        )
    return complete


def _fill_in_prefixes(trie: NgramTrie) -> None:
    """Give the added n-grams the probability of backing off, shorter ones first."""
    for start, stop in trie.levels():
        nodes = start + torch.nonzero(trie.log_probs[start:stop].isnan())[:, 0]
        if len(nodes):
            parents = trie.keys[nodes] // trie.vocabulary_size
            words = trie.keys[nodes] - parents * trie.vocabulary_size
            shorter, given_up = trie.find(trie.fallback[parents].long(), words)
            trie.log_probs[nodes] = trie.back_offs[parents] + given_up + trie.log_probs[shorter]
