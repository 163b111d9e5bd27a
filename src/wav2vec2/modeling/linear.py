"""The linear layers of the Transformer, which compute without gradients on a CPU through the faster library.

In single precision torch leaves products of matrices to MKL. On a processor of AMD, oneDNN, with which torch convolves,
takes 15 % less for the products of base with AVX-512 and 5 % less with AVX2 (docs/performance.md). torch offers it for
its compiler, as an operation without a gradient, so training stays with `torch.nn.functional.linear`.
"""

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """`torch.nn.Linear`, with the faster product where nobody asks for a gradient, nor traces or wraps the tensors."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        if not _onednn_is_faster(x, self.weight):
            return super().forward(x)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return output


def _onednn_is_faster(x: Tensor, weight: Tensor) -> bool:
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch.is_autocast_enabled("cpu") or not x.dtype == weight.dtype == torch.float32 or x.numel() == 0:
        return False
    plain = type(x) is Tensor and type(weight) is nn.Parameter  # no tensors of tracers, quantisers, shards
    return plain and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
