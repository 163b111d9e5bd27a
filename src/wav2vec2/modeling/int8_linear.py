"""Linear layers in 8 bits for inference on a CPU: a third to a half of the time of single precision.

Every output has a scale for its weights, fixed once, and every frame one for its inputs, taken from the frame itself
("dynamic"), so what a frame becomes depends neither on its neighbours nor on padding:

    w_oi = s_o W_oi,   x_ti = r_t X_ti,   y_to = r_t s_o sum_i X_ti W_oi + b_o       W, X: whole numbers up to 127

The sums are 32-bit numbers. Processors without the instructions for it (VNNI) add pairs of products in 16 bits, where
large ones saturate; whether this one does is tried, and if so weights have 7 bits. Convolutions, norms, softmax and the
head stay in single precision. docs/performance.md has what is gained, and what texts lose.
"""

from functools import cache

import torch
from torch import Tensor, nn

from wav2vec2.modeling.linear import Linear

_LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer (inputs -> outputs) whose weights are whole numbers, with the `scale` of every output."""

    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        largest = largest_weight()
        scale = (layer.weight.detach().float().abs().amax(1) / largest).clamp(min=torch.finfo(torch.float32).tiny)
        whole = (layer.weight.detach().float() / scale[:, None]).round().clamp(-largest, largest)
        self.weight = nn.Parameter(whole.to(torch.int8), requires_grad=False)  # (outputs, inputs)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().float(), requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        rows = x.reshape(-1, x.shape[-1])
        scale = rows.abs().amax(1, keepdim=True).div_(_LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)
        sums = torch._int_mm((rows / scale).round_().to(torch.int8), self.weight.t())
        output = sums.float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            output.add_(self.bias)
        return output.view(*x.shape[:-1], len(self.weight))


@cache
def largest_weight() -> int:
    """127, or 63 where sums of products of larger numbers saturate on this processor."""
    full = torch.full((32, 64), _LARGEST, dtype=torch.int8)
    exact = full.long() @ full.long().t()
    return _LARGEST if torch.equal(torch._int_mm(full, full.t()).long(), exact) else _LARGEST // 2


def quantise_linear_layers(model: nn.Module) -> int:
    """Replace every linear layer of the Transformer in `model`, which can then no longer be trained; how many."""
    replaced = 0
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, Linear):
                setattr(module, name, Int8Linear(layer))
                replaced += 1
    return replaced
