"""torch's GRU as ONNX's: torch's exporter would unroll it, which it cannot do for a length that it does not know.

torch has the gates in the order reset, update, new, and ONNX in the order update, reset, new.

Shapes: B batch, T frames, I inputs, H outputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from wav2vec2.export.refusal import library


def translations() -> dict[Any, Callable[..., Any]]:
    """What torch's exporter is to write for operations that it has nothing for."""
    op = library("onnxscript", "export").opset18

    def in_its_order(of_gates: Any) -> Any:
        reset, update, new = op.Split(of_gates, num_outputs=3, axis=0)
        return op.Concat(update, reset, new, axis=0)

    def gru(x: Any, before: Any, parameters: Sequence[Any], *_: Any, **__: Any) -> tuple[Any, Any]:
        """One layer in one direction, batch first, with biases: (B, T, I), (1, B, H) -> (B, T, H), (1, B, H)."""
        inputs, outputs, of_inputs, of_outputs = parameters
        first = op.Constant(value_ints=[0])
        bias = op.Concat(in_its_order(of_inputs), in_its_order(of_outputs), axis=0)
        found, last = op.GRU(
            op.Transpose(x, perm=[1, 0, 2]),
            op.Unsqueeze(in_its_order(inputs), first),
            op.Unsqueeze(in_its_order(outputs), first),
            op.Unsqueeze(bias, first),
            None,
            before,
            hidden_size=int(outputs.shape[1]),
            linear_before_reset=1,
        )
        return op.Transpose(op.Squeeze(found, op.Constant(value_ints=[1])), perm=[1, 0, 2]), last

    return {torch.ops.aten.gru.input: gru}
