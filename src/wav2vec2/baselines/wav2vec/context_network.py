"""The context network (fairseq: aggregator): what a frame is after those before it, by convolutions that look back.

Shapes: B batch, C channels, T frames.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from wav2vec2.baselines.wav2vec.clip_norm import ClipNorm
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.modeling.convolution import Convolution
from wav2vec2.modeling.dropout import Dropout


class ContextLayer(nn.Module):
    """A convolution over a frame and those before it, norm, activation, and where asked for its own input on top."""

    def __init__(self, config: Wav2VecConfig, index: int) -> None:
        super().__init__()
        channels, width = (config.context_dim[index - 1] if index else config.conv_dim[-1]), config.context_dim[index]
        self.before = config.context_kernel[index] - 1
        self.padding = "constant" if config.context_zero_padding else "replicate"
        self.conv = Convolution(channels, width, self.before + 1, bias=config.context_bias)
        self.dropout = Dropout(config.dropout)
        self.norm = ClipNorm(width, affine=config.norm_affine)
        self.activation = ACT2FN[config.activation]
        self.adds_input = config.context_skip_connections
        self.scale = math.sqrt(config.residual_scale)
        widens = self.adds_input and channels != width
        self.residual = Convolution(channels, width, 1, bias=False) if widens else None

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, C_in, T) -> (B, C, T)"""
        behind = self.dropout(self.conv(F.pad(x, (self.before, 0), self.padding)))
        output: Tensor = self.activation(self.norm(behind, lengths))
        if self.adds_input:
            output = (output + (x if self.residual is None else self.residual(x))) * self.scale
        return output


class ContextNetwork(nn.Module):
    """Features z (B, C, T) -> context c (B, C, T), one for each."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ContextLayer(config, index) for index in range(len(config.context_dim)))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`lengths` (B,) are the real frames of each clip; None if all are."""
        for layer in self.conv_layers:
            x = layer(x, lengths)
        return x
