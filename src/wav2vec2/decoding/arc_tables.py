"""An automaton over tokens as two tables, so that any number of hypotheses take a step in one look-up.

Shapes: S states, V tokens. Column V stands for "no token" and leads back to the state itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ArcTables:
    """Where each token leads from each state, and what it earns; flat, `state * width + token` finds an arc."""

    next_state: Tensor  # (S * (V + 1),) int64
    bonus: Tensor  # (S * (V + 1),) float32
    width: int  # V + 1

    @classmethod
    def build(cls, following: np.ndarray, bonus: np.ndarray) -> "ArcTables":
        """From where the V tokens lead (S, V) and what they earn (S, V)."""
        states = len(following)
        following = np.concatenate([following, np.arange(states)[:, None]], 1, dtype=np.int64)
        bonus = np.concatenate([bonus, np.zeros((states, 1))], 1, dtype=np.float32)
        width = following.shape[1]
        return cls(torch.from_numpy(following.ravel()), torch.from_numpy(bonus.ravel()), width)

    def to(self, device: torch.device) -> "ArcTables":
        """The same tables on another device."""
        return ArcTables(self.next_state.to(device), self.bonus.to(device), self.width)

    def earn(self, states: Tensor, tokens: Tensor) -> Tensor:
        """What tokens earn after states, shapes broadcast."""
        arcs = states * self.width + tokens
        return self.bonus.index_select(0, arcs.view(-1)).view(arcs.shape)

    def follow(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Where tokens lead from states of the same shape."""
        arcs = states * self.width + tokens
        return self.next_state.index_select(0, arcs.view(-1)).view(arcs.shape)
