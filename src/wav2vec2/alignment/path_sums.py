"""How likely is a text, and each text that is like it but for one place? All paths are summed, in the log domain.

The sum over all paths that spell some targets is what CTC trains (Graves et al. 2006, section 4.1). Here it is asked of
many texts at once: the targets with some of them left out, or replaced by a single other token, at any place. None of
these needs a pass of its own. With

    ahead(t, s)   how likely it is to be in state s after t frames, over all ways to get there, and
    behind(t, s)  how likely the rest is from frame t on, which is spent in state s,

a text that has its first n targets and those from m on in common with the targets is a way through `ahead` up to what
follows target n - 1, and through `behind` from target m: neither depends on what stands in between. So all that is left
is to go over the frames in which the one changes to the other, or in which the one token in between is said.

The states of U targets are U + 2 tokens and the blanks between them: a start that no frame is spent in, the targets,
and an end that no frame is spent in. With those two nothing has to be said of first and last targets.

Shapes: B utterances, T frames, V tokens, U targets, P = 2 U + 3 states, R places (n, m), K tokens to put there.
"""

from typing import NamedTuple

import torch
from torch import Tensor

#: What is no token, at the two ends: different from each other and from all tokens, so that paths may step there.
_START, _END, _NOTHING = -1, -2, -3

_IMPOSSIBLE = -float("inf")


class PathSums(NamedTuple):
    """The sums for a batch of utterances. Even states are start, targets and end; odd ones the blanks behind them."""

    #: (B, T, V) in float64.
    log_probs: Tensor
    #: (B, U + 2) the targets with start and end around them.
    labels: Tensor
    #: (T + 1, B, P) after so many frames.
    ahead: Tensor
    #: (T + 1, B, P) from this frame on.
    behind: Tensor

    def likelihood(self) -> Tensor:
        """The log-probability (B,) that the targets are said, whenever each of them is."""
        nowhere = self.labels.new_zeros(len(self.labels), 1)
        return self.without(nowhere, nowhere)[:, 0]

    def without(self, first: Tensor, last: Tensor) -> Tensor:
        """The log-probability (B, R) of the targets without those from `first` (B, R) to before `last` (B, R)."""
        after_label, after_blank = self._before(first)  # (T + 1, B, R)
        next_label = self.behind.gather(2, (2 * last + 2).expand(len(self.behind), -1, -1))
        touching = self.labels.gather(1, first) != self.labels.gather(1, last + 1)  # else a blank is between them
        entered = torch.logaddexp(after_blank, after_label.where(touching, _IMPOSSIBLE))
        return (entered + next_label).logsumexp(0)

    def replaced(self, first: Tensor, last: Tensor, tokens: Tensor) -> Tensor:
        """The log-probability (B, R, K) of the targets with each one of `tokens` (K,) in place of those from `first` to
        before `last`; where there are none between the two, the token is one more."""
        after_label, after_blank = self._before(first)
        next_label = self.behind.gather(2, (2 * last + 2).expand(len(self.behind), -1, -1))
        next_blank = self.behind.gather(2, (2 * last + 1).expand(len(self.behind), -1, -1))
        repeats_before = self.labels.gather(1, first)[..., None] == tokens  # (B, R, K): only a blank lets them follow
        repeats_after = self.labels.gather(1, last + 1)[..., None] == tokens
        entering = torch.logaddexp(after_blank, after_label)
        leaving = torch.logaddexp(next_blank, next_label)
        emissions = self.log_probs[:, :, tokens]  # (B, T, K)
        saying = total = emissions.new_full(repeats_before.shape, _IMPOSSIBLE)
        for frame in range(emissions.shape[1]):
            begun = torch.where(repeats_before, after_blank[frame, ..., None], entering[frame, ..., None])
            saying = torch.logaddexp(saying, begun) + emissions[:, frame, None]
            ended = torch.where(repeats_after, next_blank[frame + 1, ..., None], leaving[frame + 1, ..., None])
            total = torch.logaddexp(total, saying + ended)
        return total

    def _before(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """How likely the targets before `first` are (T + 1, B, R): the last of them being said, and a blank behind."""
        states = (2 * first).expand(len(self.ahead), -1, -1)
        return self.ahead.gather(2, states), self.ahead.gather(2, states + 1)


def path_sums(log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int) -> PathSums:
    """The sums for log_probs (B, T, V) and targets (B, U), of which `lengths` and `target_lengths` (B,) are real.

    They are made where log_probs are, in float64; four tables of (T, B, 2 U + 3) stand at a time.
    """
    log_probs, targets = log_probs.detach().double(), targets.to(log_probs.device)
    (batch, frames, _), device = log_probs.shape, log_probs.device
    lengths, target_lengths = lengths.to(device), target_lengths.to(device)
    labels = torch.nn.functional.pad(targets, (1, 1), value=_NOTHING)
    position = torch.arange(labels.shape[1], device=device)
    labels = labels.masked_fill(position > target_lengths[:, None], _NOTHING)
    labels[:, 0] = _START
    labels.scatter_(1, target_lengths[:, None] + 1, _END)
    states = 2 * labels.shape[1] - 1
    said = torch.full((batch, states), blank, device=device)
    said[:, ::2] = labels.clamp(min=0)
    silent = torch.arange(states, device=device) > 2 * target_lengths[:, None] + 1  # the end, and what pads
    silent[:, 0] = True
    real = torch.arange(frames, device=device) < lengths[:, None]  # (B, T)
    emissions = log_probs.gather(2, said[:, None].expand(-1, frames, -1))  # (B, T, P)
    emissions = emissions.masked_fill(silent[:, None] | ~real[..., None], _IMPOSSIBLE).transpose(0, 1)
    skips = torch.zeros(batch, states, dtype=torch.bool, device=device)  # from two states before
    skips[:, 2::2] = labels[:, 1:] != labels[:, :-1]
    barrier = torch.zeros(batch, states, dtype=log_probs.dtype, device=device).masked_fill(~skips, _IMPOSSIBLE)
    end = labels.new_zeros(labels.shape[0], states).scatter_(1, 2 * target_lengths[:, None] + 2, 1).bool()
    return PathSums(log_probs, labels, _ahead(emissions, barrier), _behind(emissions, barrier, end, lengths))


def _ahead(emissions: Tensor, barrier: Tensor) -> Tensor:
    """From the start through all frames: (T + 1, B, P)."""
    frames, batch, states = emissions.shape
    table = emissions.new_full((frames + 1, batch, states + 2), _IMPOSSIBLE)  # two states before the first
    table[0, :, 2] = 0.0
    for frame, emission in enumerate(emissions):
        stay, step, skip = table[frame, :, 2:], table[frame, :, 1:-1], table[frame, :, :-2] + barrier
        table[frame + 1, :, 2:] = torch.logaddexp(torch.logaddexp(stay, step), skip) + emission
    return table[:, :, 2:]


def _behind(emissions: Tensor, barrier: Tensor, end: Tensor, lengths: Tensor) -> Tensor:
    """From the end, which is reached when the frames of an utterance are over, back through all: (T + 1, B, P)."""
    frames, batch, states = emissions.shape
    table = emissions.new_full((frames + 1, batch, states + 2), _IMPOSSIBLE)  # two states behind the last
    onward = torch.nn.functional.pad(barrier[:, 2:], (0, 2), value=_IMPOSSIBLE)
    for frame in reversed(range(frames + 1)):
        now = table[frame, :, :-2]
        if frame < frames:
            stay, step, skip = table[frame + 1, :, :-2], table[frame + 1, :, 1:-1], table[frame + 1, :, 2:] + onward
            now[:] = torch.logaddexp(torch.logaddexp(stay, step), skip) + emissions[frame]
        now.masked_fill_(end & (lengths == frame)[:, None], 0.0)
    return table[:, :, :-2]
