"""Attention in chunks: the Transformer of a stream, computed for a whole clip at once.

A clip is cut into chunks of `size` frames. In every layer a frame sees its own chunk, `left` frames before it, the
first `sinks` frames of the clip (attention sinks: Xiao et al., 2023), and `right` frames behind its chunk. Those that
lie behind are copies, as in wav2vec-S (Fu et al., 2024): each chunk has its own, which are computed with what this
chunk may see and are seen by it alone. So the look-ahead does not add up over the layers: what comes out for a chunk
depends on nothing later than `right` frames behind it. And what a chunk shows to later ones does not depend on them, so
a stream keeps the keys and values of `left` + `sinks` frames in every layer, and computes each chunk once
(`kept_keys.py`).

The positional convolution obeys the same limit: for a chunk and its copies it hears what came before, and zeros beyond
the copies, as at the end of a clip. Its weights are those of the checkpoint.

    size 2, right 1, frames 0 1 2 3 4:     0 1 (2) | 2 3 (4) | 4 -  -      copies in brackets, "-": no frame there

Shapes: B batch, H heads, T frames, N chunks, W = size + right, L = N W places, C channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, sym_min

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.input_checks import is_exported


class Chunks(NamedTuple):
    """What a frame sees, in frames."""

    #: Frames in a chunk; None: all see all, and what follows has no meaning.
    size: int | None = None
    #: Frames before the chunk that are seen; None: all.
    left: int | None = None
    #: Frames behind the chunk that are seen.
    right: int = 0
    #: Frames at the beginning of the clip that are seen, however far back they lie.
    sinks: int = 0

    @classmethod
    def of(cls, config: Wav2Vec2Config) -> "Chunks":
        """What a configuration says."""
        return cls(config.attention_chunk, config.attention_left, config.attention_right, config.attention_sinks)


class ChunkPlaces:
    """Where the frames of a clip and their copies stand while the Transformer works on them, chunk after chunk."""

    def __init__(self, chunks: Chunks, size: int, frames: int, device: torch.device) -> None:
        self.chunks, self.frames = chunks, frames
        self.size = sym_min(size, frames)
        self.right = sym_min(chunks.right, frames - self.size)
        self.width = self.size + self.right
        self.count = -(-frames // self.size)
        place, own = torch.arange(self.count * self.width, device=device), torch.arange(frames, device=device)
        #: Where the chunk of each place begins (L,).
        self.start = place // self.width * self.size
        frame = self.start + place % self.width
        #: Whether the place is that of a copy, and whether there is such a frame (L,).
        self.copy, self.there = frame >= self.start + self.size, frame < frames
        #: The frame at each place (L,); the last one where there is none.
        self.frame = frame.clamp(max=frames - 1)
        #: Where the frames themselves stand (T,).
        self.own = own // self.size * self.width + own % self.size

    def spread(self, x: Tensor) -> Tensor:
        """Frames to their places: (B, T, C) -> (B, L, C)."""
        return x[:, self.frame]

    def gathered(self, x: Tensor) -> Tensor:
        """The frames themselves: (B, L, C) -> (B, T, C)."""
        return x[:, self.own]

    def positions(self, x: Tensor, embed: Callable[[Tensor, int], Tensor], before: int) -> Tensor:
        """The positional convolution `embed`, which is told how many frames it only hears: (B, T, C) -> (B, L, C)."""
        padded = F.pad(x, (0, 0, before, self.count * self.size + self.right - self.frames))
        windows = padded.unfold(1, before + self.width, self.size).transpose(2, 3)  # (B, N, before + W, C)
        return embed(windows.flatten(0, 1), before).reshape(x.shape[0], -1, x.shape[2])

    def visible(self, frame_mask: Tensor | None) -> Tensor:
        """Which keys each place sees, (B, 1, L, L) or the same for all clips. A place sees itself whatever it holds, so
        that a row of padding is finite."""
        query, key = self.start[:, None], self.start[None, :]
        past = (key < query) & ~self.copy
        if self.chunks.left is not None:
            past &= (self.frame >= query - self.chunks.left) | (self.frame < self.chunks.sinks)
        real = self.there[None] if frame_mask is None else self.there & frame_mask[:, self.frame]  # (B, L)
        place = torch.arange(len(self.frame), device=self.frame.device)
        return (((past | (query == key)) & real[:, None, :]) | (place[:, None] == place))[:, None]

    def weights(self, weights: Tensor) -> Tensor:
        """How much each frame attended to each, in whichever copy: (B, H, L, L) -> (B, H, T, T)."""
        rows = weights[:, :, self.own]
        return rows.new_zeros(*rows.shape[:3], self.frames).index_add(3, self.frame, rows)


def places_of(chunks: Chunks, frames: int, device: torch.device, implementation: str) -> ChunkPlaces | None:
    """The places of a clip of so many frames, or None where all frames see all."""
    if chunks.size is None:
        return None
    refuse_without_masks(implementation)
    if is_exported():
        raise ValueError(
            f"attention_chunk={chunks.size}: a program that is exported hears whole clips; set it to None, which "
            "leaves the weights as they are"
        )
    return ChunkPlaces(chunks, chunks.size, frames, device)


def refuse_without_masks(implementation: str) -> None:
    """Raise a ValueError for an implementation of attention that cannot be told which keys are seen."""
    if implementation not in ("sdpa", "eager"):
        raise ValueError(
            f"attn_implementation={implementation!r}: attention in chunks is there for 'sdpa' and 'eager' alone"
        )
