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
singular; in float32 on a GPU that multiplies in 16 bits, whose own rounding is larger.

Shapes: B batch, S samples, T frames, C channels, K kernel size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.modeling.precision import in_full_precision, on_gpu, product_dtype

#: Frames whose products are added up at once.
_STRETCH = 256

#: What `wrong_in_16_bits` is about.
_HAS_AMX = bool(torch.cpu._is_amx_tile_supported())
_ROWS_OF_A_TILE = 16


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1) -> Tensor:
    """`torch.nn.functional.conv1d`: (B, C_in, T_in) with (C, C_in / groups, K) -> (B, C, T).

    One-dimensional convolutions do not offer channels-last memory, so where that is faster this is a two-dimensional
    one of height 1. Its output keeps that layout, in which `transpose(1, 2)` is contiguous: layer norms over channels
    and the Transformer then copy nothing.
    """
    if wrong_in_16_bits(x, weight):
        with in_full_precision(x):
            wide = F.conv1d(x.float(), weight.float(), None if bias is None else bias.float(), stride, groups=groups)
        return wide.to(product_dtype(x))
    if weight.shape[1] == 1 or not channels_last_is_faster(x):
        return F.conv1d(x, weight, bias, stride, groups=groups)
    layout = torch.channels_last
    tall = x.unsqueeze(2).contiguous(memory_format=layout)
    kernel = weight.unsqueeze(2).contiguous(memory_format=layout)
    return F.conv2d(tall, kernel, bias, (1, stride), groups=groups).squeeze(2)


def wrong_in_16_bits(x: Tensor, weight: Tensor) -> bool:
    """Whether torch's convolution of x may be noise. On a processor with AMX, oneDNN's kernel for 16 bits (torch 2.13)
    has neither values nor gradients right for some lengths of kernel (8, 16, 64, 128 among them) where each output sees
    2 to 15 channels: the positional convolution of `presets.tiny` sees 12, that of no published model so few."""
    hit = _HAS_AMX and x.device.type == "cpu" and 1 < weight.shape[1] < _ROWS_OF_A_TILE
    return hit and product_dtype(x) in (torch.bfloat16, torch.float16)


def channels_last_is_faster(x: Tensor) -> bool:
    """Whether convolutions of x are faster over channels-last memory: on a GPU, whose matrix units read it so, and in
    16 bits on a CPU."""
    if on_gpu(x):
        return True
    return x.device.type == "cpu" and product_dtype(x) in (torch.bfloat16, torch.float16)


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

    def forward(  # type: ignore[override]
        self, x: Tensor, lengths: Tensor | None = None, affine: tuple[Tensor, Tensor] | None = None, eps: float = 1e-5
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 1, S) -> (B, C, T). With `affine` the two factors whose product is that normalised, over the first
        `lengths` (B,) frames or over all: `product_of_factors`."""
        if affine is not None:
            return self.normalised_factors(x, lengths, affine, eps)
        if on_gpu(x):
            return F.linear(aligned(self.patches(x)), aligned(self.weight[:, 0]), self.bias).transpose(1, 2)
        return super().forward(x)

    def patches(self, x: Tensor) -> Tensor:
        """(B, 1, S) -> (B, T, K), a view."""
        return x[:, 0].unfold(1, self.kernel_size[0], self.stride[0])

    def normalised_factors(
        self, x: Tensor, lengths: Tensor | None, affine: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor]:
        """Kernels (B, C, K + 1) and patches (B, T, K + 1) whose product is the convolution with every channel
        normalised over real time: the norm's scale is in the kernels, its shift is their last entry."""
        patches, kernels = self.patches(x), self.weight[:, 0]
        wide = statistics_dtype(kernels)
        batch, frames, _ = patches.shape
        if lengths is None:
            lengths = torch.full((batch,), frames, device=x.device)
        real = (torch.arange(frames, device=x.device) < lengths[:, None])[:, :, None]  # (B, T, 1)
        count = lengths.clamp(min=1)[:, None, None]
        patches = patches.to(wide).masked_fill(~real, 0.0)
        centred = (patches - patches.sum(1, keepdim=True) / count).masked_fill(~real, 0.0)
        return self.factors(centred, second_moments(centred) / count, affine, eps)

    def factors(
        self, centred: Tensor, covariance: Tensor, affine: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor]:
        """Those kernels and patches, from patches (B, T, K) without their mean and the covariance (B, K, K) that counts
        for them, in the `statistics_dtype`."""
        kernels = self.weight[:, 0].to(centred.dtype)
        batch, dtype = centred.shape[0], product_dtype(self.weight)
        gamma, beta = (parameter.to(centred.dtype) for parameter in affine)
        variance = ((kernels @ covariance) * kernels).sum(-1).clamp(min=0)  # (B, C)
        scaled = kernels * (gamma * torch.rsqrt(variance + eps))[:, :, None]  # (B, C, K)
        # a constant has no part in a norm; its gradient is zero
        shift = beta if self.bias is None else beta + (self.bias - self.bias)
        left = torch.cat([scaled, shift.expand(batch, -1)[:, :, None]], dim=2)  # (B, C, K + 1)
        right = torch.cat([centred, torch.ones_like(centred[:, :, :1])], dim=2)  # (B, T, K + 1)
        return aligned(left.to(dtype)), aligned(right.to(dtype))


def product_of_factors(left: Tensor, right: Tensor) -> Tensor:
    """Kernels (B, C, K + 1) and patches (B, T, K + 1) -> (B, C, T), in the memory layout that convolutions like."""
    if channels_last_is_faster(right):
        return (right @ left.transpose(1, 2)).transpose(1, 2)
    return left @ right.transpose(1, 2)


def statistics_dtype(kernels: Tensor) -> torch.dtype:
    """What means and variances of patches are taken in."""
    narrow = on_gpu(kernels) and product_dtype(kernels).itemsize == 2
    return torch.float32 if narrow or kernels.device.type == "mps" else torch.float64


def second_moments(x: Tensor) -> Tensor:
    """The sums over time of the products of all pairs of entries: (B, T, K) -> (B, K, K). On a GPU in stretches of
    time, so that many processors take part, and float32 rounds little."""
    if not on_gpu(x):
        return x.transpose(1, 2) @ x
    stretches = F.pad(x, (0, 0, 0, -x.shape[1] % _STRETCH)).unflatten(1, (-1, _STRETCH))
    return (stretches.transpose(2, 3) @ stretches).sum(1)


def aligned(x: Tensor) -> Tensor:
    """On a GPU with zeros behind the last dimension up to a multiple of 8, or its matrix units would stand idle."""
    return F.pad(x, (0, -x.shape[-1] % 8)) if on_gpu(x) else x
