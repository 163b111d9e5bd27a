"""Slow and obvious decoding: every path through the frames, every text, a dictionary for a language model.

Shapes: T frames, V tokens.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Text = tuple[str, ...]


class DictionaryModel:
    """A bigram model with made-up probabilities: states are the number of the last word."""

    order = 2

    def __init__(self, words: Sequence[str], seed: int = 0) -> None:
        self.vocabulary = ["<unk>", "<s>", "</s>", *words]
        self.unknown_id = 0
        generator = torch.Generator().manual_seed(seed)
        size = len(self.vocabulary)
        self.table = (2 * torch.randn(size, size, generator=generator)).log_softmax(-1)

    def word_ids(self, words: Sequence[str]) -> Tensor:
        numbers = {word: number for number, word in enumerate(self.vocabulary)}
        return torch.tensor([numbers.get(word, 0) for word in words])

    def begin(self) -> int:
        return 1

    def score(self, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return self.table[states, words], words

    def end(self, states: Tensor) -> Tensor:
        return self.table[states, 2]

    def to(self, device: torch.device) -> "DictionaryModel":
        return self

    def text(self, words: Text) -> float:
        """The log-probability of a sentence."""
        numbers = [1, *self.word_ids(words).tolist(), 2]
        return sum(float(self.table[before, after]) for before, after in itertools.pairwise(numbers))


def all_texts(log_probs: Tensor, vocabulary: Sequence[str], blank: int = 0, delimiter: str = "|") -> dict[Text, float]:
    """The acoustic score of every text that some path through log_probs (T, V) spells: V^T paths, one by one."""
    rows = log_probs.double().tolist()
    mass: dict[Text, list[float]] = defaultdict(list)
    for path in itertools.product(range(len(vocabulary)), repeat=len(rows)):
        folded = [token for token, _ in itertools.groupby(path) if token != blank]
        text = "".join(vocabulary[token] for token in folded)
        mass[tuple(word for word in text.split(delimiter) if word)].append(
            sum(row[token] for row, token in zip(rows, path, strict=True))
        )
    return {words: float(torch.tensor(scores).logsumexp(0)) for words, scores in mass.items()}


def occurrences(words: Text, phrase: str) -> int:
    """How often the words of a phrase stand in a text, one behind the other."""
    wanted = tuple(phrase.split())
    return sum(words[place : place + len(wanted)] == wanted for place in range(len(words)))


def expected_scores(
    acoustic: Mapping[Text, float],
    model: DictionaryModel | None = None,
    lexicon: Sequence[str] | None = None,
    hotwords: Mapping[str, float] | None = None,
    alpha: float = 0.5,
    beta: float = 1.5,
    unknown_penalty: float = -10.0,
) -> dict[Text, float]:
    """The score of every text, from its acoustic score."""
    favoured = {word for phrase in hotwords or {} for word in phrase.split()}
    scores = {}
    for words, score in acoustic.items():
        if lexicon is not None and set(words) - set(lexicon) - favoured:
            continue
        if model is not None:
            unknown = sum(word not in model.vocabulary and word not in favoured for word in words)
            score += alpha * model.text(words) + beta * len(words) + unknown_penalty * unknown
        scores[words] = score + sum(weight * occurrences(words, p) for p, weight in (hotwords or {}).items())
    return {words: score for words, score in scores.items() if score > -math.inf}
