"""GRUs as ONNX has them: one operation for any length. torch's exporter would unroll them, for one length.

torch has the gates in the order reset, update, new, and ONNX in the order update, reset, new.

Shapes: B batch, T frames, I inputs, H outputs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class OnnxGRU(nn.Module):
    """Stands in a graph for a `torch.nn.GRU` of one layer in one direction, batch first. Itself it computes nothing."""

    def __init__(self, layer: nn.GRU) -> None:
        super().__init__()
        self.size = layer.hidden_size
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = (_reordered(layer.get_parameter(name).detach()) for name in names)
        of_inputs, of_outputs, bias, bias_of_outputs = weights
        self.register_buffer("of_inputs", of_inputs[None])  # (1, 3 H, I)
        self.register_buffer("of_outputs", of_outputs[None])  # (1, 3 H, H)
        self.register_buffer("bias", torch.cat([bias, bias_of_outputs])[None])  # (1, 6 H)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, T, I) -> (B, T, H), and nothing in the place of the last state."""
        found: Tensor = torch.onnx.ops.symbolic(
            "::GRU",
            (x.transpose(0, 1), *self.buffers()),
            {"hidden_size": self.size, "linear_before_reset": 1},
            dtype=x.dtype,
            shape=(x.shape[1], 1, x.shape[0], self.size),
        )  # (T, 1, B, H)
        return found.squeeze(1).transpose(0, 1), None


@contextmanager
def recurrence_in_one_operation(model: nn.Module) -> Iterator[None]:
    """Inside, GRUs are what an exporter can write."""
    places = [
        (module, name) for module in model.modules() for name, layer in module.named_children() if type(layer) is nn.GRU
    ]
    before = [getattr(module, name) for module, name in places]
    try:
        for (module, name), layer in zip(places, before, strict=True):
            setattr(module, name, OnnxGRU(layer))
        yield
    finally:
        for (module, name), layer in zip(places, before, strict=True):
            setattr(module, name, layer)


def _reordered(of_gates: Tensor) -> Tensor:
    """What stands for the three gates one after the other, (3 H, ...), in ONNX's order."""
    reset, update, new = of_gates.chunk(3)
    return torch.cat([update, reset, new])
