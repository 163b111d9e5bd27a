"""Checks of values that live in tensors, without waiting for a device."""

import torch
from torch import Tensor


def require(condition: Tensor, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` (a scalar) is true.

    On an accelerator, or inside a compiled graph, the check runs on the device and stops the program with the message
    when the device gets there; the host does not wait for it.
    """
    if condition.device.type == "cpu" and not torch.compiler.is_compiling():
        if not bool(condition):
            raise ValueError(message)
    elif condition.device.type != "meta" and not torch.compiler.is_exporting():
        torch._assert_async(condition, message)
