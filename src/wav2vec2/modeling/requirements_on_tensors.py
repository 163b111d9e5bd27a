"""Checks of values that live in tensors, and warnings about them, without waiting for a device."""

import logging

import torch
from torch import Tensor

logger = logging.getLogger("wav2vec2")
_told: set[str] = set()


def require(condition: Tensor, message: str) -> None:
    """Raise `ValueError(message)` unless `condition` (a scalar) is true.

    On an accelerator, or inside a compiled graph, the check runs on the device and stops the program with the message
    when the device gets there; the host does not wait for it.
    """
    if can_be_looked_at(condition):
        if not bool(condition):
            raise ValueError(message)
    elif condition.device.type != "meta" and not torch.compiler.is_exporting():
        torch._assert_async(condition, message)


def warn_once_if(condition: Tensor, message: str) -> None:
    """Log `message` the first time that `condition` (a scalar) is true, where looking at it costs nothing: on the CPU,
    not in a graph. Elsewhere what is warned of must be counted, so that it can be found."""
    if can_be_looked_at(condition) and message not in _told and bool(condition):
        _told.add(message)
        logger.warning(message)


def can_be_looked_at(tensor: Tensor) -> bool:
    """Whether the host can read a tensor without waiting, and may branch on it."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
