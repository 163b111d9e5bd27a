"""Back-off n-grams as one sorted array of keys: a state is a node of the trie, a look-up is a binary search.

Node 0 is the empty context, nodes 1..V are the words, then come the pairs, triples and so on. A node is (parent,
word), its key is parent * V + word, and nodes are numbered in the order of their keys. So one `searchsorted` over all
keys answers "which node is this context followed by this word", for a whole batch, on any device.

Shapes: N look-ups, V words, M n-grams of all orders, C n-grams that can be contexts (all but the highest order), K
n-grams of one order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Nodes are numbered in 32 bits.
MOST_NGRAMS = 2**31 - 2

#: N-grams handled at a time where a model is built or checked: few enough to stay in the cache, and on one thread.
BLOCK = 1 << 14


class LanguageModelError(ValueError):
    """A language model, or the text it should come from, that cannot be used, and why."""


@dataclass(frozen=True)
class NgramTrie:
    """The n-grams of one model. Probabilities and back-off weights are log10, as the ARPA format has them."""

    #: V.
    vocabulary_size: int
    #: The number of n-grams of order 1, 2, ...
    level_sizes: tuple[int, ...]
    #: (M + 1,) int64, ascending; keys[0] = -1 stands for the empty context.
    keys: Tensor
    #: (M + 1,) float32.
    log_probs: Tensor
    #: (C + 1,) float32.
    back_offs: Tensor
    #: (M + 1,) int32: the state in which a match of this node leaves the model.
    after: Tensor
    #: (C + 1,) int32: where to look next when this context knows nothing of a word.
    fallback: Tensor

    @classmethod
    def empty(cls, vocabulary_size: int, level_sizes: tuple[int, ...]) -> "NgramTrie":
        """A trie of the right size, to be filled in."""
        ngrams, contexts = sum(level_sizes), sum(level_sizes[:-1])
        return cls(
            vocabulary_size=vocabulary_size,
            level_sizes=level_sizes,
            keys=torch.full((ngrams + 1,), -1, dtype=torch.int64),
            log_probs=torch.zeros(ngrams + 1),
            back_offs=torch.zeros(contexts + 1),
            after=torch.zeros(ngrams + 1, dtype=torch.int32),
            fallback=torch.zeros(contexts + 1, dtype=torch.int32),
        )

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.level_sizes)

    def levels(self) -> Iterator[tuple[int, int]]:
        """For each order its first node, and the one after its last."""
        start = 1
        for size in self.level_sizes:
            yield start, start + size
            start += size

    def to(self, device: torch.device | str) -> "NgramTrie":
        """The same n-grams on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def copy(self) -> "NgramTrie":
        """The same n-grams in memory of their own."""
        return replace(self, **{name: tensor.clone() for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def find(self, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """The longest n-gram that ends a context (N,) and the word after it (N,).

        Gives its node (N,) and the sum of the back-off weights (N,) of the contexts that had to be given up for it.
        The loop has a fixed length: nothing waits for the device.
        """
        nodes = words + 1  # every word is a node below the empty context
        given_up = torch.zeros(states.shape, dtype=torch.float32, device=states.device)
        pending = torch.ones_like(states, dtype=torch.bool)
        for _ in range(self.order - 1):
            wanted = states * self.vocabulary_size + words
            found = self._places(wanted).clamp_(max=len(self.keys) - 1)
            hit = pending & (self.keys[found] == wanted)
            nodes = torch.where(hit, found, nodes)
            pending = pending & ~hit
            given_up = given_up + torch.where(pending, self.back_offs[states], 0.0)
            states = torch.where(pending, self.fallback[states].long(), 0)
        return nodes, given_up

    def _places(self, wanted: Tensor) -> Tensor:
        """Where `wanted` keys are, or would be, among the keys."""
        if wanted.device.type != "cpu":
            return torch.searchsorted(self.keys, wanted)
        # On a CPU torch wakes all its threads for a few hundred look-ups, and waits for the slowest: numpy does not.
        return torch.from_numpy(np.searchsorted(self.keys.numpy(), wanted.numpy()))

    def link(self) -> None:
        """Fill in `after` and `fallback` from keys and back-off weights.

        A context that starts no n-gram and has no back-off weight says the same as its longest known ending, and is
        replaced by it: hypotheses that the model cannot tell apart then share one state.
        """
        for order, (start, stop) in enumerate(self.levels(), 1):
            for first in range(start, stop, BLOCK):
                self._link_nodes(order, first, min(first + BLOCK, stop))

    def _link_nodes(self, order: int, first: int, stop: int) -> None:
        nodes = torch.arange(first, stop + 1)
        keys = self.keys[first:stop]
        parents = keys // self.vocabulary_size
        if order == 1:
            endings = torch.zeros_like(parents)
        else:
            endings, _ = self.find(self.fallback[parents].long(), keys - parents * self.vocabulary_size)
        equal = self.after[endings]
        if order == self.order:
            self.after[first:stop] = equal
            return
        starts_ngrams = self._places(nodes * self.vocabulary_size).diff() > 0
        matters = starts_ngrams | (self.back_offs[first:stop] != 0)
        self.after[first:stop] = torch.where(matters, nodes[:-1].int(), equal)
        self.fallback[first:stop] = equal


class NgramLevel(NamedTuple):
    """All n-grams of one order, in any order: their words (K, order), and what an ARPA file says of them as log10.

    Both `log_probs` and `back_offs` are (K,); in the highest order the latter are zeros.
    """

    words: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    back_offs: NDArray[np.float32]


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
    """For each n-gram (K, order), the node of all its words but the last."""
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
