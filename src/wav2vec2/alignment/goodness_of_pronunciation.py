"""Goodness of pronunciation without a segmentation: was each phone said as asked, and what was said instead?

Cao et al., "A Framework for Phoneme-Level Pronunciation Assessment Using CTC" (Interspeech 2024; arXiv 2507.16838): of
all ways in which an utterance may have been said that differ from what was asked in one place alone, how likely is the
one that was asked? Every way is a text, its likelihood is the sum over all paths that spell it, and different texts
share no path. So these are probabilities, whatever frames the model puts a phone into.

Shapes: B utterances, T frames, V tokens, U targets, K tokens that may be said instead.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.alignment.path_sums import PathSums

_IMPOSSIBLE = -float("inf")


class SpokenInstead(NamedTuple):
    """The log-probabilities of what was asked, and of all that differs from it in one place.

    Where an utterance has fewer targets than others of its batch, the rest of its rows means nothing.
    """

    #: (B,) all as asked.
    asked: Tensor
    #: (B, U, K) with another token in place of a target; -inf where it is the target itself.
    substituted: Tensor
    #: (B, U) without a target.
    omitted: Tensor
    #: (B, U + 1, K) with one token more, before each target and behind the last.
    inserted: Tensor
    #: (B, U, K) whether the token is the target.
    is_target: Tensor

    def goodness(self) -> Tensor:
        """The published score (B, U), 0 at best: the log of what was asked, as a share of that and of all that has
        another token, or none, in the target's place."""
        return F.logsigmoid(self.asked[:, None] - self._changed())

    def log_odds(self) -> Tensor:
        """How much more likely (B, U) each target was said than replaced or left out, in nats.

        Texts with one token more beside the target tell for it: it was said in them. Without those, whatever somebody
        puts in between would be held against its neighbours, which must take its frames.
        """
        before = self.inserted[:, :-1].logsumexp(-1)
        behind = self.inserted[:, 1:].masked_fill(self.is_target, _IMPOSSIBLE).logsumexp(-1)  # else twice the same text
        said = torch.stack([self.asked[:, None].expand_as(before), before, behind]).logsumexp(0)
        return said - self._changed()

    def _changed(self) -> Tensor:
        """(B, U) with any other token in place of the target, or none."""
        return torch.logaddexp(self.substituted.logsumexp(-1), self.omitted)


def spoken_instead(sums: PathSums, tokens: Tensor) -> SpokenInstead:
    """What may have been said, by the sums over paths; `tokens` (K,) are those that may stand in a target's place."""
    targets = sums.labels[:, 1:-1]
    (batch, count), device = targets.shape, targets.device
    tokens = tokens.to(device)
    places = torch.arange(count + 1, device=device).expand(batch, -1)
    first = torch.cat([places[:, :-1], places], 1)  # a place for each target, then one between any two
    last = torch.cat([places[:, 1:], places], 1)
    substituted, inserted = sums.replaced(first, last, tokens).split([count, count + 1], 1)
    is_target = targets[..., None] == tokens
    return SpokenInstead(
        asked=sums.likelihood(),
        substituted=substituted.masked_fill(is_target, _IMPOSSIBLE),
        omitted=sums.without(places[:, :-1], places[:, 1:]),
        inserted=inserted,
        is_target=is_target,
    )
