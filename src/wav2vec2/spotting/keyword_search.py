"""A search for keywords in frames of a model: from log-probabilities to scores between 0 and 1.

The word delimiter counts as silence, which may be anywhere in a keyword: "hey computer" is the same with a pause in it
and without, and models that were tuned on little are unsure of where words end.

Shapes: T frames, V tokens, K keywords.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wav2vec2.alignment.forced_alignment import silence_as_blank
from wav2vec2.alignment.keyword_scores import Floats, Integers, KeywordPaths, KeywordTrellis
from wav2vec2.decoding.spelling import Speller
from wav2vec2.spotting.keywords import Keyword


class ScoredFrames(NamedTuple):
    """The score of each keyword that ends in a frame (T, K), from 0 to 1, and the frame in which it began (T, K).

    A score is what share of the best token's probability a token of the keyword has, on (geometric) average: 1 where
    greedy search writes the keyword.
    """

    scores: Floats
    began: Integers


class KeywordSearch:
    """Scores keywords in any number of streams at once."""

    def __init__(self, keywords: Sequence[Keyword], speller: Speller) -> None:
        self._trellis = KeywordTrellis([keyword.tokens for keyword in keywords], speller.blank)
        self._blank, self._delimiter = speller.blank, speller.delimiter
        self._never = torch.tensor(sorted(speller.special), dtype=torch.long)

    def begin(self) -> KeywordPaths:
        """Of a stream that begins."""
        return self._trellis.begin()

    def score(self, streams: Sequence[KeywordPaths], log_probs: Sequence[Tensor]) -> list[ScoredFrames]:
        """The scores of the next frames (T, V) of each stream."""
        if not streams:
            return []
        found = self._trellis.advance(streams, [self._costs(frames) for frames in log_probs])
        return [ScoredFrames(np.exp(one.scores), one.began) for one in found]

    def _costs(self, log_probs: Tensor) -> Floats:
        """What each token costs beside the best that a text may hold, (T, V)."""
        heard = silence_as_blank(log_probs.double(), self._blank, self._delimiter, torch.maximum)
        best = heard.index_fill(1, self._never, -torch.inf).amax(1, keepdim=True)
        costs: Floats = (heard - best).numpy()
        return costs
