"""Distractors: for every masked frame, K other masked frames of the same clip, uniformly and with replacement.

Shapes: B batch, T frames, K distractors.
"""

from torch import Tensor

from wav2vec2.modeling.random_draws import Draws, Purpose, for_purpose, uniform


def sample_distractors(mask: Tensor, num_distractors: int, generator: Draws = None) -> Tensor:
    """Draw frame numbers (B, T, K) within each clip, from the masked frames other than the frame itself.

    Rows of frames that are not masked carry valid but meaningless numbers. Where a clip has a single masked frame
    there is no other: its rows point at itself, which the loss recognises as equal to the target.

    >>> import torch
    >>> mask = torch.tensor([[True, False, True, True]])
    >>> sorted(set(sample_distractors(mask, 64)[0, 2].tolist()))
    [0, 3]
    """
    batch, frames = mask.shape
    masked_first = (~mask).long().argsort(dim=1, stable=True)  # (B, T): the masked frames in order, then the others
    others = (mask.sum(dim=1) - 1).clamp(min=0)[:, None, None]  # (B, 1, 1): how many there are to choose from
    rank = mask.cumsum(dim=1)[:, :, None] - 1  # (B, T, 1): which masked frame this one is
    draws = for_purpose(generator, Purpose.DISTRACTORS)
    draw = uniform(batch, frames, num_distractors, device=mask.device, generator=draws)
    other = (draw * (others.float() * _BELOW_ONE)).long()  # uniform over the others, numbered without the frame itself
    other = other + (other >= rank.masked_fill(others == 0, frames))
    return masked_first.gather(1, other.flatten(1)).view_as(other)


#: Keeps a product with a number below 1 from being rounded up to a whole one.
_BELOW_ONE = 1 - 2**-23
