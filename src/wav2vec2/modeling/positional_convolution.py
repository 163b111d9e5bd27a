"""Relative positions from a wide grouped convolution over time (paper, section 2, after Mohamed et al. 2019).

Its weight is v, scaled so that the norm of every tap over all channels is g ("weight norm over dimension 2"). The
parameters carry the names that torch's parametrisation gives them, so checkpoints fit, but they belong to plain
modules: initialisation reaches them, they can be pickled, and sharded training gathers them where they are used.

Shapes: B batch, T frames, C channels, P kernel size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.blocked_convolution import blocked_convolution
from wav2vec2.modeling.convolution import convolve
from wav2vec2.modeling.precision import on_gpu, product_dtype


class NormalisedWeight(nn.Module):
    """A weight from its norm g, which is `original0` (1, 1, P), and its direction v, `original1` (C, C / groups, P)."""

    def __init__(self, channels: int, groups: int, kernel: int) -> None:
        super().__init__()
        self.original0 = nn.Parameter(torch.empty(1, 1, kernel))
        self.original1 = nn.Parameter(torch.empty(channels, channels // groups, kernel))

    def forward(self) -> Tensor:
        """The weight g v / |v|, (C, C / groups, P). torch's own kernels for it are fast on a CPU and slow on a GPU."""
        if not on_gpu(self.original1):
            return torch._weight_norm(self.original1, self.original0, 2)
        return self.original1 * (self.original0 / torch.linalg.vector_norm(self.original1, dim=(0, 1), keepdim=True))


def tap_norms(weight: Tensor) -> Tensor:
    """The norm |v| of every tap of the kernel: (C, C / groups, P) -> (1, 1, P)."""
    return torch.linalg.vector_norm(weight.double(), dim=(0, 1), keepdim=True).to(weight.dtype)


class WeightNormedConvolution(nn.Module):
    """A grouped convolution over time, with zeros before and behind, so that it keeps the number of frames."""

    def __init__(self, channels: int, groups: int, kernel: int) -> None:
        super().__init__()
        self.groups = groups
        self.left = kernel // 2
        self.right = kernel - 1 - self.left
        weight = NormalisedWeight(channels, groups, kernel)
        self.parametrizations = nn.ModuleDict({"weight": weight})
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor, heard: int = 0) -> Tensor:
        """(B, T, C) -> (B, T - heard, C): the first `heard` frames, at most `left`, are what came before the others."""
        weight, left = self.parametrizations["weight"](), self.left - heard
        if on_gpu(x):
            dtype = product_dtype(x)
            output = blocked_convolution(x.to(dtype), weight.to(dtype), self.groups, left) + self.bias.to(dtype)
            return output[:, : x.shape[1] - heard]
        padded = F.pad(x.transpose(1, 2), (left, self.right))
        return convolve(padded, weight, self.bias, groups=self.groups).transpose(1, 2)


class Wav2Vec2PositionalConvEmbedding(nn.Module):
    """What is added to the features so that the Transformer knows their order."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.conv = WeightNormedConvolution(
            config.hidden_size, config.num_conv_pos_embedding_groups, config.num_conv_pos_embeddings
        )
        self.activation = ACT2FN[config.feat_extract_activation]

    def forward(self, hidden_states: Tensor, heard: int = 0) -> Tensor:
        """(B, T, C) -> (B, T - heard, C), for all frames but the first `heard`, which came before them."""
        positions: Tensor = self.activation(self.conv(hidden_states, heard))
        return positions
