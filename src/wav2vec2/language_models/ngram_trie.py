"""Back-off n-grams as one sorted array of keys: a state is a node of the trie, a look-up is a binary search.

Node 0 is the empty context, nodes 1..V are the words, then come the pairs, triples and so on. A node is (parent,
word), its key is parent * V + word, and nodes are numbered in the order of their keys. So one `searchsorted` over all
keys answers "which node is this context followed by this word", for a whole batch, on any device.

Shapes: N look-ups, V words, M n-grams of all orders, C n-grams that can be contexts (all but the highest order).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Nodes are numbered in 32 bits.
MOST_NGRAMS = 2**31 - 2

#: N-grams handled at a time where a model is built or checked: few enough to stay in the cache, and on one thread.
BLOCK = 1 << 14


@dataclass(frozen=True)
class NgramTrie:
    """The n-grams of one model. Probabilities and back-off weights are log10, as the ARPA format has them."""

    vocabulary_size: int
    level_sizes: tuple[int, ...]  # number of n-grams of order 1, 2, ...
    keys: Tensor  # (M + 1,) int64, ascending; keys[0] = -1 stands for the empty context
    log_probs: Tensor  # (M + 1,) float32
    back_offs: Tensor  # (C + 1,) float32
    after: Tensor  # (M + 1,) int32: the state in which a match of this node leaves the model
    fallback: Tensor  # (C + 1,) int32: where to look next when this context knows nothing of a word

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
        """First node and end of each order."""
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
