"""The best path through the states of CTC targets: Viterbi, for a whole batch at once and in bounded memory.

Targets of U tokens have S = 2 U + 1 states: blank, token, blank, ... , token, blank. From one frame to the next a path
stays, steps to the next state, or skips the blank between two tokens that differ.

Two tricks keep this short and fast.
- Utterances and their states are aligned at their ends. All paths then end in the last two states of the last frame,
  and the frames before an utterance begins are spent in its first state at no cost: mixed lengths need no other care.
- Emissions are relative to the best token of their frame. This changes all paths alike, and a path that agrees with
  the model costs nothing: no precision is lost in an hour of frames.

Memory. What a path did is kept for a block of frames only. Forward, the scores are kept at the start of every block;
backward, a block is computed once more, for the few states from which its last state can be reached (two per frame).
The result is exactly that of one big table. Only differences of scores are compared, in float64.

Shapes: B utterances, T frames, V tokens, U targets, S states, N frames of a block, W states of a window.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2vec2.alignment.alignment_kernel import fits, walk
from wav2vec2.alignment.device_kernels import usable

#: Numbers in one table. A few tables stand at a time: about 150 MB in all.
CELLS = 1 << 22

#: The lowest log-probability that is told apart from impossible. It keeps one impossible token from spoiling the rest.
FLOOR = -1e4

_INFINITY = float("inf")


class Trellis(NamedTuple):
    """What there is to search. States are counted so that the last state of every utterance is S - 1."""

    #: (B, T, V).
    log_probs: Tensor
    #: (B,) frames to wait before the utterance begins.
    padding: Tensor
    #: (B,) the first state of the utterance.
    first: Tensor
    #: (B, S) the token that a state emits.
    columns: Tensor
    #: (B, S) whether a state emits anything, at a price.
    wild: Tensor
    #: (B, S) 0 where a state may be entered from two states before, else -inf.
    barrier: Tensor
    #: That price: nats a frame.
    star_cost: float

    @property
    def frames(self) -> int:
        """Frames to walk: those of the longest utterance."""
        return int(self.log_probs.shape[1])

    @property
    def tokens(self) -> int:
        """Tokens of the vocabulary."""
        return int(self.log_probs.shape[2])

    @property
    def states(self) -> int:
        """States of the longest utterance."""
        return int(self.columns.shape[1])


def build_trellis(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    blank: int,
    star: int | None,
    star_cost: float,
) -> Trellis:
    """Lay out the states of targets (B, U) for log_probs (B, T, V)."""
    device, (batch, tokens) = log_probs.device, targets.shape
    position = torch.arange(tokens, device=device) - (tokens - target_lengths)[:, None]  # (B, U)
    labels = targets.gather(1, position.clamp(min=0)).masked_fill(position < 0, blank)
    columns = torch.full((batch, 2 * tokens + 1), blank, device=device)
    columns[:, 1::2] = labels
    wild = torch.zeros_like(columns, dtype=torch.bool)
    if star is not None:
        wild = columns == star
    may_skip = torch.zeros_like(wild)
    may_skip[:, 3::2] = (labels[:, 1:] != labels[:, :-1]) | wild[:, 3::2]
    precision = torch.float32 if device.type == "mps" else torch.float64  # Metal has no float64
    barrier = torch.zeros(columns.shape, device=device, dtype=precision).masked_fill(~may_skip, -_INFINITY)
    padding, first = log_probs.shape[1] - lengths, 2 * (tokens - target_lengths)
    return Trellis(log_probs, padding, first, columns.masked_fill(wild, blank), wild, barrier, star_cost)


def best_path(trellis: Trellis) -> Tensor:
    """The state (B, T) of the best path in every frame, aligned at the ends, counted from each utterance's first."""
    batch, frames, states = trellis.columns.shape[0], trellis.frames, trellis.states
    if usable(trellis.log_probs.device) and fits(trellis.columns, frames):
        return walk(*trellis[:4], trellis.barrier, trellis.wild, trellis.star_cost, FLOOR)
    block = frames
    if batch * frames * max(states, trellis.tokens) > CELLS:
        block = max(16, min(int((CELLS / batch / 2) ** 0.5), CELLS // (batch * trellis.tokens)))
    entries = _forward(trellis, block)
    path = np.empty((batch, frames), dtype=np.int64)
    state = np.empty(batch, dtype=np.int64)
    for number in reversed(range(len(entries))):
        begin, end = number * block, min((number + 1) * block, frames)
        width = min(states, 2 * (end - begin) + 2)
        last = torch.from_numpy(state).to(trellis.first) if end < frames else torch.full_like(trellis.first, states - 1)
        low = (last - width + 1).clamp(min=0)
        barrier = _window(trellis.barrier, low, width)
        emissions = _emissions(trellis, begin, end, low, width)
        table = _sweep(entries.pop().at(low, width), emissions, barrier, rows=end - begin + 1)  # (N + 1, B, 2 + W)
        if end == frames:  # a path ends in the last blank or the last token, whichever is better
            state = states - 1 - (table[-1, :, -2] > table[-1, :, -1]).long().cpu().numpy()
        _walk_back(table, barrier, low.cpu().numpy(), state, path[:, begin:end])
    return torch.from_numpy(path).to(trellis.first) - trellis.first[:, None]


class _Scores(NamedTuple):
    """Scores (B, W) of the paths that are in the states low ... low + W - 1; all others are out of the race."""

    low: int
    values: Tensor

    def at(self, low: Tensor, width: int) -> Tensor:
        """The scores (B, 2 + width) from the state low (B,) on, after two states that no path is in."""
        index = low[:, None] - self.low + torch.arange(width, device=low.device)
        known = (index >= 0) & (index < self.values.shape[1])
        values = self.values.gather(1, index.clamp(0, self.values.shape[1] - 1)).masked_fill(~known, -_INFINITY)
        return torch.nn.functional.pad(values, (2, 0), value=-_INFINITY)


def _forward(trellis: Trellis, block: int) -> list[_Scores]:
    """The scores at the start of every block."""
    batch, frames, states = trellis.columns.shape[0], trellis.frames, trellis.states
    values = torch.full_like(trellis.barrier, -_INFINITY).scatter_(1, trellis.first[:, None], 0.0)
    scores = _Scores(0, values)
    entries = [scores]
    last_block = (frames - 1) // block * block
    chunk = min(block, max(1, CELLS // (batch * states)))  # frames for which emissions fit into a table
    for begin in range(0, last_block, block):
        for start in range(begin, begin + block, chunk):
            scores = _advance(trellis, scores, start, min(start + chunk, begin + block))
        entries.append(scores)
    return entries


def _advance(trellis: Trellis, scores: _Scores, begin: int, end: int) -> _Scores:
    """The scores after the frames begin ... end - 1, of the states from which the end is still within reach."""
    states = trellis.states
    low = max(0, states - 2 - 2 * (trellis.frames - begin))
    reached = trellis.first + 2 * (end - trellis.padding).clamp(min=0) + 1
    width = max(1, min(states, int(reached.max())) - low)
    lows = torch.full_like(trellis.first, low)
    barrier = _window(trellis.barrier, lows, width)
    rows = _sweep(scores.at(lows, width), _emissions(trellis, begin, end, lows, width), barrier, rows=2)
    return _Scores(low, rows[(end - begin) % 2, :, 2:])


def _window(values: Tensor, low: Tensor, width: int) -> Tensor:
    """The columns low (B,) ... low + width - 1 of values (B, S)."""
    return values.gather(1, low[:, None] + torch.arange(width, device=low.device))


def _emissions(trellis: Trellis, begin: int, end: int, low: Tensor, width: int) -> Tensor:
    """What the frames begin ... end - 1 say to the states of a window, relative to their best token: (N, B, W)."""
    frame = torch.arange(begin, end, device=low.device) - trellis.padding[:, None]  # (B, N)
    log_probs = trellis.log_probs[:, begin:end]
    if bool((trellis.padding > 0).any()):
        rows = torch.arange(frame.shape[0], device=low.device)[:, None]
        log_probs = trellis.log_probs[rows, frame.clamp(min=0)]
    relative = log_probs.to(trellis.barrier.dtype).clamp(min=FLOOR)  # (B, N, V)
    relative = (relative - relative.amax(2, keepdim=True)).transpose(0, 1)  # (N, B, V)
    columns = _window(trellis.columns, low, width).expand(end - begin, -1, -1)  # (N, B, W)
    emissions = relative.gather(2, columns)
    wild = _window(trellis.wild, low, width)
    if bool(wild.any()):
        emissions.masked_fill_(wild, -trellis.star_cost)
    before = (frame < 0).T[:, :, None]  # (N, B, 1)
    if bool(before.any()):
        waiting = low[:, None] + torch.arange(width, device=low.device) == trellis.first[:, None]  # (B, W)
        emissions.masked_fill_(before & ~waiting, -_INFINITY).masked_fill_(before & waiting, 0.0)
    return emissions


def _sweep(entry: Tensor, emissions: Tensor, barrier: Tensor, rows: int) -> Tensor:
    """Scores (rows, B, 2 + W), the newest written over the oldest; row 0 begins as the entry (B, 2 + W)."""
    table = entry.new_full((rows, *entry.shape), -_INFINITY)
    table[0] = entry
    stay, step, skip = table[..., 2:].unbind(), table[..., 1:-1].unbind(), table[..., :-2].unbind()
    best = torch.empty_like(barrier)
    for frame, emission in enumerate(emissions.unbind()):
        now = frame % rows
        torch.add(skip[now], barrier, out=best)
        torch.maximum(best, step[now], out=best)
        torch.maximum(best, stay[now], out=best)
        torch.add(best, emission, out=stay[(frame + 1) % rows])
    return table


def _walk_back(
    table: Tensor, barrier: Tensor, low: NDArray[np.int64], state: NDArray[np.int64], path: NDArray[np.int64]
) -> None:
    """Write the states of a block into path (B, N), from the last one, and leave in `state` the one before."""
    stay, step, skip = table[:-1, :, 2:], table[:-1, :, 1:-1], table[:-1, :, :-2] + barrier
    moved = (step > stay).to(torch.uint8)  # back-pointers: 0 stayed, 1 stepped, 2 skipped a blank
    moves = moved.masked_fill_(skip > torch.maximum(stay, step), 2).cpu().numpy()  # (N, B, W)
    utterance = np.arange(len(state))
    for frame in reversed(range(moves.shape[0])):
        path[:, frame] = state
        state -= moves[frame, utterance, state - low]
