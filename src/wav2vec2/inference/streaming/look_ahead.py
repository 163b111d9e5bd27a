"""How the time between a sound and its final text is spent, in frames of the logits.

A model that hears whole clips is run over a window: [left context | block | right context]. What it says of the block
is final, the right context is what it has heard beyond, and the next window begins one block later. So a frame waits
for the rest of its block and for the right context, and never longer. Blocks lie on a grid that begins with the stream,
whatever the packets in which the audio comes.
"""

import math
from dataclasses import dataclass

from wav2vec2.alignment.frame_times import FrameTimes

#: The part of the latency that a block takes where the caller does not say; the right context has the rest.
_SHARE_OF_BLOCK = 1 / 3


@dataclass(frozen=True)
class LookAhead:
    """A window in frames: `left` of context (None: all there is), `block` that become final, `right` of context."""

    block: int
    right: int
    left: int | None

    @classmethod
    def within(cls, latency: float, block: float | None, left_context: float | None, times: FrameTimes) -> "LookAhead":
        """The window for which no frame waits longer than `latency` seconds from its first sample on, with these
        seconds of block (by default a third of the latency) and of left context (None: all that was heard)."""
        seconds = times.stride / times.sampling_rate
        beyond = times.receptive_field - times.stride // times.every  # samples that the last frame hears further on
        least = (times.stride + beyond) / times.sampling_rate
        if not least <= latency < math.inf:
            raise ValueError(f"latency={latency}: must be at least {least:.3f} seconds, and finite")
        whole = math.floor(round((latency * times.sampling_rate - beyond) / times.stride, 6))
        if block is not None and not 0 < block <= latency:
            raise ValueError(f"block={block}: must be positive, and no longer than latency={latency}")
        if left_context is not None and not left_context >= 0:
            raise ValueError(f"left_context={left_context}: must be seconds from 0 on, or None for all that was heard")
        wanted = whole * _SHARE_OF_BLOCK if block is None else block / seconds
        size = min(max(round(wanted), 1), whole)
        unlimited = left_context is None or math.isinf(left_context)
        return cls(size, whole - size, None if unlimited else round((left_context or 0.0) / seconds))

    def first_of(self, frame: int) -> int:
        """The first frame of the window whose block begins with this frame."""
        return 0 if self.left is None else max(frame - self.left, 0)
