"""Attention with dropout on its weights, for training on a CPU.

torch's fused attention has no dropout on a CPU and falls back to a path that keeps three T x T tensors per layer. Here
the weights are kept once, and whether one was dropped is kept in its sign:

    P = softmax(s Q K^T),  D = keep * P / (1 - p),  O = D V

    dV = D^T dO,  dD = dO V^T,  dP = keep * dD / (1 - p),  dS = P * (dP - sum_j dP P) with sum_j dP P = sum dO O

Shapes: B batch, H heads, T frames, D head size.
"""

from typing import Any

import torch
from torch import Tensor

from wav2vec2.modeling.dropout import draw_keep_mask


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visible: Tensor | None,
        scale: float,
        p: float,
    ) -> Tensor:
        scores = (query * scale) @ key.transpose(-2, -1)  # (B, H, T, T)
        if visible is not None:
            scores.masked_fill_(~visible, float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        del scores
        keep, factor = draw_keep_mask(weights.shape, p)
        signed = weights.mul_(torch.where(keep, 1.0, -1.0).to(weights.dtype))
        output = signed.relu() @ value
        output.mul_(factor)
        ctx.save_for_backward(query, key, value, output, signed)
        ctx.scale, ctx.factor = scale, factor
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, signed = ctx.saved_tensors
        scale, factor = ctx.scale, ctx.factor
        gradient = gradients[0]
        grad_value = (signed.relu().transpose(-2, -1) @ gradient).mul_(factor)
        grad_weights = gradient @ value.transpose(-2, -1)  # (B, H, T, T)
        grad_weights.mul_(signed > 0).mul_(factor)
        inner = (gradient * output).sum(-1, keepdim=True)
        grad_scores = grad_weights.sub_(inner).mul_(signed.abs()).mul_(scale)
        return (
            grad_scores @ key,
            grad_scores.transpose(-2, -1) @ query,
            grad_value,
            None,
            None,
            None,
        )


def dropout_attention(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float, p: float
) -> Tensor:
    """Attention over (B, H, T, D); each weight is dropped with probability `p`. `visible` marks keys, None all."""
    with torch.autocast("cpu", enabled=False):
        output: Tensor = _DropoutAttention.apply(query, key, value, visible, scale, p)
    return output
