"""How much of each corpus in each language a run over shards hears.

As Omnilingual ASR does it: corpora are drawn by (hours / total) to a power, and within a corpus its languages by their
hours to another power. Where sources have weights, each has its weight's share, and this divides it further.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wav2vec2.training.data.global_batches import shares_of


class LaneGroup(NamedTuple):
    """Clips that are drawn by a share of their own: a corpus in a language, of the source with this number."""

    source: int
    corpus: str
    language: str


def group_shares(
    hours: Mapping[LaneGroup, float], weights: Sequence[float | None], balance: float, language_balance: float
) -> dict[LaneGroup, float]:
    """The share of each group in the audio of a run. `weights` are those of the sources, all or none of them given.

    >>> both = {LaneGroup(0, "books", "en"): 75.0, LaneGroup(0, "news", "de"): 20.0, LaneGroup(0, "news", "fr"): 5.0}
    >>> found = group_shares(both, [None], 1.0, 0.5)
    >>> [round(found[group], 4) for group in both]
    [0.75, 0.1667, 0.0833]
    """
    if all(weight is None for weight in weights):
        return _of_corpora(hours, balance, language_balance)
    by_source = [
        {group: one for group, one in hours.items() if group.source == number} for number in range(len(weights))
    ]
    shares = shares_of([sum(one.values()) for one in by_source], weights, balance)
    found: dict[LaneGroup, float] = {}
    for share, own in zip(shares, by_source, strict=True):
        found |= {group: share * one for group, one in _of_corpora(own, balance, language_balance).items()}
    return found


def _of_corpora(hours: Mapping[LaneGroup, float], balance: float, language_balance: float) -> dict[LaneGroup, float]:
    """Corpora by their hours, languages within them by theirs; where several sources have the same, by hours."""
    corpora: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for group, one in hours.items():
        corpora[group.corpus][group.language] += one
    totals = [sum(languages.values()) for languages in corpora.values()]
    of_corpus = dict(zip(corpora, shares_of(totals, [None] * len(totals), balance), strict=True))
    of_language = {
        corpus: dict(
            zip(languages, shares_of(list(languages.values()), [None] * len(languages), language_balance), strict=True)
        )
        for corpus, languages in corpora.items()
    }
    return {
        group: of_corpus[group.corpus]
        * of_language[group.corpus][group.language]
        * one
        / corpora[group.corpus][group.language]
        if one
        else 0.0
        for group, one in hours.items()
    }
