"""What single frames say: their best token, and how silent they are.

Shapes: T frames, V tokens.
"""

import torch
from torch import Tensor

from wav2vec2.decoding.spelling import Speller


class SpokenTokens:
    """The tokens that a text can hold, the blank and the delimiter."""

    def __init__(self, speller: Speller) -> None:
        self.blank, self.delimiter = speller.blank, speller.delimiter
        #: The tokens that are no letters.
        self.silent = [token for token in (speller.blank, speller.delimiter) if token is not None]
        self._never = sorted(speller.special)

    def best(self, log_probs: Tensor) -> list[int]:
        """The best token of each frame of (T, V), as greedy search takes it."""
        return log_probs.index_fill(1, torch.tensor(self._never, dtype=torch.long), -torch.inf).argmax(-1).tolist()

    def silence(self, log_probs: Tensor) -> list[float]:
        """The probability of each frame of (T, V) that nothing is said: that of the blank and the delimiter."""
        return log_probs[:, self.silent].logsumexp(-1).exp().tolist()
