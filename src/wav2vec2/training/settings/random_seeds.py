"""Random numbers that follow from (seed, update, process): there is no state of generators to save or to lose."""

import random
from hashlib import blake2b

import numpy as np
import torch


def seed_of(*parts: int | str) -> int:
    """63 bits that follow from the parts, equal on every machine.

    >>> seed_of(1, 2) == seed_of(1, 2), seed_of(1, 2) == seed_of(2, 1)
    (True, False)
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_everything(seed: int, update: int, process: int) -> None:
    """Seed torch (on all devices), NumPy and Python for an update: its dropout is then always the same."""
    number = seed_of("update", seed, update, process)
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
