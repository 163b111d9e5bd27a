"""From the channels of a recording to the one that a model hears.

Shapes: n samples, C channels.
"""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_error import AudioError

#: "mean" of all channels, the "first", a channel by its number from 0, or an "error" if there are several.
Channels: TypeAlias = Literal["mean", "first", "error"] | int


def check_channels(channels: Channels) -> None:
    """Raise `ValueError` unless `channels` is a policy."""
    number = isinstance(channels, int) and not isinstance(channels, bool) and channels >= 0
    if not number and channels not in ("mean", "first", "error"):
        raise ValueError(f"channels must be 'mean', 'first', 'error' or a number from 0, got {channels!r}")


def to_mono(block: NDArray[np.float32], channels: Channels, name: str) -> NDArray[np.float32]:
    """(n, C) -> (n,), finite; `name` is what errors call the recording."""
    count = block.shape[1]
    if channels == "error" and count > 1:
        raise AudioError(name, f"it has {count} channels; choose with channels='mean', 'first' or a number")
    if isinstance(channels, int) and channels >= count:
        raise AudioError(name, f"it has {count} channels, numbered from 0: there is no channel {channels}")
    if channels != "mean":
        block = block[:, [channels if isinstance(channels, int) else 0]]
    if not np.isfinite(block).all():
        kind = "NaN" if np.isnan(block).any() else "infinite samples"
        raise AudioError(name, f"it holds {kind}")
    if block.shape[1] == 1:
        return block[:, 0]
    return block.mean(axis=1, dtype=np.float64).astype(np.float32)  # float32 sums could overflow
