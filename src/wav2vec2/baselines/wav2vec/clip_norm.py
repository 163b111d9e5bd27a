"""The norm of wav2vec: each clip over all of its channels and frames together, whatever it is padded with.

Shapes: B batch, C channels, T frames, G groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision, in_full_precision


class ClipNorm(nn.GroupNorm):
    """A group norm, of one group unless told otherwise, that leaves padding out of mean and variance.

    torch's own counts every frame, so what a clip becomes would depend on what it is padded to. Without padding the
    two are the same function; with it, this gives each clip what it has alone, up to the order of adding up.
    """

    def __init__(self, channels: int, groups: int = 1, affine: bool = True) -> None:
        super().__init__(groups, channels, affine=affine)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T); `lengths` (B,) are the real frames of each clip, None if all are."""
        with in_full_precision(x):
            wide = full_precision(x)
            weight, bias = (None if one is None else full_precision(one) for one in (self.weight, self.bias))
            if lengths is None:
                return F.group_norm(wide, self.num_groups, weight, bias, self.eps).to(x.dtype)
            real = frames_within(lengths, x.shape[2])[:, None, None]  # (B, 1, 1, T)
            grouped = wide.unflatten(1, (self.num_groups, -1))  # (B, G, C / G, T)
            count = (lengths.clamp(min=1) * grouped.shape[2])[:, None, None, None]
            mean = grouped.masked_fill(~real, 0.0).sum((2, 3), keepdim=True) / count
            centred = grouped - mean
            variance = centred.masked_fill(~real, 0.0).square().sum((2, 3), keepdim=True) / count
            normal = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
            if weight is not None and bias is not None:
                normal = normal * weight[:, None] + bias[:, None]
            return normal.to(x.dtype)
