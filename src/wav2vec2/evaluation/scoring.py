"""Texts in, errors out: substitutions, deletions and insertions of words and of characters.

Rates are of the whole corpus: all errors divided by all words of the references, not a mean over utterances. The
alignments are jiwer's, a cheapest edit of each reference into its hypothesis.

An empty reference is an utterance like any other: what is heard in it are insertions, which count as errors. Only when
all references together have no word is there nothing to divide by; the rate is then the number of insertions (as
jiwer has it), so 0 where nothing was heard. Characters are those of the words with one space between them, spaces
counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from wav2vec2.evaluation.normalisers import Normaliser, normaliser

if TYPE_CHECKING:
    from jiwer import AlignmentChunk, WordOutput

Texts = Sequence[list[str]]


@dataclass(frozen=True)
class Counts:
    """What a cheapest edit does to the units of a reference, which are words or characters."""

    #: Units that are right.
    hits: int = 0
    #: Units that are replaced by another.
    substitutions: int = 0
    #: Units that are left out.
    deletions: int = 0
    #: Units that are put in.
    insertions: int = 0

    @property
    def reference(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """How many edits it takes: Levenshtein's distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the reference; the number of insertions if the reference is empty.

        >>> Counts(hits=3, substitutions=1, insertions=1).rate, Counts(insertions=2).rate, Counts().rate
        (0.5, 2.0, 0.0)
        """
        return self.errors / max(self.reference, 1)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def total(counts: Iterable[Counts]) -> Counts:
    """The counts of a corpus from those of its utterances."""
    return sum(counts, Counts())


@dataclass(frozen=True)
class CorpusErrors:
    """Errors of a corpus in words and in characters."""

    words: Counts
    characters: Counts

    @property
    def wer(self) -> float:
        """Word error rate, 0.05 for 5 %."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate."""
        return self.characters.rate


@dataclass(frozen=True)
class Edit:
    """One step of an alignment: a word of the reference and the one heard for it; None where there is none."""

    reference: str | None
    hypothesis: str | None

    @property
    def kind(self) -> str:
        """What the step is called: hit, substitution, deletion or insertion."""
        if self.reference is None:
            return "insertion"
        if self.hypothesis is None:
            return "deletion"
        return "hit" if self.reference == self.hypothesis else "substitution"


@dataclass(frozen=True)
class UtteranceScore:
    """One utterance: its word by word alignment (after normalisation) and its counts."""

    edits: tuple[Edit, ...]
    words: Counts
    characters: Counts


def error_rates(
    references: Sequence[str], hypotheses: Sequence[str], normalizer: str | Normaliser = "none"
) -> CorpusErrors:
    """The errors of a corpus, and nothing more: cheap enough for every evaluation of a training run.

    >>> error_rates(["a cat sat", ""], ["a bat", "hm"]).words
    Counts(hits=1, substitutions=1, deletions=1, insertions=1)
    """
    pairs = _words(references, hypotheses, normalizer)
    counted = [_aligned(*pairs), _aligned(*map(_characters, pairs))]
    return CorpusErrors(*(Counts(one.hits, one.substitutions, one.deletions, one.insertions) for one in counted))


def score_utterances(
    references: Sequence[str], hypotheses: Sequence[str], normalizer: str | Normaliser = "none"
) -> list[UtteranceScore]:
    """The alignment and the counts of each utterance; the counts sum up to what `error_rates` gives."""
    words = _words(references, hypotheses, normalizer)
    by_word, by_character = _aligned(*words), _aligned(*map(_characters, words))
    return [
        UtteranceScore(tuple(_edits(said, heard, chunks)), _of_chunks(chunks), _of_chunks(spelled))
        for said, heard, chunks, spelled in zip(*words, by_word.alignments, by_character.alignments, strict=True)
    ]


def _words(references: Sequence[str], hypotheses: Sequence[str], normalizer: str | Normaliser) -> tuple[Texts, Texts]:
    if isinstance(references, str) or isinstance(hypotheses, str):
        raise ValueError("references and hypotheses: need a list of texts each, not one text")
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, but {len(hypotheses)} hypotheses: need one for each")
    treat = normaliser(normalizer) if isinstance(normalizer, str) else normalizer
    return [treat(text).split() for text in references], [treat(text).split() for text in hypotheses]


def _characters(texts: Texts) -> Texts:
    return [list(" ".join(words)) for words in texts]


def _aligned(references: Texts, hypotheses: Texts) -> "WordOutput":
    """jiwer's answer for texts that are split already: its own splitting knows no white space but the blank."""
    import jiwer

    return jiwer.process_words(references, hypotheses, list, list)


def _of_chunks(chunks: "Iterable[AlignmentChunk]") -> Counts:
    lengths = dict.fromkeys(("equal", "substitute", "delete", "insert"), 0)
    for chunk in chunks:
        inserted = chunk.type == "insert"
        start, end = (chunk.hyp_start_idx, chunk.hyp_end_idx) if inserted else (chunk.ref_start_idx, chunk.ref_end_idx)
        lengths[chunk.type] += end - start
    return Counts(*lengths.values())


def _edits(reference: list[str], hypothesis: list[str], chunks: "Iterable[AlignmentChunk]") -> Iterable[Edit]:
    for chunk in chunks:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        yield from (Edit(*pair) for pair in zip_longest(said, heard))


def confusions(scores: Iterable[UtteranceScore]) -> Counter[Edit]:
    """How often each word was taken for which other, left out or put in.

    `most_common` begins with the most frequent; equally frequent errors come in the order in which they appeared.

    >>> confusions(score_utterances(["a man", "a man"], ["the man", "the man"])).most_common()
    [(Edit(reference='a', hypothesis='the'), 2)]
    """
    return Counter(edit for score in scores for edit in score.edits if edit.kind != "hit")


def worst(scores: Sequence[UtteranceScore], count: int) -> list[int]:
    """The numbers of the utterances with most word errors, of equals the one with the higher rate first.

    Utterances without an error are not among them.
    """
    wrong = [number for number, score in enumerate(scores) if score.words.errors]
    return sorted(wrong, key=lambda number: (-scores[number].words.errors, -scores[number].words.rate))[:count]


def count_columns(unit: str) -> tuple[str, ...]:
    """The names of the columns of `count_values`; `unit` is words or characters."""
    return unit, f"{unit}_substituted", f"{unit}_deleted", f"{unit}_inserted"


def count_values(counts: Counts) -> tuple[str, ...]:
    """The units of the reference and the three kinds of errors, as a table of utterances has them."""
    return tuple(map(str, (counts.reference, counts.substitutions, counts.deletions, counts.insertions)))
