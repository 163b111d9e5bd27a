"""Which words are mistaken for which, and which utterances went worst."""

from collections import Counter
from collections.abc import Iterable, Sequence

from wav2vec2.evaluation.scoring import Edit, UtteranceScore


def confusions(scores: Iterable[UtteranceScore]) -> Counter[Edit]:
    """How often each error was made; most frequent first in `most_common`, ties as they appeared.

    >>> from wav2vec2.evaluation.scoring import score_utterances
    >>> confusions(score_utterances(["a man", "a man"], ["the man", "the man"])).most_common()
    [(Edit(reference='a', hypothesis='the'), 2)]
    """
    return Counter(edit for score in scores for edit in score.edits if edit.kind != "hit")


def worst(scores: Sequence[UtteranceScore], count: int) -> list[int]:
    """The numbers of the utterances with most word errors, of equals the one with the higher rate first; none right."""
    wrong = [number for number, score in enumerate(scores) if score.words.errors]
    return sorted(wrong, key=lambda number: (-scores[number].words.errors, -scores[number].words.rate))[:count]
