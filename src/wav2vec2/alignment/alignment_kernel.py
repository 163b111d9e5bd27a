"""The best path through a trellis as one Triton kernel: on a GPU a frame then costs no launch.

What `alignment_trellis.py` does frame by frame for the batch, one program does here for each utterance: forward, with
what the best path into each state did written down, and back. The numbers and the choices are the same.

Shapes: B utterances, T frames, V tokens, S states, P places for them (the next power of 2).
"""

# Triton takes kernels without types, but for what is constant in a kernel.
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations  # where Triton is missing, they name nothing

import torch
from torch import Tensor

from wav2vec2.alignment.device_kernels import kernel, tl

#: More states do not fit into the registers of a program; more moves (B T S bytes) not into a fair share of the memory.
_MOST_STATES, _MOST_MOVES = 1 << 12, 1 << 28


def fits(columns: Tensor, frames: int) -> bool:
    """Whether a program can walk through the states (B, S) in so many frames."""
    return columns.shape[1] <= _MOST_STATES and 0 < columns.numel() * frames <= _MOST_MOVES


def walk(
    log_probs: Tensor, padding: Tensor, first: Tensor, columns: Tensor, barrier: Tensor, wild: Tensor, star_cost: float,
    floor: float,
) -> Tensor:  # fmt: skip
    """The state (B, T) of the best path in every frame, counted from each utterance's first; see `Trellis`."""
    (batch, steps, size), states = log_probs.shape, columns.shape[1]
    places = max(16, 1 << (states - 1).bit_length())
    path = torch.zeros(batch, steps, dtype=torch.long, device=columns.device)
    scores = torch.full((batch, 2, places), -torch.inf, dtype=torch.float64, device=columns.device)
    moves = torch.empty(batch, steps, states, dtype=torch.uint8, device=columns.device)
    log_probs = log_probs.float().contiguous()
    best = log_probs.amax(2).clamp(min=floor)
    tables = (log_probs, best, padding, first, columns, barrier, wild.to(torch.uint8))
    _walk[(batch,)](
        tables, scores, moves, path, steps, size, states, star_cost, floor, places=places,
        num_warps=min(16, max(1, places // 128)),
    )  # fmt: skip
    return path


@kernel
def _walk(tables, scores, moves, path, steps, size, states, star_cost, floor, places: tl.constexpr):
    """One utterance: forward through its frames, and back."""
    log_probs, best, padding, first, columns, barrier, wild = tables
    utterance = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, places)
    real = place < states
    start, waited = tl.load(first + utterance), tl.load(padding + utterance)
    column = tl.load(columns + utterance * states + place, mask=real, other=0)
    gate = tl.load(barrier + utterance * states + place, mask=real, other=float("-inf"))
    free = tl.load(wild + utterance * states + place, mask=real, other=0) != 0
    scores, moves = scores + utterance * 2 * places, moves + utterance * steps * states
    tl.store(scores + place, tl.where(place == start, 0.0, float("-inf")).to(tl.float64))
    tl.debug_barrier()  # each place reads what its neighbours wrote
    for frame in range(steps - waited):
        row = utterance * steps + frame
        now, then = scores + (frame % 2) * places, scores + ((frame + 1) % 2) * places
        said = tl.maximum(tl.load(log_probs + row * size + column), floor).to(tl.float64)
        emission = tl.where(free, -star_cost, said - tl.load(best + row).to(tl.float64))
        stay = tl.load(now + place)
        step = tl.load(now + place - 1, mask=place > 0, other=float("-inf"))
        skip = tl.load(now + place - 2, mask=place > 1, other=float("-inf")) + gate
        either = tl.maximum(stay, step)
        tl.store(then + place, tl.maximum(either, skip) + emission, mask=real)
        move = tl.where(skip > either, 2, (step > stay).to(tl.int32)).to(tl.uint8)
        tl.store(moves + frame * states + place, move, mask=real)
        tl.debug_barrier()
    now = scores + ((steps - waited) % 2) * places
    state = states - 1 - (tl.load(now + states - 2) > tl.load(now + states - 1)).to(tl.int64)
    for back in range(steps - waited):
        frame = steps - waited - 1 - back
        tl.store(path + utterance * steps + waited + frame, state - start)
        state = state - tl.load(moves + frame * states + state).to(tl.int64)
