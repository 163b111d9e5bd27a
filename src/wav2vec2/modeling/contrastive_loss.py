"""The contrastive and the diversity loss, as the paper states them (section 3.2), and the distractors of the first.

For a masked frame t with prediction c_t, target q_t and distractors Q_t, and sim the cosine similarity:

    L_m = -log( exp(sim(c_t, q_t) / kappa) / sum over q in {q_t} + Q_t of exp(sim(c_t, q) / kappa) )
    L_d = (G V - perplexity) / (G V)

Distractors are, for every masked frame, K other masked frames of the same clip, uniformly and with replacement. All
similarities of a clip are one product of its normalised predictions and targets, of which each row picks its K + 1
columns; the (K + 1) x B x T x D tensor of distractors that others build never exists.

Shapes: B batch, T frames, K distractors, D size of the comparison space, G groups, V entries per group.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.modeling.precision import full_precision, in_full_precision
from wav2vec2.modeling.random_draws import Draws, Purpose, for_purpose, uniform

#: Keeps a product with a number below 1 from being rounded up to a whole one.
_BELOW_ONE = 1 - 2**-23


class WholeUpdate(NamedTuple):
    """What one part of an update must know of all parts together, so that their losses add up to those of the whole.

    An update is one optimizer step over a batch that may be too large for one forward pass, or lie on several
    processes. The contrastive loss is a sum over masked frames, so its parts add up by themselves. The diversity loss
    and the feature penalty look at the batch as one, and need what is counted here before the first part's forward
    pass: the masked frames (), the real frames (), and the mean choice probabilities (G, V) over all masked frames;
    where `usage` is None, each part takes its own.
    """

    num_masked: Tensor
    num_frames: Tensor
    usage: Tensor | None = None


class Contrast(NamedTuple):
    """How well the targets were told from their distractors: the `loss` () summed over masked frames, the share of
    masked frames whose target beats every distractor (`accuracy`), and the share of distractors that are the target
    itself."""

    loss: Tensor
    accuracy: Tensor
    positive_negative_share: Tensor


def sample_distractors(mask: Tensor, num_distractors: int, draws: Draws = None) -> Tensor:
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
    drawn = uniform(batch, frames, num_distractors, device=mask.device, draws=for_purpose(draws, Purpose.DISTRACTORS))
    other = (drawn * (others.float() * _BELOW_ONE)).long()  # uniform over the others, numbered without the frame itself
    other = other + (other >= rank.masked_fill(others == 0, frames))
    return masked_first.gather(1, other.flatten(1)).view_as(other)


def contrastive_logits(
    predictions: Tensor, targets: Tensor, distractors: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Similarities / temperature: of each frame with its own target (B, T), and with its distractors (B, T, K)."""
    with in_full_precision(predictions):
        predictions = F.normalize(full_precision(predictions), dim=-1, eps=1e-8)
        targets = F.normalize(full_precision(targets), dim=-1, eps=1e-8)
        similarities = predictions @ targets.transpose(1, 2) / temperature  # (B, T, T)
    return similarities.diagonal(dim1=1, dim2=2), similarities.gather(2, distractors)


def contrast(
    predictions: Tensor, targets: Tensor, codes: Tensor, distractors: Tensor, mask: Tensor, temperature: float
) -> Contrast:
    """Compare predictions with targets (both (B, T, D)) on the frames in `mask` (B, T).

    `distractors` (B, T, K) are frame numbers within the clip. A distractor with the target's own code, which `codes`
    (B, T) tells, takes no part.
    """
    positive, negatives = contrastive_logits(predictions, targets, distractors, temperature)
    drawn = codes.gather(1, distractors.flatten(1)).view_as(distractors)
    same = drawn == codes[:, :, None]  # (B, T, K)
    negatives = negatives.masked_fill(same, float("-inf"))
    total = torch.logsumexp(torch.cat([positive[:, :, None], negatives], dim=2), dim=2)
    loss = torch.where(mask, total - positive, 0.0).sum()
    with torch.no_grad():
        frames = mask.sum().clamp(min=1)
        beaten = (positive > negatives.amax(dim=2)) & ~same.all(dim=2)
        accuracy = (beaten & mask).sum() / frames
        share = (same & mask[:, :, None]).sum() / (frames * same.shape[2])
    return Contrast(loss, accuracy, share)


def diversity_loss(soft_perplexity: Tensor, num_codes: int) -> Tensor:
    """(G V - perplexity) / (G V): 0 when all codes are used alike, near 1 when one is."""
    return (num_codes - soft_perplexity) / num_codes
