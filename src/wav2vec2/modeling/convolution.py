"""Convolutions over time in the memory layout in which they are fast, and the first one together with its group norm.

In 16 bits on a CPU a convolution over channels-last memory is 1.64 times faster on the tallest layer and 1.2 times on
short ones; together with what follows it brought a training step of base in bfloat16 from 4.2 to 3.0 s
(docs/performance.md). In 32 bits it is slower, and not used.

BASE models normalise every channel of the first convolution over time. The convolution has one input channel, so a
channel is a dot product of its kernel w with patches u of the waveform, and its mean and variance over time follow
from those of the patches:

    mean_t(w . u_t) = w . m          m: mean of the patches (K)
    var_t(w . u_t)  = w' C w         C: covariance of the patches (K x K)

    gamma (w . u - w . m) / sqrt(w' C w + eps) + beta  =  [scale w, beta] . [u - m, 1]      scale = gamma / sqrt(...)

So convolution and norm are one matrix product. The tallest tensor of the model is then written once instead of twice,
nothing is read back to normalise it, and leaving padding out of the statistics costs nothing: its patches are left out
of m and C, which are tiny. These are taken in float64, because neighbouring samples are nearly equal and C is close to
singular.

Shapes: B batch, S samples, T frames, C channels, K kernel size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1) -> Tensor:
    """`torch.nn.functional.conv1d`: (B, C_in, T_in) with (C, C_in / groups, K) -> (B, C, T).

    One-dimensional convolutions do not offer channels-last memory, so in 16 bits on a CPU this is a two-dimensional one
    of height 1. Its output keeps that layout, in which `transpose(1, 2)` is contiguous: layer norms over channels
    and the Transformer then copy nothing.
    """
    if weight.shape[1] == 1 or not channels_last_is_faster(x):
        return F.conv1d(x, weight, bias, stride, groups=groups)
    layout = torch.channels_last
    tall = x.unsqueeze(2).contiguous(memory_format=layout)
    kernel = weight.unsqueeze(2).contiguous(memory_format=layout)
    return F.conv2d(tall, kernel, bias, (1, stride), groups=groups).squeeze(2)


def channels_last_is_faster(x: Tensor) -> bool:
    """Whether products with x are computed in 16 bits on a CPU, which are faster over channels-last memory."""
    if x.device.type != "cpu":
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype in (torch.bfloat16, torch.float16)


class Convolution(nn.Conv1d):
    """`torch.nn.Conv1d` without padding or dilation, through `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T_in) -> (B, C, T)"""
        return convolve(x, self.weight, self.bias, self.stride[0], self.groups)


class ChannelNorm(nn.GroupNorm):
    """A group norm with one channel per group, whose scale and shift can be asked for: `norm()`."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """(B, C, T) -> (B, C, T)"""
        return (self.weight, self.bias) if x is None else super().forward(x)


class FirstConvolution(Convolution):
    """The convolution over the waveform, alone or with the norm after it."""

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, affine: tuple[Tensor, Tensor] | None = None, eps: float = 1e-5
    ) -> Tensor:
        """(B, 1, S) -> (B, C, T). With `affine` also normalised, over the first `lengths` (B,) frames or over all."""
        if affine is None:
            return super().forward(x)
        patches = x[:, 0].unfold(1, self.kernel_size[0], self.stride[0])  # (B, T, K)
        return normalised_products(patches, self.weight[:, 0], self.bias, affine, eps, lengths)


def normalised_products(
    patches: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    affine: tuple[Tensor, Tensor],
    eps: float,
    lengths: Tensor | None,
) -> Tensor:
    """Products of patches (B, T, K) with kernels (C, K), each channel normalised over real time: (B, C, T)."""
    dtype, wide = kernels.dtype, torch.float32 if patches.device.type == "mps" else torch.float64
    batch, frames, _ = patches.shape
    gamma, beta = (parameter.to(wide) for parameter in affine)
    if lengths is None:
        lengths = torch.full((batch,), frames, device=patches.device)
    real = (torch.arange(frames, device=patches.device) < lengths[:, None])[:, :, None]  # (B, T, 1)
    count = lengths.clamp(min=1)[:, None, None]
    patches = patches.to(wide).masked_fill(~real, 0.0)
    centred = (patches - patches.sum(1, keepdim=True) / count).masked_fill(~real, 0.0)
    covariance = centred.transpose(1, 2) @ centred / count  # (B, K, K)
    kernels = kernels.to(wide)
    variance = ((kernels @ covariance) * kernels).sum(-1).clamp(min=0)  # (B, C)
    scaled = kernels * (gamma * torch.rsqrt(variance + eps))[:, :, None]  # (B, C, K)
    shift = beta if bias is None else beta + (bias - bias)  # a constant has no part in a norm; its gradient is zero
    left = torch.cat([scaled, shift.expand(batch, -1)[:, :, None]], dim=2).to(dtype)  # (B, C, K + 1)
    right = torch.cat([centred, torch.ones_like(centred[:, :, :1])], dim=2).to(dtype)  # (B, T, K + 1)
    if channels_last_is_faster(right):
        return (right @ left.transpose(1, 2)).transpose(1, 2)
    return left @ right.transpose(1, 2)
