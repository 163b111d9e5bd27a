"""From the waveform to frames: strided convolutions.

Shapes: B batch, S samples, C channels, T frames (at the layer in question).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.convolution import ChannelNorm, Convolution, FirstConvolution, product_of_factors
from wav2vec2.modeling.dropout import Dropout


def frames_within(lengths: Tensor, frames: int) -> Tensor:
    """Mark the first `lengths` (B,) of `frames` positions: (B, T)."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class ConvolutionLayer(GradientCheckpointingLayer):
    """A convolution, its norm if it has one, and the activation."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__()
        channels = config.conv_dim[index]
        self.norm = config.feat_extract_norm if config.feat_extract_norm == "layer" or index == 0 else "none"
        self.ignores_padding = config.padding_invariant_norm
        self.conv: Any = (FirstConvolution if index == 0 else Convolution)(
            config.conv_dim[index - 1] if index > 0 else 1,
            channels,
            kernel_size=config.conv_kernel[index],
            stride=config.conv_stride[index],
            bias=config.conv_bias,
        )
        if self.norm != "none":
            self.layer_norm = nn.LayerNorm(channels) if self.norm == "layer" else ChannelNorm(channels)
        self.activation = ACT2FN[config.feat_extract_activation]
        self.is_gelu = config.feat_extract_activation == "gelu"

    def forward(self, x: Tensor, lengths: Tensor | None = None, recompute: bool = False) -> Tensor:
        """(B, C_in, T_in) -> (B, C, T); `lengths` (B,) are the real output frames, None if all are. With `recompute`
        the tall tensors in between are not kept for the backward pass, but computed again."""
        if self.norm == "group" and self.ignores_padding:
            work: Callable[..., Tensor] = self.activated_product
            inputs = self.conv(x, lengths, self.layer_norm(), self.layer_norm.eps)
        else:
            work, inputs = self.activated_convolution, (x,)
        if recompute:
            output: Tensor = checkpoint(work, *inputs, use_reentrant=False, preserve_rng_state=False)
            return output
        return work(*inputs)

    def by_moments(self, x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        """A piece of a clip (B, 1, S) -> (B, C, T), for the first layer with a group norm, whose statistics are not the
        piece's own: they follow from mean (B, K) and covariance (B, K, K) of all patches that count."""
        centred = self.conv.patches(x).to(mean.dtype) - mean[:, None]  # (B, T, K)
        return self.activated_product(*self.conv.factors(centred, covariance, self.layer_norm(), self.layer_norm.eps))

    def activated_product(self, left: Tensor, right: Tensor) -> Tensor:
        """What the first convolution and its norm come down to, activated: (B, C, T). Without a gradient on a CPU the
        product is overwritten, which spares the system as much memory again: 8 ms instead of 43 for 10 s of audio."""
        x = product_of_factors(left, right)
        if self.is_gelu and x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return torch.ops.aten.gelu_(x)
        activated: Tensor = self.activation(x)
        return activated

    def activated_convolution(self, x: Tensor) -> Tensor:
        """(B, C_in, T_in) -> (B, C, T)"""
        x = self.conv(x)
        if self.norm == "group":
            x = self.layer_norm(x)
        elif self.norm == "layer":
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        activated: Tensor = self.activation(x)
        return activated


class Wav2Vec2FeatureEncoder(nn.Module):
    """Waveform (B, S) -> features (B, C, T), one every 20 ms."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        self.kernels, self.strides = config.conv_kernel, config.conv_stride
        self.conv_layers = nn.ModuleList(ConvolutionLayer(config, index) for index in range(len(config.conv_dim)))

    @property
    def dtype(self) -> torch.dtype:
        """What the convolutions compute in; quantisation leaves them alone."""
        return next(self.parameters()).dtype

    def freeze(self) -> None:
        """Exclude all convolutions from training."""
        for parameter in self.parameters():
            parameter.requires_grad = False

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`lengths` (B,) are the real samples of each clip; None if all are, or if padding is to count."""
        scale = float(self.config.feature_grad_mult)
        if scale == 0.0:
            with torch.no_grad():
                x = self.convolve(waveform, lengths)
            return self.held(x)
        x = self.convolve(waveform, lengths)
        return x if scale == 1.0 else ScaleGradient.apply(x, scale)

    def held(self, features: Tensor) -> Tensor:
        """The convolutions' output (any shape), from which no gradient reaches them."""
        output: Tensor = NoGradient.apply(features, *self.parameters())
        return output

    def convolve(self, waveform: Tensor, lengths: Tensor | None) -> Tensor:
        """Waveform (B, S) -> features (B, C, T): all layers, one after the other."""
        x = waveform[:, None]
        checkpointed = self.training and bool(self.conv_layers[0].gradient_checkpointing)
        for index, layer in enumerate(self.conv_layers):
            if checkpointed and not x.requires_grad:
                x = x.detach().requires_grad_()  # reentrant checkpoints look at their inputs alone
            if lengths is not None:
                lengths = conv_output_length(lengths, self.kernels[index : index + 1], self.strides[index : index + 1])
            x = layer(x, lengths, index == 0 and self._recomputes_first_layer())
        return x

    def convolve_piece(self, samples: Tensor, moments: tuple[Tensor, Tensor] | None) -> Tensor:
        """A piece of a clip (B, S) -> features (B, C, T). A model with a group norm is given mean and covariance of the
        patches that its first convolution normalises by."""
        x = samples[:, None].to(self.dtype)
        layers: list[Any] = list(self.conv_layers)
        if moments is not None:
            x = layers.pop(0).by_moments(x, *moments)
        for layer in layers:
            x = layer(x)
        return x

    def _recomputes_first_layer(self) -> bool:
        """Its tensors are by far the tallest, and quickly computed again from the waveform: backward keeps none."""
        first = self.conv_layers[0]
        trained = any(parameter.requires_grad for parameter in first.parameters())
        return self.training and trained and torch.is_grad_enabled() and not bool(first.gradient_checkpointing)


class ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied (paper, section 4.2: the encoder learns ten times slower)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class NoGradient(torch.autograd.Function):
    """The identity on x, which has parameters in its graph and leaves them without a gradient.

    A gradient of zero would let weight decay move them. Distributed wrappers that have been told to expect one see the
    parameters pass by, and do not wait.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.inputs = 1 + len(parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        return (None,) * int(ctx.inputs)


class UniformLinear(nn.Linear):
    """A linear layer that starts uniform in +-1 / sqrt(inputs), weights and bias, where others start normal."""


class Wav2Vec2FeatureProjection(nn.Module):
    """Layer norm, whose output the quantizer sees, and the projection to the Transformer's width."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = UniformLinear(config.conv_dim[-1], config.hidden_size)
        self.dropout = Dropout(config.feat_proj_dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> the Transformer's input (B, T, hidden_size), and the normalised features (B, T, C)."""
        normalised = self.layer_norm(features)
        return self.dropout(self.projection(normalised)), normalised
