"""A bigram model of a few phrases, made while somebody waits: what is expected at this point of a conversation.

It is what Vosk makes of a `phrase_list`: the words of the phrases may follow each other in any order, and those that do
in a phrase are favoured. Interpolated absolute discounting (Ney, Essen and Kneser 1994): of every pair that was seen,
half a count is given to the words by themselves. A word of no phrase counts as a phrase of its own.

Shapes: W words, and behind them the unknown one and the beginning (as a state) or the end (as a word).
"""

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

#: Different words at most: every pair has a number in memory.
MOST_WORDS = 2000

_DISCOUNT = 0.5


class PhraseBigrams:
    """The model, as a beam search asks for it (`decoding.beam.LanguageModel`).

    >>> model = PhraseBigrams(["my bill", "a power cut"])
    >>> my, bill, cut = model.word_ids(["my", "bill", "cut"])
    >>> model.table[my, bill] > model.table[my, cut]
    tensor(True)
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        texts = [phrase.split() for phrase in phrases]
        #: The words of the phrases.
        self.vocabulary = list(dict.fromkeys(word for text in texts for word in text))
        if not 1 <= len(self.vocabulary) <= MOST_WORDS:
            raise ValueError(f"phrases have {len(self.vocabulary)} different words; must be from 1 to {MOST_WORDS}")
        self.unknown_id = len(self.vocabulary)
        self._ids = {word: number for number, word in enumerate(self.vocabulary)}
        self._edge = self.unknown_id + 1
        counts = np.zeros((self._edge + 1, self._edge + 1))
        for numbers in (*([self._ids[word] for word in text] for text in texts if text), [self.unknown_id]):
            np.add.at(counts, ([self._edge, *numbers], [*numbers, self._edge]), 1)
        seen, alone = counts.sum(1, keepdims=True), counts.sum(0) / counts.sum()
        given = _DISCOUNT * (counts > 0).sum(1, keepdims=True)
        #: (W + 2, W + 2): the log-probability of each word after each state.
        self.table = torch.from_numpy(np.log((np.maximum(counts - _DISCOUNT, 0) + given * alone) / seen)).float()

    def word_ids(self, words: Sequence[str]) -> Tensor:
        """The numbers of words, `unknown_id` for those of no phrase."""
        return torch.tensor([self._ids.get(word, self.unknown_id) for word in words], device=self.table.device)

    def begin(self) -> int:
        """The state before the first word."""
        return self._edge

    def score(self, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of words (N,) after states (N,), and the states behind them."""
        return self.table[states, words], words

    def end(self, states: Tensor) -> Tensor:
        """Log-probabilities (N,) that the text ends after states (N,)."""
        return self.table[states, self._edge]

    def to(self, device: torch.device) -> "PhraseBigrams":
        """The same model on another device."""
        model = copy(self)
        model.table = self.table.to(device)
        return model
