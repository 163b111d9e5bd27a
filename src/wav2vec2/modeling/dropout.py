"""Dropout that spends little on drawing its mask on a CPU.

torch draws one random number per element, one after the other, which takes a sixth of a training step there. Sixteen
bits are enough for a probability, so one 64-bit number serves four elements, and the mask is kept as one byte. What is
left is a twentieth of a step, and masks applied as bitwise operations instead of products with booleans save another
10 ms per layer of base (docs/performance.md).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 2**16
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def draw_keep_mask(shape: torch.Size | tuple[int, ...], p: float) -> tuple[Tensor, float]:
    """Bytes on the CPU, 0 with probability `p` and else -1 (all bits set), and 1 / P(kept) exactly as drawn.

    `p` is rounded to a multiple of 2^-16; the factor follows the rounded value, so the expectation is kept exactly.
    """
    dropped_levels = min(round(p * _LEVELS), _LEVELS - 1)
    count = math.prod(shape)
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    levels = words.view(torch.int16)[:count]  # uniform over [-2^15, 2^15)
    keep = (levels >= dropped_levels - _LEVELS // 2).view(torch.int8).neg_()
    return keep.view(shape), _LEVELS / (_LEVELS - dropped_levels)


def kept(x: Tensor, keep: Tensor) -> Tensor:
    """x where `keep` is -1, zero where it is 0: one bitwise operation, whatever x holds."""
    integers = _INTEGERS[x.element_size()]
    return (x.view(integers) & keep.to(integers)).view(x.dtype)


class _KeepAndScale(torch.autograd.Function):
    """x where it is kept, times the factor; remembers one byte per element. Its derivative is itself, to any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.factor = factor
        return kept(x, keep).mul_(factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return _KeepAndScale.apply(gradients[0], keep, ctx.factor), None, None


def drawn_on_cpu(x: Tensor) -> bool:
    """Whether the cheap draw applies: eagerly, on a CPU. Compilers fuse torch's own dropout; accelerators draw fast."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, whose mask is drawn cheaply on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if self.p < 1.0 and drawn_on_cpu(x):
            keep, factor = draw_keep_mask(x.shape, self.p)
            output: Tensor = _KeepAndScale.apply(x, keep, factor)
            return output
        return F.dropout(x, self.p, training=True)
