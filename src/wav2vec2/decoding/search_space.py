"""What a decoder lets a search spell, and what each word is worth: lexicon, language model and hotwords as tables."""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wav2vec2.decoding.beam import LanguageModel, SearchSpace
from wav2vec2.decoding.lexicon import HotwordTables, SpellingTables, Trie, UnknownWord, hotword_tables, spelling_tables
from wav2vec2.decoding.spelling import Speller, Spelling

_NO_WORDS = {"<unk>", "<s>", "</s>"}

#: Shares of the probability of a model's words that the vocabulary spells: below the first it is said, below the second
#: the case may be mistaken.
_USUAL, _HALF = 0.9, 0.5


@dataclass(frozen=True)
class Weights:
    """How much the language model, a word, and an unknown word count in a score; see `CTCDecoder`."""

    alpha: float
    beta: float
    unknown_penalty: float


class WordKnowledge:
    """All that is known of words before any sound: which can be spelled, how a language model knows them."""

    def __init__(
        self,
        speller: Speller,
        language_model: LanguageModel | None,
        lexicon: Iterable[str] | Mapping[str, Iterable[str]] | None,
        hotwords: Mapping[str, float],
        known_words: Iterable[str] | None = None,
        unknown_word: str | None = None,
    ) -> None:
        """Of the words that `language_model` has, only those among `known_words` count as known, if they are given."""
        self.speller, self.language_model, self.closed = speller, language_model, lexicon is not None
        self.known_words = None if known_words is None else set(known_words)
        if speller.delimiter is None and (language_model is not None or self.closed or hotwords):
            raise ValueError(
                "language_model, lexicon and hotwords need a word_delimiter: without one there are no words"
            )
        self.names = {} if lexicon is None else speller.read_lexicon(lexicon)
        favoured = speller.spell_all({word for phrase in hotwords for word in phrase.split()}, "hotwords")
        phrases = {self._phrase(phrase): weight for phrase, weight in hotwords.items()}
        self.hotwords: HotwordTables | None = None
        if phrases:
            self.hotwords = hotword_tables(phrases, len(speller.vocabulary), speller.delimiter or 0)
        #: What is written for spellings, and for every other one; None: as it is spelled.
        self.written, self.unknown_word = self.names, unknown_word
        self.trie: Trie | None = None
        if self.closed or language_model is not None:
            spellings = dict(self.names) if self.closed else self._spellings_of_model()
            self._enter(spellings, favoured)
            if unknown_word is not None:
                self.written = favoured | spellings

    def _phrase(self, phrase: str) -> Spelling:
        """The tokens of a phrase, with a delimiter between its words."""
        words = [self.speller.spell(word) for word in phrase.split()]
        tokens = [token for word in words for token in (*(word or ()), self.speller.delimiter or 0)]
        if not tokens:
            raise ValueError(f"hotwords: {phrase!r} holds no word")
        return tuple(tokens[:-1])

    def _spellings_of_model(self) -> dict[Spelling, str]:
        """The language model's words by their spelling, without those that the vocabulary cannot spell."""
        assert self.language_model is not None
        words = [word for word in self.language_model.vocabulary if word not in _NO_WORDS]
        probabilities = np.exp(self._values(self.language_model.word_ids(words).cpu()))
        _check_spellable(words, probabilities, self.speller)
        return {spelling: word for word in words if (spelling := self.speller.spell(word)) is not None}

    def _values(self, numbers: torch.Tensor) -> np.ndarray:
        """Log-probabilities of words on their own.

        Behind an unknown word a model has nothing to go by, so its scores there are those of words on their own.
        """
        assert self.language_model is not None
        unknown = torch.tensor([self.language_model.unknown_id])
        alone = self.language_model.score(torch.tensor([self.language_model.begin()]), unknown)[1]
        values: np.ndarray = self.language_model.score(alone.expand(len(numbers)), numbers)[0].double().numpy()
        return values

    def _enter(self, spellings: dict[Spelling, str], favoured: dict[Spelling, str]) -> None:
        """Put the words and the hotwords into the trie, with their numbers and log-probabilities on their own."""
        words = spellings | {spelling: word for spelling, word in favoured.items() if spelling not in spellings}
        if not words:
            raise ValueError("lexicon: holds no word")
        self.trie = Trie(list(words), len(self.speller.vocabulary))
        self.numbers = np.zeros(len(words), dtype=np.int64)
        self.known = np.ones(len(words), dtype=bool)
        self.values = np.zeros(len(words))
        self.unknown_value = 0.0
        model = self.language_model
        if model is None:
            return
        if self.closed:
            _check_lexicon(set(self.names.values()), set(model.vocabulary))
        numbers = model.word_ids(list(words.values())).cpu()
        self.values = self._values(numbers)
        self.unknown_value = float(self._values(torch.tensor([model.unknown_id]))[0])
        self.numbers = numbers.numpy()
        self.known = self.numbers != model.unknown_id
        if self.known_words is not None:
            self.known &= np.array([word in self.known_words for word in words.values()])
        self.known |= np.array([spelling in favoured for spelling in words])

    def name(self, spelling: Spelling) -> str:
        """The word that tokens spell."""
        return self.written.get(spelling) or self.unknown_word or self.speller.join(spelling)

    def space(self, weights: Weights) -> SearchSpace:
        """The space of a search with these weights."""
        return SearchSpace(
            size=len(self.speller.vocabulary),
            blank=self.speller.blank,
            delimiter=self.speller.delimiter,
            alpha=weights.alpha,
            spelling=self._spelling(weights),
            hotwords=self.hotwords,
            language_model=self.language_model,
        )

    def _spelling(self, weights: Weights) -> SpellingTables | None:
        if self.trie is None:
            return None
        alpha, beta = (0.0, 0.0) if self.language_model is None else (weights.alpha, weights.beta)
        penalty = beta + weights.unknown_penalty
        ends = np.where(self.known, beta, penalty)
        unknown = None
        if not self.closed and self.language_model is not None:
            unknown = UnknownWord(self.language_model.unknown_id, alpha * self.unknown_value, penalty)
        return spelling_tables(self.trie, self.numbers, alpha * self.values, ends, self.speller.delimiter or 0, unknown)


def _check_spellable(words: Sequence[str], probabilities: NDArray[np.float64], speller: Speller) -> None:
    """Compare a language model's words, each with its probability on its own, with what the vocabulary spells.

    Every word that a model does not know costs the penalty of unknown words, so a search that can spell hardly any of
    its words glues everything into few unknown ones: a model in the other case is worse than none. What counts is the
    share of the words' probability, not whether there is a word: a stray apostrophe is spelled in every case.

    In the wrong case, or without a word that can be spelled, it is a ValueError; where the rest cannot be spelled
    either way, a warning that says how much it is.
    """

    def share(of: Callable[[str], str]) -> float:
        spelled = np.array([speller.spell(of(word)) is not None for word in words], dtype=bool)
        return float(probabilities[spelled].sum() / max(probabilities.sum(), 1e-300))

    as_it_is = share(str)
    if as_it_is >= _USUAL:
        return
    lost = [word for word in words if speller.spell(word) is None]
    said = f"language_model: {as_it_is:.1%} of its words by probability can be spelled with the vocabulary"
    if as_it_is < _HALF:
        for case, of in (("upper", str.upper), ("lower", str.lower)):
            if (other := share(of)) >= _HALF:
                raise ValueError(f"{said}, but {other:.1%} in {case} case: train it on text in {case} case")
    if as_it_is == 0.0:
        raise ValueError(
            f"language_model: none of its words, such as {lost[:5]}, can be spelled with the vocabulary "
            f"{speller.vocabulary[:40]}"
        )
    warnings.warn(f"{said}; the others, such as {lost[:5]}, are never found", stacklevel=2)


def _check_lexicon(lexicon: Collection[str], known: Collection[str]) -> None:
    """A ValueError where a language model knows none of a lexicon's words, or far more of them in the other case."""
    as_it_is = sum(word in known for word in lexicon)
    said = f"lexicon: the language model knows {as_it_is} of its {len(lexicon)} words"
    for case, of in (("upper", str.upper), ("lower", str.lower)):
        if (other := sum(of(word) in known for word in lexicon)) > 2 * as_it_is:
            raise ValueError(f"{said}, but {other} in {case} case: write both in one case")
    if as_it_is == 0:
        words, others = sorted(lexicon)[:5], [word for word in known if not word.startswith("<")][:5]
        raise ValueError(f"{said}, such as {words}, but for instance {others}")
