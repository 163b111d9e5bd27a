"""A wide grouped convolution over time as one batched matrix product, for processors that multiply matrices fast.

Libraries have no kernel of matrix units for 16 groups of 48 channels and a kernel of 128 taps: cuDNN runs plain
arithmetic, a third of a training step of base. So time is cut into blocks of n frames. All outputs of a block and a
group are one product: of the n + P - 1 input frames that they see with a banded matrix, which holds the kernel once
for every output frame, each time one frame further down:

    y[t, o] = sum over p, i of x[t + p - left, i] w[o, i, p]          t = n m + j,  q = p + j
            = sum over q, i of X[m; q, i] A[j, o; q, i]               X: windows of x,  A[j, o; q, i] = w[o, i, q - j]

The products with the zeros of A are (n - 1) / P more than needed. The gradient of x is such a convolution itself, with
the kernel reversed. That of w is a product of the same windows with the blocks of the output's gradient, of which the n
copies of each tap are added up; and its own gradients are such convolutions again, so that all derivatives are here.

Shapes: B batch, T frames, C channels, G groups, c = C / G, P kernel size, N blocks of n frames, L = n + P - 1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: n, frames in a block: twice as many would double the banded matrix, half as many would double the windows.
_BLOCK = 16


def blocked_convolution(x: Tensor, weight: Tensor, groups: int, left: int) -> Tensor:
    """Convolve (B, T, C) with (C, c, P), after `left` frames of zeros and as many behind as keep T: (B, T, C)."""
    output: Tensor = _Convolution.apply(x, weight, groups, left)
    return output


class _Convolution(torch.autograd.Function):
    """y of x and w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int, left: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups, ctx.left = groups, left
        frames, kernel = x.shape[1], weight.shape[2]
        products = windows(x, kernel, groups, left) @ banded(weight, groups).transpose(1, 2)  # (G, B N, n c)
        blocks = products.view(groups, x.shape[0], -1, _BLOCK, weight.shape[1]).flip(3)  # (G, B, N, n, c)
        return blocks.permute(1, 2, 3, 0, 4).flatten(3).flatten(1, 2)[:, :frames]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _against_time(gradients[0], weight, ctx.groups, ctx.left)
        if ctx.needs_input_grad[1]:
            grad_weight = _WeightGradient.apply(x, gradients[0], weight.shape[2], ctx.groups, ctx.left)
        return grad_x, grad_weight, None, None


class _WeightGradient(torch.autograd.Function):
    """The gradient (C, c, P) of w from x and the gradient of y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, kernel: int, groups: int, left: int) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.groups, ctx.left = groups, left
        width = x.shape[2] // groups
        padded = F.pad(gradient, (0, 0, 0, -x.shape[1] % _BLOCK))
        blocks = padded.view(*x.shape[:1], -1, _BLOCK, groups, width).permute(3, 0, 1, 2, 4).flip(3)  # (G, B, N, n, c)
        blocks = blocks.reshape(groups, -1, _BLOCK * width)
        of_band = blocks.transpose(1, 2) @ windows(x, kernel, groups, left)  # (G, n c, L c)
        return added_along_the_band(of_band, width, kernel)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gradient = ctx.saved_tensors
        grad_x = grad_gradient = None
        if ctx.needs_input_grad[0]:
            grad_x = _against_time(gradient, gradients[0], ctx.groups, ctx.left)
        if ctx.needs_input_grad[1]:
            grad_gradient = _Convolution.apply(x, gradients[0], ctx.groups, ctx.left)
        return grad_x, grad_gradient, None, None, None


def _against_time(gradient: Tensor, weight: Tensor, groups: int, left: int) -> Tensor:
    """What the gradient of y says of x."""
    turned = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2)
    output: Tensor = _Convolution.apply(gradient, turned, groups, weight.shape[2] - 1 - left)
    return output


def windows(x: Tensor, kernel: int, groups: int, left: int) -> Tensor:
    """The frames that each block sees, those outside of the clip zero: (B, T, C) -> (G, B N, L c)."""
    frames, width = x.shape[1], x.shape[2] // groups
    blocks = -(-frames // _BLOCK)
    padded = F.pad(x, (0, 0, left, blocks * _BLOCK + kernel - 1 - left - frames))
    by_group = padded.unflatten(2, (groups, width)).permute(2, 0, 1, 3).contiguous()  # (G, B, N n + P - 1, c)
    words = in_words(by_group)
    size = words.shape[3]
    overlapping = words.flatten(2).unfold(2, (_BLOCK + kernel - 1) * size, _BLOCK * size)
    return overlapping.flatten(1, 2).contiguous().view(x.dtype)


def banded(weight: Tensor, groups: int) -> Tensor:
    """The banded matrices of a kernel: (C, c, P) -> (G, n c, L c). The last frame of a block comes first, so that every
    row begins one frame further into the kernel than the one before."""
    length = _BLOCK + weight.shape[2] - 1
    taps = weight.unflatten(0, (groups, -1)).transpose(2, 3)  # (G, c, P, c)
    words = in_words(F.pad(taps, (0, 0, _BLOCK - 1, _BLOCK - 1)))
    size = words.shape[3]
    rows = words.flatten(2).unfold(2, length * size, size)  # (G, c, n, L c)
    return rows.transpose(1, 2).flatten(1, 2).contiguous().view(weight.dtype)


def added_along_the_band(of_band: Tensor, width: int, kernel: int) -> Tensor:
    """The sums over the copies of each tap in banded matrices: (G, n c, L c) -> (C, c, P)."""
    groups, _, row = of_band.shape
    whole, block = _BLOCK * width * row, width * row
    shape, strides = (groups, _BLOCK, width, kernel * width), (whole, block - width, row, 1)
    copies = of_band.contiguous().as_strided(shape, strides, (_BLOCK - 1) * width)
    return copies.sum(1).unflatten(2, (kernel, width)).transpose(2, 3).flatten(0, 1)


def in_words(x: Tensor) -> Tensor:
    """x as numbers of 8 bytes if it is made of them, which are copied in a quarter of the time of as many bytes in
    numbers of 2."""
    return x.contiguous().view(torch.int64) if x.shape[-1] * x.element_size() % 8 == 0 else x.contiguous()
