"""Where 32 bits are needed whatever the model's dtype: softmaxes, cosines, losses."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is that."""
    return x if x.dtype == torch.float64 else x.float()


def in_full_precision(x: Tensor) -> AbstractContextManager[None]:
    """A block in which autocast lowers nothing on x's device."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
