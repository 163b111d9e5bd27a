"""Random numbers that are drawn on their device, from a generator or without, in compiled graphs too."""

import torch
from torch import Tensor


def uniform(*shape: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Numbers in [0, 1). (`torch.rand` refuses symbolic sizes when it is handed a generator, be it None.)"""
    return torch.empty(shape, device=device).uniform_(generator=generator)
