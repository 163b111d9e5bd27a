"""LayerDrop: whole Transformer layers are skipped at random during training (Fan et al., 2019).

Which ones is drawn from torch's random state, as everything else in a model that is random: `torch.manual_seed`
decides it, and whoever restores the state to compute a forward pass again gets the same network. Once the model is told
which update comes (`pin`), seed, update and the layer's number decide, through an integer hash: every process and every
micro-batch of an update then agree, without a random state.

A skipped layer still takes part in the graph with a zero gradient, so that no distributed wrapper waits for gradients
that never come.

Eagerly the draws are made on the host, which costs no synchronisation, and a skipped layer is not computed. A compiled
graph cannot branch on a draw: there every layer is computed, then selected.
"""

from typing import Any

import torch
from torch import Tensor, nn

_ODD = 0x2545F4914F6CDD1D
_MASK = 2**31 - 1


def layer_uniforms(key: Tensor, num_layers: int) -> Tensor:
    """One number in [0, 1) per layer from an int64 key: murmur-like mixing, equal on every device."""
    mixed = key * num_layers + torch.arange(num_layers, device=key.device)
    for shift in (16, 15, 16):
        mixed = (mixed ^ ((mixed >> shift) & _MASK)) * _ODD
    return ((mixed >> 32) & _MASK).double() / (_MASK + 1)


class LayerDrop(nn.Module):
    """Decides which layers run: by seed and update after `pin`, from torch's random state otherwise."""

    key: Tensor

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.pinned, self.host_key = False, 0
        # The same key for a compiled graph, which need not be compiled again when a tensor changes.
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)

    def pin(self, seed: int, update: int) -> None:
        """Decide by seed and update alone: all micro-batches of an update, on all processes, skip the same layers."""
        self.pinned, self.host_key = True, (seed * 1_000_003 + update) & _MASK
        self.key.fill_(self.host_key)

    def forward(self, probability: float) -> list[bool] | Tensor | None:
        """Whether each layer is skipped, as Python values or, in a compiled graph, as a tensor. None: none is."""
        if not self.training or probability == 0.0:
            return None
        if torch.compiler.is_compiling():
            return self.draw(self.key) < probability
        skipped: list[bool] = (self.draw(torch.tensor(self.host_key, device="cpu")) < probability).tolist()
        return skipped

    def draw(self, key: Tensor) -> Tensor:
        """One number in [0, 1) per layer, where the key is; it counts if it was pinned."""
        if self.pinned:
            return layer_uniforms(key, self.num_layers)
        return torch.rand(self.num_layers, device=key.device)


class _ZeroGradients(torch.autograd.Function):
    """The identity on x; backward gives the parameters a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (
            torch.zeros_like(parameter) if needed else None
            for parameter, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        )
        return gradients[0], *zeros


def join_with_zero_gradient(x: Tensor, *parameters: Tensor) -> Tensor:
    """x, unchanged, with the parameters in its graph: backward gives each a gradient of zero."""
    output: Tensor = _ZeroGradients.apply(x, *parameters)
    return output
