"""Attention for training on a CPU, with or without dropout on its weights: products with one kept T x T tensor.

With dropout, per layer of base on 4 clips of 10 s, 72 ms instead of 188 in bfloat16, and 147 instead of 176 in float32
(docs/performance.md): torch's fused attention has no dropout on a CPU and falls back to a path that keeps three T x T
tensors per layer in the width of the weights. Here one is kept, and a byte per weight for what was dropped:

    P = softmax(s Q K^T),  D = keep * P / (1 - p),  O = D V

    dV = D^T dO,  dD = dO V^T,  dP = keep * dD / (1 - p),  dS = P * (dP - sum_j dP P) with sum_j dP P = sum dO O

Without dropout D is P. There the fused attention keeps nothing and computes P again in backward. In 16 bits, keeping it
takes two thirds of the time; its memory grows with the square of T, so that is for clips up to 20 s.

These steps are not part of a graph, so a second derivative is refused; attention spelled out ("eager") has one.

Shapes: B batch, H heads, T frames, D head size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wav2vec2.modeling.dropout import draw_keep_mask, drawn_on_cpu, kept

#: Frames up to which the weights of a clip are kept if the fused attention could do without them.
_SHORT = 1024


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float, p: float
    ) -> Tensor:
        scores = (query * scale) @ key.transpose(-2, -1)  # (B, H, T, T)
        if visible is not None:
            scores.masked_fill_(~visible, float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        del scores
        keep, factor = (None, 1.0) if p == 0.0 else draw_keep_mask(weights.shape, p)
        output = (weights if keep is None else kept(weights, keep)) @ value
        if keep is not None:
            output.mul_(factor)
        ctx.save_for_backward(query, key, value, output, weights, keep)
        ctx.scale, ctx.factor = scale, factor
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, weights, keep = ctx.saved_tensors
        scale, factor = ctx.scale, ctx.factor
        gradient = gradients[0]
        inner = (gradient * output).sum(-1, keepdim=True)
        grad_scores = gradient @ value.transpose(-2, -1)  # (B, H, T, T): dD, then dP, then dS
        if keep is None:
            grad_value = weights.transpose(-2, -1) @ gradient
        else:
            grad_value = (kept(weights, keep).transpose(-2, -1) @ gradient).mul_(factor)
            grad_scores = kept(grad_scores, keep).mul_(factor)
        grad_scores = grad_scores.sub_(inner).mul_(weights).mul_(scale)
        return grad_scores @ key, grad_scores.transpose(-2, -1) @ query, grad_value, None, None, None


def keeping_weights_is_faster(query: Tensor, p: float) -> bool:
    """Whether `dropout_attention` is the better way to attend with query (B, H, T, D) and this dropout."""
    if not drawn_on_cpu(query) or p >= 1.0:
        return False
    trained = query.requires_grad and torch.is_grad_enabled()
    return p > 0.0 or (trained and query.element_size() == 2 and query.shape[-2] <= _SHORT)


def dropout_attention(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float, p: float
) -> Tensor:
    """Attention over (B, H, T, D); each weight is dropped with probability `p`. `visible` marks keys, None all."""
    with torch.autocast("cpu", enabled=False):
        output: Tensor = _DropoutAttention.apply(query, key, value, visible, scale, p)
    return output
