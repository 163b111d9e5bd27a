"""What a model refuses, or warns of, before it computes: shapes, and values that live in tensors.

Looking at a value makes the host wait for an accelerator, so values are checked where they are.

Shapes: B batch, S samples, T frames, K distractors, U labels.
"""

import logging

import torch
from torch import Tensor

logger = logging.getLogger("wav2vec2")
_told: set[str] = set()


def check_waveforms(input_values: Tensor, attention_mask: Tensor | None) -> None:
    """Refuse what has not the shape of a batch of waveforms."""
    if input_values.dim() != 2:
        raise ValueError(
            f"input_values has shape {tuple(input_values.shape)}: must be (batch, samples), one channel per clip"
        )
    if attention_mask is not None and attention_mask.shape != input_values.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}: must be that of input_values, "
            f"{tuple(input_values.shape)}, one value per sample"
        )


def check_frame_mask(mask: Tensor, batch: int, num_frames: int) -> None:
    """Refuse a mask that is not one value per frame."""
    if tuple(mask.shape) != (batch, num_frames):
        raise ValueError(
            f"mask_time_indices has shape {tuple(mask.shape)}: must be {(batch, num_frames)}, (batch, frames)"
        )


def check_distractors(given: Tensor, mask: Tensor) -> Tensor:
    """Distractors (B, T, K) that are numbered over the whole batch, as frame numbers within each clip; those of another
    clip are refused."""
    batch, frames = mask.shape
    if given.dim() != 3 or tuple(given.shape[:2]) != (batch, frames):
        raise ValueError(
            f"sampled_negative_indices has shape {tuple(given.shape)}: must be ({batch}, {frames}, distractors)"
        )
    first = torch.arange(batch, device=mask.device)[:, None, None] * frames
    within = given.long() - first
    require(
        ((within >= 0) & (within < frames)).all(),
        "sampled_negative_indices: distractors must be frames of the clip itself, numbered over the whole batch "
        "(clip * frames + frame)",
    )
    return within


def check_labels(labels: Tensor, vocab_size: int, blank: int, clips: int) -> Tensor:
    """Refuse labels (B, U) outside the vocabulary, or of another number of clips. Return how many labels are the blank
    without being padding at the end: CTC has no such label, so the loss leaves them out, and if a letter has the
    blank's id, that letter is lost."""
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


def require(condition: Tensor, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` (a scalar) is true.

    On an accelerator, or inside a compiled graph, the check runs on the device and stops the program with the message
    when the device gets there; the host does not wait for it.
    """
    if can_be_looked_at(condition):
        if not bool(condition):
            raise ValueError(message)
    elif condition.device.type != "meta" and not is_exported():
        torch._assert_async(condition, message)


def warn_once_if(condition: Tensor, message: str) -> None:
    """Log `message` the first time that `condition` (a scalar) is true, where looking at it costs nothing: on the CPU,
    not in a graph. Elsewhere what is warned of must be counted, so that it can be found."""
    if can_be_looked_at(condition) and message not in _told and bool(condition):
        _told.add(message)
        logger.warning(message)


def can_be_looked_at(tensor: Tensor) -> bool:
    """Whether the host can read a tensor without waiting, and may branch on it."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def is_exported() -> bool:
    """Whether this runs to be exported. torch 2.11's own function says so of every graph that is compiled."""
    return bool(torch.compiler._is_exporting_flag)
