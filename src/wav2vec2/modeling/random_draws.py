"""Random numbers that are drawn on their device, from a generator or without, in compiled graphs too."""

import torch
from torch import Tensor


def uniform(*shape: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Numbers in [0, 1), in float32. (`torch.rand` refuses symbolic sizes when handed a generator, be it None.)"""
    return torch.empty(shape, device=device, dtype=torch.float32).uniform_(generator=generator)
