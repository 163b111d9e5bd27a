"""Log-probabilities made ready for the search: checked, pruned, and runs of blanks folded into one frame.

Shapes: B utterances, T frames, V tokens, C candidates a frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IMPOSSIBLE = float("-inf")


@dataclass
class PreparedFrames:
    """What the search reads of each frame: time first, so that a frame is one slice.

    Every frame is measured from its most probable token, so sums stay small and exact. Tokens that are too improbable
    are -inf; the blank never is made so. The columns of a frame are what can be done to a hypothesis: 0 nothing (blank
    or repetition), 1 end the word, 2.. the C candidates, last nothing again.
    """

    #: (T, B, V).
    log_probs: Tensor
    #: (T, B, 1).
    blank: Tensor
    #: (T, B, C + 3) of each column's token, -inf for nothing.
    column_log_probs: Tensor
    #: (T, B, C + 3) the token of each column, V where no token is added.
    tokens: Tensor
    #: (T, B, V) the column of each token; the last where it is no candidate.
    column: Tensor
    #: (T,) whether a word may end here in any utterance.
    delimiter: list[bool]
    #: (B,) float64: the log-probabilities of the most probable tokens, which were taken away, summed over all frames.
    offset: Tensor


def checked(log_probs: Tensor, lengths: Tensor | Sequence[int] | None, size: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T, V) in float32 and lengths (B,), or a ValueError that says what is wrong where."""
    if log_probs.ndim != 3 or log_probs.shape[2] != size:
        raise ValueError(
            f"log_probs: shape {tuple(log_probs.shape)}, but (utterances, frames, {size}) is needed: "
            f"the vocabulary has {size} tokens"
        )
    if not log_probs.is_floating_point():
        raise ValueError(f"log_probs: {log_probs.dtype} is not a floating-point type")
    batch, frames = log_probs.shape[:2]
    if lengths is None:
        lengths = torch.full((batch,), frames)
    lengths = torch.as_tensor(lengths, device=log_probs.device).long()
    if lengths.shape != (batch,) or ((lengths < 0) | (lengths > frames)).any():
        raise ValueError(f"lengths: need {batch} numbers of frames between 0 and {frames}, not {lengths.tolist()}")
    log_probs = log_probs.detach().float()
    inside = torch.arange(frames, device=log_probs.device) < lengths[:, None]
    mass = log_probs.logsumexp(-1)
    for wrong, what in (
        (mass.isnan() | (mass == torch.inf), "holds NaN or infinity"),
        (mass == IMPOSSIBLE, "gives every token the probability 0"),
        (mass > 0.05, "has probabilities that sum to more than 1: pass logits.log_softmax(-1), not logits"),
    ):
        where = (wrong & inside).nonzero()
        if len(where):
            utterance, frame = where[0].tolist()
            raise ValueError(f"log_probs: frame {frame} of utterance {utterance} {what} ({len(where)} such frames)")
    return log_probs, lengths


def prepare(
    log_probs: Tensor,
    lengths: Tensor,
    blank: int,
    delimiter: int | None,
    allowed: Tensor,
    candidates: int,
    threshold: float,
) -> PreparedFrames:
    """Frames for the search from checked log-probabilities (B, T, V).

    A token is out of the question in a frame if it is not `allowed` (V,), or if it is less probable than the best by
    more than `threshold` (natural log). Frames in which only the blank remains change nothing but the sum: a run of
    them is folded into one, exactly.
    """
    inside = torch.arange(log_probs.shape[1], device=log_probs.device) < lengths[:, None]  # (B, T)
    log_probs = log_probs.masked_fill(~allowed, IMPOSSIBLE)
    best = log_probs.amax(-1)
    best = torch.where(inside & best.isfinite(), best, 0.0)
    log_probs = log_probs - best[..., None]
    blanks = log_probs[..., blank].clone()
    log_probs = log_probs.masked_fill(log_probs < -threshold, IMPOSSIBLE)
    log_probs[..., blank] = blanks
    log_probs = _fold_blanks(log_probs, inside, blank)
    return _columns(log_probs.transpose(0, 1).contiguous(), best.double().sum(1), blank, delimiter, candidates)


def _fold_blanks(log_probs: Tensor, inside: Tensor, blank: int) -> Tensor:
    """Fold runs of frames (B, T, V) that hold nothing but the blank; what remains is padded with certain blanks."""
    batch, _, size = log_probs.shape
    others = log_probs.clone()
    others[..., blank] = IMPOSSIBLE
    only_blank = (others.amax(-1) == IMPOSSIBLE) & inside
    follows = torch.zeros_like(only_blank)
    follows[:, 1:] = only_blank[:, 1:] & only_blank[:, :-1]
    place = (inside & ~follows).cumsum(1) - 1  # (B, T) frame after folding
    kept = int(place.max()) + 1 if place.numel() else 0
    folded = torch.full((batch, kept + 1, size), IMPOSSIBLE, device=log_probs.device)
    folded[..., blank] = 0.0
    target = torch.where(inside & ~follows, place, kept)[..., None].expand_as(log_probs)
    folded.scatter_(1, target, log_probs)
    summed = torch.zeros(batch, kept + 1, device=log_probs.device)
    weights = torch.where(only_blank, log_probs[..., blank], 0.0)
    summed.scatter_add_(1, torch.where(only_blank, place, kept), weights)
    is_run = torch.zeros(batch, kept + 1, dtype=torch.bool, device=log_probs.device)
    is_run.scatter_(1, torch.where(only_blank, place, kept), True)
    folded[..., blank] = torch.where(is_run, summed, folded[..., blank])
    return folded[:, :kept]


def _columns(log_probs: Tensor, offset: Tensor, blank: int, delimiter: int | None, candidates: int) -> PreparedFrames:
    """Choose the candidates of each frame of log_probs (T, B, V), and lay the frames out for the search."""
    frames, batch, size = log_probs.shape
    letters = log_probs.clone()
    letters[..., blank] = IMPOSSIBLE
    if delimiter is not None:
        letters[..., delimiter] = IMPOSSIBLE
    possible = int((letters > IMPOSSIBLE).sum(-1).amax()) if letters.numel() else 0
    probable, chosen = letters.topk(min(candidates, max(possible, 1)), -1)  # (T, B, C)
    width = chosen.shape[-1] + 3
    tokens = torch.full((frames, batch, width), size, device=log_probs.device)
    tokens[..., 2:-1] = chosen
    of_columns = torch.full(tokens.shape, IMPOSSIBLE, device=log_probs.device)
    of_columns[..., 2:-1] = probable
    column = torch.full((frames, batch, size), width - 1, device=log_probs.device)
    column.scatter_(2, chosen, torch.arange(2, width - 1, device=log_probs.device).expand_as(chosen))
    column.masked_fill_(letters == IMPOSSIBLE, width - 1)
    ends = [False] * frames
    if delimiter is not None:
        tokens[..., 1] = delimiter
        column[..., delimiter] = 1
        of_columns[..., 1] = log_probs[..., delimiter]
        ends = (log_probs[..., delimiter] > IMPOSSIBLE).any(1).tolist()
    return PreparedFrames(log_probs, log_probs[..., blank, None].contiguous(), of_columns, tokens, column, ends, offset)
