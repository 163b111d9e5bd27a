"""The CTC loss, counted honestly: what cannot be aligned is left out and named, what is wrong is refused.

Shapes: B utterances, T frames, V tokens, U labels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.configuration.frame_arithmetic import frames_needed
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision, in_full_precision
from wav2vec2.modeling.requirements_on_tensors import require, warn_once_if


class CTCLoss(NamedTuple):
    """The loss, and the utterances (B,) that have no part in it."""

    loss: Tensor
    dropped: Tensor


def check_labels(labels: Tensor, vocab_size: int, blank: int, clips: int) -> Tensor:
    """Refuse labels (B, U) outside the vocabulary, or of another number of clips. How many are the blank, other than as
    padding at the end: CTC has no such label, so the loss leaves them out, and if a letter has the blank's id, that
    letter is lost."""
    if labels.dim() != 2 or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}: must be integers, (batch, labels)"
        )
    if len(labels) != clips:
        raise ValueError(f"labels are of {len(labels)} clips, input_values of {clips}")
    require(
        ((labels >= -100) & (labels < vocab_size) & ((labels >= 0) | (labels == -100))).all(),
        f"labels: must be below vocab_size={vocab_size}, or -100 for padding",
    )
    is_label = (labels >= 0) & (labels != blank)
    followed = is_label.flip(1).cumsum(1).flip(1) > 0  # a label comes at or after this place
    left_out = ((labels == blank) & followed).sum()
    warn_once_if(
        left_out > 0,
        f"labels: the blank (pad_token_id={blank}) stands between labels. CTC has no such label, so it is left out: if "
        f"{blank} is a letter of your vocabulary, pad_token_id is wrong, and the letter is lost from every text. "
        "outputs.blank_labels counts them.",
    )
    return left_out


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
