"""The words a search may spell, as a trie laid out in tables: one lookup takes a hypothesis one letter on.

Shapes: S nodes, V tokens, W words. Node 0 is the start of a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wav2vec2.decoding.arc_tables import ArcTables

IMPOSSIBLE = float("-inf")


@dataclass(frozen=True)
class SpellingTables:
    """The trie as tables.

    The bonus of an arc is the change in what the word will add at best (its look-ahead): it guides the search, and
    `end_bonus` takes it back at the end of the word, so it never changes a score. Arcs of the delimiter lead to node 0
    and are not for scoring.
    """

    arcs: ArcTables
    end_bonus: Tensor  # (S,) what the end of a word here adds beside the language model; -inf: no word ends here
    word: Tensor  # (S,) the word's number for the language model

    def to(self, device: torch.device) -> "SpellingTables":
        """The same tables on another device."""
        return SpellingTables(self.arcs.to(device), self.end_bonus.to(device), self.word.to(device))


class Trie:
    """All spellings (sequences of token ids) as nodes, built level by level.

    `parent` and `token` (S,) say how each node is reached, `node_of` (W,) where each spelling ends.
    """

    def __init__(self, spellings: Sequence[Sequence[int]], size: int) -> None:
        longest = max((len(spelling) for spelling in spellings), default=0)
        lengths = np.array([len(spelling) for spelling in spellings], dtype=np.int64)
        node = np.zeros(len(spellings), dtype=np.int64)
        parents, tokens, count = [np.zeros(1, np.int64)], [np.full(1, size, np.int64)], 1
        self.levels: list[slice] = []
        padded = np.full((len(spellings), longest), -1, dtype=np.int64)
        padded[np.arange(longest) < lengths[:, None]] = np.fromiter(
            (token for spelling in spellings for token in spelling), np.int64, int(lengths.sum())
        )
        for level in range(longest):
            alive = lengths > level
            arcs, inverse = np.unique(node[alive] * size + padded[alive, level], return_inverse=True)
            parents.append(arcs // size)
            tokens.append(arcs % size)
            node[alive] = count + inverse
            self.levels.append(slice(count, count + len(arcs)))
            count += len(arcs)
        self.parent, self.token, self.node_of, self.size = np.concatenate(parents), np.concatenate(tokens), node, size

    def __len__(self) -> int:
        return len(self.parent)

    def best_below(self, values: np.ndarray) -> np.ndarray:
        """The greatest of the words' values (W,) at or below each node (S,)."""
        best = np.full(len(self), -np.inf)
        np.maximum.at(best, self.node_of, values)
        for level in reversed(self.levels):
            np.maximum.at(best, self.parent[level], best[level])
        return best


@dataclass(frozen=True)
class UnknownWord:
    """How every spelling off the trie is scored: its number, its look-ahead, and what its end adds."""

    number: int
    value: float
    end: float


def spelling_tables(
    trie: Trie, words: np.ndarray, values: np.ndarray, ends: np.ndarray, delimiter: int, unknown: UnknownWord | None
) -> SpellingTables:
    """Tables for words (W,) as the language model numbers them.

    `values` (W,) are what the model may give a word, for the look-ahead, and `ends` (W,) are added when it ends.
    Without `unknown`, no other spelling is allowed.
    """
    outside = len(trie)  # one more node: off the trie, in an unknown word
    ahead = np.append(trie.best_below(values + ends), -np.inf)
    ahead = np.maximum(ahead, unknown.value + unknown.end) if unknown else np.where(ahead == -np.inf, 0.0, ahead)
    ahead[0] = 0.0
    ahead = ahead.astype(np.float32)
    following = np.full((outside + 1, trie.size), outside, dtype=np.int64)
    following[trie.parent[1:], trie.token[1:]] = np.arange(1, outside)
    following[:, delimiter] = 0
    bonus = ahead[following] - ahead[:, None]
    if unknown is None:
        bonus[following == outside] = IMPOSSIBLE
    bonus[:, delimiter] = IMPOSSIBLE
    end_bonus = np.full(outside + 1, unknown.end if unknown else IMPOSSIBLE)
    end_bonus[trie.node_of] = ends
    end_bonus[0] = IMPOSSIBLE
    number = np.full(outside + 1, unknown.number if unknown else 0, dtype=np.int64)
    number[trie.node_of] = words
    return SpellingTables(
        ArcTables.build(following, bonus),
        torch.from_numpy((end_bonus - ahead).astype(np.float32)),
        torch.from_numpy(number),
    )
