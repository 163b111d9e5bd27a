"""What was said where something was asked for: the asked text with what was replaced, left out and put in.

Goodness of pronunciation asks of one place at a time and takes all others to be as asked. Where they are not, it blames
the neighbours: a phone that was left out has to be somewhere, and takes the frames of the next. So the text is changed
where a change makes it likelier, one place and its neighbours at a time, until no change does, and every place is then
judged beside what was said around it.

Shapes: T frames, V tokens, U tokens of a text, K tokens that may be said.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def spoken_text(log_probs: Tensor, asked: Sequence[int], tokens: Sequence[int], blank: int) -> SpokenText:
    """What was said in log_probs (T, V), of which a text was asked. `tokens` are all that may be said, and those of the
    text are among them. It is computed where the log-probabilities are, in float64.

    >>> frames = torch.full((9, 4), 0.01).scatter_(1, torch.tensor([0, 1, 0, 0, 3, 0, 0, 0, 0])[:, None], 0.97).log()
    >>> [place.slot for place in spoken_text(frames, [1, 2, 1], [1, 2, 3], blank=0).places]
    [Slot(asked=0, token=1), Slot(asked=1, token=3), Slot(asked=2, token=None)]
    """
    heard = first = _Heard([Slot(place, token) for place, token in enumerate(asked)], log_probs, tokens, blank)
    for _ in range(_ROUNDS):
        changed = heard.likelier()
        if changed == heard.slots:
            break
        after = _Heard(changed, log_probs, tokens, blank)
        if not after.likelihood > heard.likelihood:
            break
        heard = after
    return SpokenText(tuple(heard.judged(asked)), tuple(first.found.goodness()[0].tolist()))


class _Heard:
    """A text that may have been said, and all that differ from it in one place."""

    def __init__(self, slots: list[Slot], log_probs: Tensor, tokens: Sequence[int], blank: int) -> None:
        self.slots, self.tokens = slots, tokens
        text = [slot.token for slot in slots if slot.token is not None]
        counts = torch.tensor([len(log_probs)]), torch.tensor([len(text)])
        sums = path_sums(log_probs[None], torch.tensor([text], dtype=torch.long), *counts, blank)
        found = spoken_instead(sums, torch.tensor(tokens))
        self.found = SpokenInstead(*(table.cpu() for table in found))
        self.likelihood = float(found.asked[0])

    def likelier(self) -> list[Slot]:
        """The slots with every change that makes the text likelier by itself, but for those beside a better one."""
        found, count = self.found, self.found.omitted.shape[1]
        best, token = found.substituted[0].max(-1)  # (U,)
        gains = torch.empty(2 * count + 1, dtype=best.dtype)  # between tokens, and at tokens
        gains[1::2] = torch.maximum(best, found.omitted[0])
        gains[::2], more = found.inserted[0].max(-1)
        chosen: dict[int, int | None] = {}
        for place in gains.argsort(descending=True, stable=True).tolist():
            if not gains[place] > self.likelihood:
                break
            if all(abs(place - other) >= _APART for other in chosen):
                at = place // 2
                said = self.tokens[int(more[at] if place % 2 == 0 else token[at])]
                chosen[place] = None if place % 2 and found.omitted[0, at] >= best[at] else said
        return _tidied(self._changed(chosen))

    def _changed(self, chosen: Mapping[int, int | None]) -> Iterator[Slot]:
        """The slots with what was chosen: 2 u + 1 is the place of the token u, 2 u the one before it."""
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

    def judged(self, asked: Sequence[int]) -> Iterator[Judged]:
        """Every place, by the texts that differ from this one in it alone."""
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
            yield Judged(slot, sure, self._candidates(scores))
            at += slot.token is not None

    def _candidates(self, scores: Tensor) -> tuple[Candidate, ...]:
        """The likeliest of (K + 1,) log-likelihoods, of which the last is that nothing was said."""
        shares, order = scores.softmax(0).sort(descending=True, stable=True)
        rows = zip(shares[:_CANDIDATES].tolist(), order[:_CANDIDATES].tolist(), strict=True)
        return tuple(Candidate(self.tokens[at] if at < len(self.tokens) else None, share) for share, at in rows)


def _tidied(slots: Iterable[Slot]) -> list[Slot]:
    """Slots in which what was put in beside a token that was left out was said in its stead, and nothing else is lost.

    >>> _tidied([Slot(None, 4), Slot(0, None), Slot(None, None), Slot(1, 2), Slot(2, None), Slot(None, 5)])
    [Slot(asked=0, token=4), Slot(asked=1, token=2), Slot(asked=2, token=5)]
    """
    kept: list[Slot] = []
    for slot in slots:
        if slot == Slot(None, None):  # what was put in, and taken out again
            continue
        before = kept[-1] if kept else Slot(None, None)
        if before.asked is not None and before.token is None and slot.asked is None:
            kept[-1] = Slot(before.asked, slot.token)
        elif before.asked is None and before.token is not None and slot.token is None:
            kept[-1] = Slot(slot.asked, before.token)
        else:
            kept.append(slot)
    return kept
