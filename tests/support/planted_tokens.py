"""Log-probabilities in which each token is at a known place."""

import torch
from torch import Tensor


def planted(frames: int, tokens: int, vocab: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy log-probabilities (1, T, V) with tokens (U,) at known frames (U,), each two frames long."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(1, vocab, (tokens,), generator=generator)
    starts = torch.randperm(frames // 3 - 1, generator=generator)[:tokens].sort().values * 3
    values = torch.randn(1, frames, vocab, generator=generator) * 2
    values[..., 0] += 8
    for shift in (0, 1):
        values[0, starts + shift, 0] -= 8
        values[0, starts + shift, targets] += 8
    return values.log_softmax(-1), targets, starts
