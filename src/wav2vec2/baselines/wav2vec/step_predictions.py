"""The objective: from what was heard so far, tell the frames that come next from others of the same clip.

Context c_t predicts the frames t + o, ..., t + o + K - 1, each step k by a linear map h_k of its own (paper,
section 2.2). With the features z of the true frame and of N distractors, which are other frames of the clip, and the
sigmoid s, every pair of context and step costs

    -log s(z_true . h_k(c_t))  -  w * sum over the distractors of log s(-z . h_k(c_t))        w = 1, balanced: 1 / N

The first step lies o frames ahead, so far that the frames have no sample in common. All predictions that are aimed at
a frame u, made at u - o, ..., u - o - K + 1, are compared with the same candidates, u itself and its distractors: for
each u that is one product of a K x C and a C x (N + 1) matrix.

Shapes: B batch, T frames, C channels, K steps, N distractors.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.precision import full_precision


class StepLosses(NamedTuple):
    """How well the frames to come were told from distractors: `loss` (), a sum over predictions, how many predictions
    (`made`) there were, and for how many of them the true frame beats every distractor (`right`)."""

    loss: Tensor
    made: Tensor
    right: Tensor


def count_predictions(lengths: Tensor, config: Wav2VecConfig) -> Tensor:
    """How many predictions there are in clips of so many frames (B,): ().

    >>> import torch
    >>> count_predictions(torch.tensor([2, 5]), Wav2VecConfig(num_prediction_steps=2, prediction_offset=2))
    tensor(5)
    """
    steps = torch.arange(config.num_prediction_steps, device=lengths.device) + config.first_step
    return (lengths[:, None] - steps).clamp(min=0).sum()


class StepProjection(nn.Module):
    """The linear maps of all steps, which share one bias. The weight is laid out as fairseq saves it: a transposed
    convolution over an axis of steps, (C_in, C, 1, K)."""

    def __init__(self, width: int, features: int, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, features, 1, steps))
        self.bias = nn.Parameter(torch.empty(features))

    @property
    def bound(self) -> float:
        """Where the uniform numbers that it starts from end: as torch begins a transposed convolution."""
        return 1 / math.sqrt(self.weight[0].numel())

    def forward(self, context: Tensor) -> Tensor:
        """(B, T, C_in) -> (B, T, K, C)"""
        width, features, _, steps = self.weight.shape
        maps = self.weight.permute(3, 1, 2, 0).reshape(steps * features, width)
        return F.linear(context, maps).unflatten(2, (steps, features)) + self.bias


class StepPredictions(nn.Module):
    """Predictions of the frames to come, and what telling them from distractors costs."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        self.first_step, self.steps = config.first_step, config.num_prediction_steps
        self.negative_weight = 1 / config.num_negatives if config.balanced_classes else 1.0
        self.project_to_steps = StepProjection(config.context_dim[-1], config.conv_dim[-1], self.steps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, context: Tensor, features: Tensor, lengths: Tensor, distractors: Tensor, codes: Tensor | None = None
    ) -> StepLosses:
        """Context (B, T, C_in) and features (B, T, C) of clips with `lengths` (B,) real frames; `distractors` (B, T, N)
        are frame numbers within the clip. Where features are entries of codebooks, `codes` (B, T, G) say which: a
        distractor with the same ones is not beaten, which rounding would decide otherwise."""
        aimed = self.aimed(self.dropout(self.project_to_steps(context)))  # (B, T, K, C)
        logits = full_precision(aimed @ self.candidates(features, distractors).transpose(2, 3))  # (B, T, K, N + 1)
        true, others = logits[..., 0], logits[..., 1:]
        real = self.are_made(lengths, context.shape[1])
        costs = F.softplus(-true) + self.negative_weight * F.softplus(others).sum(3)
        right = (true > others.amax(3)) & real
        if codes is not None:
            drawn = of_frames(codes, distractors)  # (B, T, N, G)
            right = right & ~(drawn == codes[:, :, None]).all(3).any(2)[:, :, None]
        return StepLosses(costs.masked_fill(~real, 0.0).sum(), real.sum(), right.sum())

    def aimed(self, predictions: Tensor) -> Tensor:
        """Predictions (B, T, K, C) in the rows of the frames that they are of, instead of those that they are made at;
        zeros where there is none."""
        frames = predictions.shape[1]
        shifts = [min(self.first_step + step, frames) for step in range(self.steps)]
        moved = [F.pad(predictions[:, : frames - shift, step], (0, 0, shift, 0)) for step, shift in enumerate(shifts)]
        return torch.stack(moved, dim=2)

    def candidates(self, features: Tensor, distractors: Tensor) -> Tensor:
        """Each frame's own features and those of its distractors: (B, T, N + 1, C)."""
        return torch.cat([features[:, :, None], of_frames(features, distractors)], dim=2)

    def are_made(self, lengths: Tensor, frames: int) -> Tensor:
        """Which predictions there are, in the rows of the frames that they are of: (B, T, K)."""
        frame = torch.arange(frames, device=lengths.device)
        steps = torch.arange(self.steps, device=lengths.device) + self.first_step
        return (frame < lengths[:, None])[:, :, None] & (frame[:, None] >= steps)


def of_frames(values: Tensor, frames: Tensor) -> Tensor:
    """Of each clip's values (B, T, C) those of the frames with these numbers (B, T, N): (B, T, N, C)."""
    first = torch.arange(len(values), device=values.device)[:, None, None] * values.shape[1]
    return values.flatten(0, 1)[frames + first]
