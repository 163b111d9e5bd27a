"""The CTC loss, counted honestly: what cannot be aligned is left out and named.

Shapes: B utterances, T frames, V tokens, U labels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.configuration.frame_arithmetic import frames_needed
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision, in_full_precision


class CTCLoss(NamedTuple):
    """The loss, and which utterances (B,) were left out of it because their text does not fit into their frames."""

    loss: Tensor
    dropped: Tensor


def compact(labels: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Labels (B, U) moved to the front in order, and how many there are (B,)."""
    is_label = (labels >= 0) & (labels != blank)
    order = (~is_label).long().argsort(dim=1, stable=True)
    return labels.gather(1, order).clamp(min=0), is_label.sum(1)


def ctc_loss(
    logits: Tensor,
    labels: Tensor,
    frame_lengths: Tensor,
    blank: int,
    reduction: str = "sum",
    zero_infinity: bool = False,
    drop_infeasible: bool = True,
    num_items_in_batch: Tensor | int | None = None,
) -> CTCLoss:
    """The loss of logits (B, T, V) for labels (B, U), padded with -100 or with the blank.

    With `num_items_in_batch`, the labels of the whole update over all its parts and processes, the loss is the sum
    divided by that, so parts add up to the loss of the whole. Otherwise `reduction` decides: "sum", "none", which
    leaves one loss for each (B,), or "mean" over all utterances of the loss per label, as torch's, in which one that is
    left out counts as 0. Non-finite logits give a non-finite loss.
    """
    targets, target_lengths = compact(labels, blank)
    infeasible = frame_lengths < frames_needed(targets, frames_within(target_lengths, targets.shape[1]))
    if logits.shape[1] == 0:  # nothing but clips too short for a frame
        return CTCLoss(full_precision(logits).sum(), infeasible)
    if not drop_infeasible:
        infeasible = torch.zeros_like(infeasible)
    left_out = infeasible | (frame_lengths == 0)
    with in_full_precision(logits), torch.backends.cudnn.flags(enabled=False):
        losses = F.ctc_loss(
            full_precision(logits).log_softmax(-1).transpose(0, 1),
            targets,
            frame_lengths.clamp(min=1),
            target_lengths.masked_fill(left_out, 0),
            blank=blank,
            reduction="none",
            zero_infinity=zero_infinity,
        )
    losses = losses * ~left_out  # a product, not a choice: logits that are no numbers show even here
    if num_items_in_batch is not None:
        loss = losses.sum() / num_items_in_batch
    elif reduction == "sum":
        loss = losses.sum()
    elif reduction == "none":
        loss = losses
    else:
        loss = (losses / target_lengths.clamp(min=1)).mean()
    return CTCLoss(loss, infeasible)
