"""LayerDrop: whole Transformer layers are skipped at random during training (Fan et al., 2019).

Which ones depends on a key and the layer's number alone, through an integer hash, so every process, every micro-batch
of an update and every device agrees without a random state. A skipped layer still takes part in the graph with a zero
gradient, so that no distributed wrapper waits for gradients that never come.

Eagerly the draws are made on the host, which costs no synchronisation, and a skipped layer is not computed. A compiled
graph cannot branch on a draw: there the key is a tensor and every layer is computed, then selected.
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
    """Decides which layers run.

    After `pin`, by seed and update. Otherwise the decision changes with every forward pass in training, from a start
    that follows from `torch.manual_seed`.
    """

    key: Tensor

    def __init__(self, probability: float, num_layers: int) -> None:
        super().__init__()
        self.probability = probability
        self.num_layers = num_layers
        self._host_key = torch.tensor(torch.initial_seed() & _MASK, device="cpu")
        self.register_buffer("key", self._host_key.clone(), persistent=False)
        self._pinned = False

    @property
    def host_key(self) -> Tensor:
        """The key where the host can read it without waiting for a device."""
        return self._host_key

    def pin(self, seed: int, update: int) -> None:
        """Decide by seed and update alone: all micro-batches of an update, on all processes, skip the same layers."""
        key = (seed * 1_000_003 + update) & _MASK
        self._pinned = True
        self._host_key = torch.tensor(key, device="cpu")
        self.key.fill_(key)

    def forward(self) -> list[bool] | Tensor | None:
        """Whether each layer is skipped, as Python values or, in a compiled graph, as a tensor. None: none is."""
        if not self.training or self.probability == 0.0:
            return None
        if torch.compiler.is_compiling():
            if not self._pinned:
                self.key.add_(1)
            return layer_uniforms(self.key, self.num_layers) < self.probability
        if not self._pinned:
            self._host_key = self._host_key + 1
        skipped: list[bool] = (layer_uniforms(self._host_key, self.num_layers) < self.probability).tolist()
        return skipped


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
    """x, unchanged, with the parameters in its graph."""
    output: Tensor = _ZeroGradients.apply(x, *parameters)
    return output


def pass_by(layer: nn.Module, x: Tensor) -> Tensor:
    """x, unchanged, with every parameter of the layer in its graph."""
    return join_with_zero_gradient(x, *layer.parameters())
