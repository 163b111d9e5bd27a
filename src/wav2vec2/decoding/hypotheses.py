"""What a decoder answers: text with its score, words and tokens with times in seconds and confidences."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Token:
    """One letter (or other entry of the vocabulary) with its time in seconds; `confidence` is its mean probability."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Word:
    """One word, from the start of its first token to the end of its last, and how likely it is to be right.

    `evidence` is what the confidence was computed from (see `confidences.features`).
    """

    text: str
    start: float
    end: float
    confidence: float
    evidence: tuple[float, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Hypothesis:
    """One text an utterance may hold.

    `score` is what the search ranks by: `acoustic_score` (natural log of the summed probability of all paths that
    spell the text; of the one best path for greedy search) + alpha x `language_score` (natural log, with the end of
    the sentence) + beta per word + the bonuses of hotwords and unknown words. A score of `-inf` says that no path
    spells anything allowed.
    """

    text: str
    score: float
    words: list[Word] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    acoustic_score: float = 0.0
    language_score: float = 0.0
