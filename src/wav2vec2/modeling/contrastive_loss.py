"""The contrastive and the diversity loss, as the paper states them (section 3.2).

For a masked frame t with prediction c_t, target q_t and distractors Q_t, and sim the cosine similarity:

    L_m = -log( exp(sim(c_t, q_t) / kappa) / sum over q in {q_t} + Q_t of exp(sim(c_t, q) / kappa) )
    L_d = (G V - perplexity) / (G V)

All similarities of a clip are one product of its normalised predictions and targets, of which each row picks its K + 1
columns; the (K + 1) x B x T x D tensor of distractors that others build never exists.

Shapes: B batch, T frames, K distractors, D size of the comparison space.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.modeling.precision import full_precision, in_full_precision


class Contrast(NamedTuple):
    """How well the targets were told from their distractors."""

    loss: Tensor  # (): summed over masked frames
    accuracy: Tensor  # (): share of masked frames whose target beats every distractor
    positive_negative_share: Tensor  # (): share of distractors that are the target itself


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
    predictions: Tensor,
    targets: Tensor,
    codes: Tensor,
    distractors: Tensor,
    mask: Tensor,
    temperature: float,
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
