"""What was said where something was asked for: the asked text with what was replaced, left out and put in.

Goodness of pronunciation asks of one place at a time and takes all others to be as asked. Where they are not, it blames
the neighbours: a phone that was left out has to be somewhere, and takes the frames of the next. So the text is changed
where a change makes it likelier, one place and its neighbours at a time, until no change does, and every place is then
judged beside what was said around it.

Shapes: T frames, V tokens, U tokens of a text, K tokens that may be said.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec2.alignment.goodness_of_pronunciation import SpokenInstead, spoken_instead
from wav2vec2.alignment.path_sums import path_sums

#: How often the text is changed at most. What differs so much is another text.
_ROUNDS = 12

#: In one round two changes have a token between them, which stays.
_APART = 4

#: What may have been said in a place, the likeliest first: so many are kept.
_CANDIDATES = 5


class Slot(NamedTuple):
    """A place in what was said: which of the asked tokens it is, None for one that was put in, and what was said there,
    None where it was left out."""

    asked: int | None
    token: int | None


class Candidate(NamedTuple):
    """What may have been said in a place, None for nothing, and how probable that is."""

    token: int | None
    probability: float


@dataclass(frozen=True)
class Judged:
    """A place, and how sure the model is of it."""

    slot: Slot
    #: How much more likely it is, in nats, that this place is as asked than that it is not.
    log_odds: float
    #: What may have been said here, the likeliest first.
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class SpokenText:
    """What was said of a text, in order, and the published goodness of each asked token, of its place alone."""

    places: tuple[Judged, ...]
    goodness: tuple[float, ...]


def spoken_text(
    log_probs: Tensor, asked: Sequence[int], tokens: Sequence[int], blank: int, words: Sequence[int] = ()
) -> SpokenText:
    """What was said in log_probs (T, V), of which a text was asked. `tokens` are all that may be said, and those of the
    text are among them; `words` holds the number of the word of each token of the text, where there are words: they may
    be left out as a whole. It is computed where the log-probabilities are, in float64.

    >>> frames = torch.full((9, 4), 0.01).scatter_(1, torch.tensor([0, 1, 0, 0, 3, 0, 0, 0, 0])[:, None], 0.97).log()
    >>> [place.slot for place in spoken_text(frames, [1, 2, 1], [1, 2, 3], blank=0).places]
    [Slot(asked=0, token=1), Slot(asked=1, token=3), Slot(asked=2, token=None)]
    """
    heard = first = _Heard([Slot(place, token) for place, token in enumerate(asked)], log_probs, tokens, blank)
    for _ in range(_ROUNDS):
        changed = _tidied(heard.likelier(words), asked)
        if changed == heard.slots:
            break
        after = _Heard(changed, log_probs, tokens, blank)
        if not after.likelihood > heard.likelihood:
            break
        heard = after
    places = heard.judged(asked, _odds_of_words(heard, log_probs, asked, blank, words))
    return SpokenText(tuple(places), tuple(first.found.goodness()[0].tolist()))


def _odds_of_words(
    heard: "_Heard", log_probs: Tensor, asked: Sequence[int], blank: int, words: Sequence[int]
) -> dict[int, float]:
    """How much more likely, in nats, the words of which nothing was said were said; by the places of their tokens."""
    found: dict[int, float] = {}
    said = {words[slot.asked] for slot in heard.slots if words and slot.asked is not None and slot.token is not None}
    for word in sorted(set(words) - said):
        own = [place for place, number in enumerate(words) if number == word]
        restored = [slot._replace(token=asked[slot.asked]) if slot.asked in own else slot for slot in heard.slots]
        text = [slot.token for slot in restored if slot.token is not None]
        counts = torch.tensor([len(log_probs)]), torch.tensor([len(text)])
        likelihood = path_sums(log_probs[None], torch.tensor([text]), *counts, blank).likelihood()
        found |= dict.fromkeys(own, float(likelihood[0]) - heard.likelihood)
    return found


class _Change(NamedTuple):
    """A text that differs in one place, or lacks a word. The places are 2 u + 1 for token u, and 2 u before it."""

    likelihood: float
    places: range
    #: What is said there; None for nothing.
    token: int | None


class _Heard:
    """A text that may have been said, and all that differ from it in one place."""

    def __init__(self, slots: list[Slot], log_probs: Tensor, tokens: Sequence[int], blank: int) -> None:
        self.slots, self.tokens = slots, tokens
        text = [slot.token for slot in slots if slot.token is not None]
        counts = torch.tensor([len(log_probs)]), torch.tensor([len(text)])
        self.sums = path_sums(log_probs[None], torch.tensor([text], dtype=torch.long), *counts, blank)
        found = spoken_instead(self.sums, torch.tensor(tokens))
        self.found = SpokenInstead(*(table.cpu() for table in found))
        self.likelihood = float(found.asked[0])

    def likelier(self, words: Sequence[int]) -> Iterator[Slot]:
        """The slots with every change that makes the text likelier by itself, but for those beside a better one."""
        chosen: dict[int, int | None] = {}
        changes = [change for change in self._changes(words) if change.likelihood > self.likelihood]
        for change in sorted(changes, key=lambda change: -change.likelihood):
            near = range(change.places.start - _APART + 1, change.places[-1] + _APART)
            if not any(place in near for place in chosen):
                chosen |= dict.fromkeys(change.places, change.token)
        at = 0
        for slot in self.slots:
            if slot.token is None:
                yield slot
                continue
            if 2 * at in chosen:
                yield Slot(None, chosen[2 * at])
            yield slot._replace(token=chosen.get(2 * at + 1, slot.token))
            at += 1
        if 2 * at in chosen:
            yield Slot(None, chosen[2 * at])

    def _changes(self, words: Sequence[int]) -> Iterator[_Change]:
        """The best change of each place, and each word of several tokens left out."""
        others, token = self.found.substituted[0].max(-1)  # (U,)
        rows = zip(others.tolist(), token.tolist(), self.found.omitted[0].tolist(), strict=True)
        for at, (best, number, nothing) in enumerate(rows):
            said = None if nothing >= best else self.tokens[number]
            yield _Change(max(best, nothing), range(2 * at + 1, 2 * at + 2), said)
        more, token = self.found.inserted[0].max(-1)  # (U + 1,)
        for at, (best, number) in enumerate(zip(more.tolist(), token.tolist(), strict=True)):
            yield _Change(best, range(2 * at, 2 * at + 1), self.tokens[number])
        text = [slot for slot in self.slots if slot.token is not None]
        parts: dict[int, list[int]] = {}  # where the tokens of each word are in the text
        for at, slot in enumerate(text):
            if words and slot.asked is not None:
                parts.setdefault(words[slot.asked], []).append(at)
        spans = [(part[0], part[-1] + 1) for part in parts.values() if len(part) > 1]
        if spans:
            first, last = torch.tensor(spans, device=self.sums.labels.device).T[:, None]  # (1, R) each
            for (begin, end), whole in zip(spans, self.sums.without(first, last)[0].tolist(), strict=True):
                yield _Change(whole, range(2 * begin + 1, 2 * end, 2), None)

    def judged(self, asked: Sequence[int], of_words: Mapping[int, float]) -> Iterator[Judged]:
        """Every place, by the texts that differ from this one in it alone; those of words that were left out also by
        the odds of the whole word."""
        found, at = self.found, 0
        number = {token: place for place, token in enumerate(self.tokens)}
        odds = found.log_odds()[0].tolist()
        for slot in self.slots:
            if slot.token is None:
                ways, nothing = found.inserted[0, at], found.asked[0]
            else:
                ways = found.substituted[0, at].where(~found.is_target[0, at], found.asked[0])
                nothing = found.omitted[0, at]
            scores = torch.cat([ways, nothing[None]])  # (K + 1,)
            meant = len(ways) if slot.asked is None else number[asked[slot.asked]]
            if slot.token is not None and slot.asked is not None and slot.token == asked[slot.asked]:
                sure = odds[at]
            else:
                others = scores.masked_fill(torch.arange(len(scores)) == meant, -torch.inf).logsumexp(0)
                sure = float(scores[meant] - others)
            if slot.asked is not None:
                sure = min(sure, of_words.get(slot.asked, sure))
            yield Judged(slot, sure, self._candidates(scores))
            at += slot.token is not None

    def _candidates(self, scores: Tensor) -> tuple[Candidate, ...]:
        """The likeliest of (K + 1,) log-likelihoods, of which the last is that nothing was said."""
        shares, order = scores.softmax(0).sort(descending=True, stable=True)
        rows = zip(shares[:_CANDIDATES].tolist(), order[:_CANDIDATES].tolist(), strict=True)
        return tuple(Candidate(self.tokens[at] if at < len(self.tokens) else None, share) for share, at in rows)


def _tidied(slots: Iterable[Slot], asked: Sequence[int]) -> list[Slot]:
    """The slots, in which what was put in beside what was left out was said in its stead. What was put in and taken out
    again is gone.

    >>> slots = [Slot(None, 4), Slot(0, None), Slot(None, None), Slot(1, 2), Slot(2, None), Slot(3, 6), Slot(None, 5)]
    >>> _tidied(slots, [1, 2, 3, 4])
    [Slot(asked=0, token=4), Slot(asked=1, token=2), Slot(asked=2, token=6), Slot(asked=3, token=5)]
    """

    def as_asked(slot: Slot) -> bool:
        return slot.asked is not None and slot.token == asked[slot.asked]

    kept: list[Slot] = []
    for right, run in groupby((slot for slot in slots if slot != Slot(None, None)), as_asked):
        places = list(run)
        kept += places if right else _paired(places, asked)
    return kept


def _paired(run: Sequence[Slot], asked: Sequence[int]) -> list[Slot]:
    """Slots of which none is as asked, by a cheapest edit of what was asked for there into what was said there.

    >>> _paired([Slot(None, 7), Slot(None, 2), Slot(0, None), Slot(1, None), Slot(2, None)], [1, 2, 3])
    [Slot(asked=0, token=7), Slot(asked=1, token=2), Slot(asked=2, token=None)]
    """
    wanted = [slot.asked for slot in run if slot.asked is not None]
    said = [slot.token for slot in run if slot.token is not None]
    #: The cost of what comes from each pair of places on, and its slots.
    rest: dict[tuple[int, int], tuple[int, list[Slot]]] = {(len(wanted), len(said)): (0, [])}
    for at in range(len(wanted), -1, -1):
        for told in range(len(said), -1, -1):
            ways = []
            if at < len(wanted) and told < len(said):
                cost, slots = rest[at + 1, told + 1]
                ways.append((cost + (asked[wanted[at]] != said[told]), [Slot(wanted[at], said[told]), *slots]))
            if at < len(wanted):
                cost, slots = rest[at + 1, told]
                ways.append((cost + 1, [Slot(wanted[at], None), *slots]))
            if told < len(said):
                cost, slots = rest[at, told + 1]
                ways.append((cost + 1, [Slot(None, said[told]), *slots]))
            if ways:
                rest[at, told] = min(ways, key=itemgetter(0))
    return rest[0, 0][1]
