"""Random numbers, drawn on their device and in compiled graphs too: from torch, or from the clip that they belong to.

torch draws the numbers of a batch one after the other, so what a clip gets depends on the clips beside it, on the
padding and on the device. `ClipDraws` computes each number from the clip's seed, its purpose and its position instead:
however a batch is divided among processes and micro-batches, every clip keeps its masks, distractors and noise.

A number is the hash of its position, by the two multiplications of "lowbias32" (C. Wellons, hash-prospector, 2018)
with 64 bits of key, which follow from seed and purpose by the finaliser of SplitMix64 (Steele et al., 2014).
"""

from enum import IntEnum
from math import prod

import torch
from torch import Tensor


class Purpose(IntEnum):
    """What is drawn for a clip. One never shifts the others: a mask that is handed in leaves the noise as it was."""

    TIME_MASK = 1
    CHANNEL_MASK = 2
    DISTRACTORS = 3
    GUMBEL_NOISE = 4


class ClipDraws:
    """The numbers of a batch of clips, from their `seeds` (B,). Each call takes new ones.

    Shapes start with B. The numbers of a clip are counted row by row, so cutting the second dimension off, which is
    that of frames, changes none of those that remain.

    >>> draws = ClipDraws(torch.tensor([7, 8, 7]))
    >>> numbers = draws.uniform(3, 100)
    >>> torch.equal(numbers[0], numbers[2]), torch.equal(numbers[1:2, :60], ClipDraws(torch.tensor([8])).uniform(1, 60))
    (True, True)
    """

    def __init__(self, seeds: Tensor, purpose: int = 0) -> None:
        if seeds.dim() != 1 or seeds.dtype.is_floating_point:
            raise ValueError(
                f"clip_seeds has shape {tuple(seeds.shape)} and dtype {seeds.dtype}: must be one integer per clip"
            )
        self.seeds = seeds.long()
        self.purpose = purpose
        self.calls = 0

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), multiples of 2^-24, in float32."""
        return (self.integers(*shape) >> 8).float().mul_(2.0**-24).add_(0.5)

    def exponential(self, *shape: int) -> Tensor:
        """Numbers above 0 with density exp(-x), in float32. Small ones, which make large Gumbel noise, are multiples of
        2^-32: 31 random bits lose nothing next to 0, and as a float32 they are kept below 1."""
        level = (self.integers(*shape) & 0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31 * (1 - 2**-24))
        return level.neg_().log1p_().neg_()

    def integers(self, *shape: int) -> Tensor:
        """Numbers uniform over all of int32."""
        if shape[0] != self.seeds.shape[0]:
            raise ValueError(f"clip_seeds has {self.seeds.shape[0]} seeds: must be one for each of {shape[0]} clips")
        first, second = self.next_keys()
        position = torch.arange(prod(shape[1:]), device=self.seeds.device, dtype=torch.int32)
        mixed = fold(position ^ first[:, None], 16).mul_(0x7FEB352D).add_(second[:, None])
        mixed = fold(fold(mixed, 15).mul_(0x846CA68B - 2**32), 16)
        return mixed.view(shape)

    def next_keys(self) -> tuple[Tensor, Tensor]:
        """Two int32 keys for each clip (B,), which are different for every purpose and at every call."""
        stream = (self.purpose << 16) + self.calls
        self.calls += 1
        key = finalise(finalise(self.seeds) + stream * 0x9E3779B9)
        return (key >> 32).int(), ((key & 0xFFFFFFFF) - 2**31).int()


#: Where random numbers come from: a generator, the clips, or torch's own state.
Draws = torch.Generator | ClipDraws | None


def choose_draws(generator: torch.Generator | None, clip_seeds: Tensor | None, device: torch.device) -> Draws:
    """Where a caller wants random numbers to come from. Both at once are refused: they decide the same numbers."""
    if clip_seeds is None:
        return generator
    if generator is not None:
        raise ValueError("generator and clip_seeds would decide the same numbers: pass one of them")
    return ClipDraws(clip_seeds.to(device))


def for_purpose(draws: Draws, purpose: Purpose) -> Draws:
    """The same source, with numbers of the clips that are drawn for nothing else."""
    return ClipDraws(draws.seeds, purpose) if isinstance(draws, ClipDraws) else draws


def uniform(*shape: int, device: torch.device, draws: Draws = None) -> Tensor:
    """Numbers in [0, 1), in float32. (`torch.rand` refuses symbolic sizes if it is handed a generator, even None.)"""
    if isinstance(draws, ClipDraws):
        return draws.uniform(*shape)
    return torch.empty(shape, device=device, dtype=torch.float32).uniform_(generator=draws)


def exponential(like: Tensor, draws: Draws = None) -> Tensor:
    """Numbers with density exp(-x), in the shape and dtype of `like`."""
    if isinstance(draws, ClipDraws):
        return draws.exponential(*like.shape).to(like.dtype)
    return torch.empty_like(like).exponential_(generator=draws)


def fold(x: Tensor, shift: int) -> Tensor:
    """x ^= x >> shift on the bits of int32, in place. (torch's shift of a negative number moves ones in.)"""
    return x.bitwise_xor_((x >> shift).bitwise_and_(2 ** (32 - shift) - 1))


def finalise(x: Tensor) -> Tensor:
    """Every bit of an int64 depends on every other: SplitMix64's finaliser, on the signed integers that torch has."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ ((x >> 27) & (2**37 - 1))) * (0x94D049BB133111EB - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))
