"""Hotwords: phrases whose every occurrence earns a bonus, handed out letter by letter and taken back if it breaks off.

The phrases are the patterns of an Aho-Corasick automaton over tokens, each with a word delimiter before and after, so
only whole words match. A state is worth the best bonus that could still come of it, by the share of letters that stand.
The sum of the changes of that worth and of the bonuses of finished phrases is what a hypothesis has at any time: when
a match breaks off the worth falls back by itself, and at the end of the text it is taken away.

Shapes: H states, V tokens. State 0 is the start of a word.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wav2vec2.decoding.arc_tables import ArcTables

#: What a phrase earns where the caller does not say.
HOTWORD_WEIGHT = 10.0


@dataclass(frozen=True)
class HotwordTables:
    """The automaton, and what a match that stands unfinished at the end of a text has earned too much (H,)."""

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
    """Where each state goes with each token (H, V), and the weights (H,) of all patterns that end in a state."""
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
