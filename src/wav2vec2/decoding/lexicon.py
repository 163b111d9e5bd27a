"""The words a search may spell and the words it favours, as tables in which one look-up takes a hypothesis a token on.

Shapes: S states (of a trie: nodes), V tokens, W words. State 0 is the start of a word.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wav2vec2.decoding.frame_preparation import IMPOSSIBLE

#: What a phrase of the hotwords earns where the caller does not say.
HOTWORD_WEIGHT = 10.0


@dataclass(frozen=True)
class ArcTables:
    """An automaton over tokens: where each token leads from each state (S * (V + 1),), and what it earns there.

    Any number of hypotheses take a step in one look-up: an arc is at `state * width + token`. The last column, V of the
    `width` V + 1, stands for "no token" and leads back to the state itself.
    """

    next_state: Tensor
    bonus: Tensor
    width: int

    @classmethod
    def build(cls, following: np.ndarray, bonus: np.ndarray) -> "ArcTables":
        """Tables for V tokens, from where they lead (S, V) and what they earn (S, V)."""
        states = len(following)
        following = np.concatenate([following, np.arange(states)[:, None]], 1, dtype=np.int64)
        bonus = np.concatenate([bonus, np.zeros((states, 1))], 1, dtype=np.float32)
        width = following.shape[1]
        return cls(torch.from_numpy(following.ravel()), torch.from_numpy(bonus.ravel()), width)

    def to(self, device: torch.device) -> "ArcTables":
        """The same tables on another device."""
        return ArcTables(self.next_state.to(device), self.bonus.to(device), self.width)

    def earn(self, states: Tensor, tokens: Tensor) -> Tensor:
        """What each token earns after each state; the shapes of the two are broadcast."""
        arcs = states * self.width + tokens
        return self.bonus.index_select(0, arcs.view(-1)).view(arcs.shape)

    def follow(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The states to which tokens lead from states of the same shape."""
        arcs = states * self.width + tokens
        return self.next_state.index_select(0, arcs.view(-1)).view(arcs.shape)


@dataclass(frozen=True)
class SpellingTables:
    """A trie of words as tables.

    The bonus of an arc is the change in what the word will add at best (its look-ahead): it guides the search, and
    `end_bonus` takes it back at the end of the word, so it never changes a score. Arcs of the delimiter lead to node 0
    and are not for scoring. `end_bonus` (S,) is what the end of a word at a node adds beside the language model, -inf
    where no word ends; `word` (S,) is that word's number for the language model.
    """

    arcs: ArcTables
    end_bonus: Tensor
    word: Tensor

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
    end_bonus = np.full(outside + 1, unknown.end if unknown else IMPOSSIBLE, dtype=np.float64)
    end_bonus[trie.node_of] = ends
    end_bonus[0] = IMPOSSIBLE
    number = np.full(outside + 1, unknown.number if unknown else 0, dtype=np.int64)
    number[trie.node_of] = words
    return SpellingTables(
        ArcTables.build(following, bonus),
        torch.from_numpy((end_bonus - ahead).astype(np.float32)),
        torch.from_numpy(number),
    )


@dataclass(frozen=True)
class HotwordTables:
    """The automaton of the hotwords, phrases whose every occurrence earns a bonus.

    The bonus is handed out letter by letter and taken back if the match breaks off. The phrases are the patterns of an
    Aho-Corasick automaton over tokens, each with a word delimiter before and after, so only whole words match. A state
    is worth the best bonus that could still come of it, by the share of letters that stand. The sum of the changes of
    that worth and of the bonuses of finished phrases is what a hypothesis has at any time: when a match breaks off the
    worth falls back by itself. At the end of a text `worth` (S,), which an unfinished match has earned too much, is
    taken away.
    """

    arcs: ArcTables
    worth: Tensor

    def to(self, device: torch.device) -> "HotwordTables":
        """The same tables on another device."""
        return HotwordTables(self.arcs.to(device), self.worth.to(device))


def hotword_tables(phrases: Mapping[tuple[int, ...], float], size: int, delimiter: int) -> HotwordTables:
    """The automaton of phrases: token ids with the delimiter between words, each with its weight."""
    patterns = [((delimiter, *phrase, delimiter), weight) for phrase, weight in phrases.items()]
    arcs, finished, worth = _trie(patterns)
    following, earned = _automaton(arcs, finished, size)
    ahead = np.asarray(worth)
    # The first state of the trie is the empty match; what a text begins with is the state after a delimiter.
    start = arcs[0][delimiter]
    order = np.arange(len(arcs))
    order[[0, start]] = order[[start, 0]]
    following, earned, ahead = order[following][order], earned[order], ahead[order]
    bonus = earned[following] + ahead[following] - ahead[:, None]
    return HotwordTables(ArcTables.build(following, bonus), torch.from_numpy(ahead.astype(np.float32)))


def _trie(patterns: Sequence[tuple[tuple[int, ...], float]]) -> tuple[list[dict[int, int]], list[float], list[float]]:
    """Arcs of each state, the weight of what ends in it, and the best share of a weight it stands for."""
    arcs: list[dict[int, int]] = [{}]
    finished, worth = [0.0], [0.0]
    for pattern, weight in patterns:
        state = 0
        for depth, token in enumerate(pattern):
            if token not in arcs[state]:
                arcs[state][token] = len(arcs)
                arcs.append({})
                finished.append(0.0)
                worth.append(0.0)
            state = arcs[state][token]
            share = weight * depth / (len(pattern) - 1)  # the first delimiter is worth nothing
            if depth < len(pattern) - 1 and abs(share) > abs(worth[state]):
                worth[state] = share
        finished[state] += weight
    return arcs, finished, worth


def _automaton(arcs: list[dict[int, int]], finished: list[float], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each state goes with each token (S, V), and the weights (S,) of all patterns that end in a state."""
    following = np.zeros((len(arcs), size), dtype=np.int64)
    earned = np.array(finished)
    fallback = [0] * len(arcs)
    queue: deque[int] = deque()
    for token, state in arcs[0].items():
        following[0, token] = state
        queue.append(state)
    while queue:
        state = queue.popleft()
        earned[state] += earned[fallback[state]]
        following[state] = following[fallback[state]]
        for token, child in arcs[state].items():
            fallback[child] = following[fallback[state], token]
            following[state, token] = child
            queue.append(child)
    return following, earned
