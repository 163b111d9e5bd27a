"""What a beam search knows: the space of what may be spelled, and the hypotheses that it holds.

Shapes: B utterances, K hypotheses each (the beam), V tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from wav2vec2.decoding.frame_preparation import IMPOSSIBLE
from wav2vec2.decoding.lexicon import HotwordTables, SpellingTables

#: The fingerprints of a place in the beam that nothing could fill, and of its parent.
DEAD, NOBODY = -1, 0


class LanguageModel(Protocol):
    """What the search asks of a word n-gram model: natural logs, states as integers."""

    vocabulary: list[str]
    unknown_id: int

    def word_ids(self, words: Sequence[str]) -> Tensor:
        """The numbers of words, `unknown_id` for those that the model does not know."""

    def begin(self) -> int:
        """The state before the first word."""

    def score(self, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of words (N,) after states (N,), and the states behind them."""

    def end(self, states: Tensor) -> Tensor:
        """Log-probabilities (N,) that the sentence ends after states (N,)."""

    def to(self, device: torch.device) -> "LanguageModel":
        """The same model on another device."""


@dataclass
class SearchSpace:
    """What may be spelled and what it earns: everything of a search but the frames."""

    #: V.
    size: int
    blank: int
    delimiter: int | None
    #: The weight of the language model.
    alpha: float
    spelling: SpellingTables | None = None
    hotwords: HotwordTables | None = None
    language_model: LanguageModel | None = None

    def to(self, device: torch.device) -> "SearchSpace":
        """The same space on another device."""
        return replace(
            self,
            spelling=self.spelling and self.spelling.to(device),
            hotwords=self.hotwords and self.hotwords.to(device),
            language_model=self.language_model and self.language_model.to(device),
        )


@dataclass
class Beam:
    """The hypotheses (B * K,) of a batch, and what is known of each. Fingerprints stand for whole texts."""

    #: The acoustic mass of the paths that end in a blank.
    blank: Tensor
    #: The acoustic mass of the paths that end in the last token.
    token: Tensor
    #: What the text earned beside its acoustics.
    extra: Tensor
    #: The fingerprint of the text.
    text: Tensor
    #: The fingerprint of the text without its last token.
    parent: Tensor
    #: The last token.
    last: Tensor
    #: The node of the open word in the trie.
    node: Tensor
    #: The state of the hotwords' automaton.
    hot: Tensor
    #: The language model's log-probability of the ended words.
    language: Tensor
    #: The language model's state behind them.
    state: Tensor
    #: Whether the next two are known.
    scored: Tensor
    #: The language model's log-probability of the open word, if it ends here.
    word_score: Tensor
    #: The language model's state behind it.
    next_state: Tensor

    @classmethod
    def start(cls, batch: int, beam: int, space: SearchSpace, device: torch.device) -> "Beam":
        """The first beam: one empty text for each utterance, as if it stood behind a delimiter."""
        zeros = torch.zeros(batch * beam, device=device)
        nothing = torch.full_like(zeros, IMPOSSIBLE)
        numbers = torch.zeros(batch * beam, dtype=torch.long, device=device)
        blank, text = nothing.clone(), torch.full_like(numbers, DEAD)
        blank[::beam], text[::beam] = 0.0, 1
        last = torch.full_like(numbers, space.blank if space.delimiter is None else space.delimiter)
        state = numbers if space.language_model is None else numbers + space.language_model.begin()
        scored = torch.ones_like(numbers, dtype=torch.bool)
        parent = torch.full_like(numbers, NOBODY)
        mass, known = (blank, nothing, zeros), (text, parent, last, numbers, numbers)
        return cls(*mass, *known, zeros, state, scored, zeros.clone(), state.clone())

    def take(self, rows: Tensor, space: SearchSpace) -> "Beam":
        """The hypotheses at these places; what the space has no use for stays as it is."""
        unused = set() if space.spelling is not None else {"node"}
        if space.hotwords is None:
            unused |= {"hot"}
        if space.language_model is None:
            unused |= {"language", "state", "scored", "word_score", "next_state"}
        return Beam(*(value if name in unused else value.index_select(0, rows) for name, value in vars(self).items()))
