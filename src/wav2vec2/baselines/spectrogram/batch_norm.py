"""Batch norm that sees no padding.

In training a channel is normalised by its moments over all real frames of a batch, so that there, unlike everywhere
else in this package, a clip's output depends on the clips beside it, and an update on the parts it is cut into. In use
the moments are those that training has kept, and a clip gives the same alone and in a batch. That is how these networks
are published; `run.ema` averages weights, not moments.

Shapes: B batch, C channels, T frames, M bands.
"""

import torch
from torch import Tensor, nn

from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision


class FrameBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the first `lengths` (B,) frames of each clip; where these are None, it is just that."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, C, T, M) -> the same shape."""
        if lengths is None or not self.training:
            return super().forward(x)
        real = frames_within(lengths, x.shape[2])[:, None, :, None]
        count = real.sum() * x.shape[3]
        wide = full_precision(x)
        mean = wide.masked_fill(~real, 0.0).sum((0, 2, 3)) / count.clamp(min=1)
        centred = wide - mean[:, None, None]
        variance = centred.masked_fill(~real, 0.0).square().sum((0, 2, 3)) / count.clamp(min=1)
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the kept moments towards these, of so many numbers; of none there is nothing to remember."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        share = float(self.momentum or 0.0) * (count > 0)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (unbiased - self.running_var)
        self.num_batches_tracked += count > 0
