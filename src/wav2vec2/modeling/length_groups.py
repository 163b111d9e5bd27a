"""A padded batch in groups of clips of like length, so that hardly any padding is computed.

In a batch of 16 clips of 1 to 20 s half of the samples are padding, and attention's share is larger still. Clips do not
see each other, so the batch may run group by group, each as wide as its own longest clip. What that costs is the time
that a group takes however small it is, and the cut is the one for which the sum over the groups is least.

Only for inference: with a gradient, and in training, a batch stays whole.

Shapes: B batch, S samples, n clips of a group, T frames, H heads.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from wav2vec2.modeling.feature_encoder import frames_within


class GroupCost(NamedTuple):
    """What a group costs beside its clips, in seconds of audio that are computed in the same time: it takes as long as
    `at_least` of them however little it holds, and `each` of them come on top of what it holds."""

    at_least: float
    each: float

    def of(self, seconds: float) -> float:
        """The cost of a group with so much audio, padding included."""
        return max(seconds, self.at_least) + self.each


#: On a CPU a clip of 1 s takes 0.21 s and 16 of them in a batch 0.17 s each (base in float32, one core): a group costs
#: a fifth of a second of audio, which is what its weights take to come out of memory.
_ON_CPU = GroupCost(at_least=0.0, each=0.2)

#: On an H200 base in bfloat16 computes 23,500 s of audio a second, and no batch takes less than 6.5 ms, in which the
#: host starts its kernels: 150 s of audio. Of more than that, 16 clips of 15 s take 11.1 ms where 64 take 40.7: what is
#: fixed beside the audio is about 1 ms.
_ON_ACCELERATOR = GroupCost(at_least=150.0, each=20.0)

_SAMPLING_RATE = 16_000


class LengthGroup(NamedTuple):
    """Clips that are computed together: which (n,), how many samples the longest has, and how many each has (n,), None
    if all have as many as the longest."""

    rows: Tensor
    width: int
    lengths: Tensor | None


def can_be_cut(lengths: Tensor) -> bool:
    """Whether a batch may run group by group: nothing is to have a gradient, the host may wait for the lengths, and
    this process computes by itself. (Where weights are sharded, all processes must call every layer equally often.)"""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    if type(lengths) is not Tensor or lengths.device.type == "meta" or len(lengths) == 0:
        return False
    if lengths.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_world_size() == 1


def length_groups(lengths: Tensor, shortest: int) -> list[LengthGroup]:
    """The groups of clips of `lengths` (B,) samples, of which fewer than `shortest` take as long as `shortest`.

    The host waits for the device once, to read the lengths.
    """
    ordered, order = lengths.sort(stable=True)
    samples: list[int] = ordered.tolist()
    cost = _ON_CPU if lengths.device.type == "cpu" else _ON_ACCELERATOR
    seconds = [max(length, shortest) / _SAMPLING_RATE for length in samples]
    groups, begin = [], 0
    for end in cheapest_ends(seconds, cost):
        even = samples[begin] == samples[end - 1]
        groups.append(LengthGroup(order[begin:end], samples[end - 1], None if even else ordered[begin:end]))
        begin = end
    return groups


def cheapest_ends(seconds: Sequence[float], cost: GroupCost) -> list[int]:
    """Where to cut clips that are sorted by length, so that all groups together cost least: the end of each group.

    By dynamic programming: the best cut of the first `end` clips is the best one of the first `begin`, for some
    `begin`, and one group more. No cut costs less than the audio itself, so a group is not tried with still shorter
    clips once its padding alone makes it dearer than what was found.

    >>> cheapest_ends([1.0, 1.1, 5.0, 5.0, 9.0], GroupCost(at_least=0.0, each=0.5))
    [2, 4, 5]
    >>> cheapest_ends([1.0, 1.1, 5.0, 5.0, 9.0], GroupCost(at_least=20.0, each=0.5))
    [4, 5]
    """
    least, last_begin, audio = [0.0], [0], 0.0
    for end, width in enumerate(seconds, 1):
        audio += width
        least.append(math.inf)
        last_begin.append(0)
        padding = 0.0
        for begin in reversed(range(end)):
            padding += width - seconds[begin]
            if audio + padding + cost.each > least[end]:
                break
            price = least[begin] + cost.of((end - begin) * width)
            if price < least[end]:
                least[end], last_begin[end] = price, begin
    ends = [len(seconds)]
    while last_begin[ends[-1]] > 0:
        ends.append(last_begin[ends[-1]])
    return ends[::-1]


class FieldFrames(NamedTuple):
    """How many frames a field of an output has, and how many of each clip (B,) are real."""

    total: int
    real: Tensor


def joined(
    groups: Sequence[LengthGroup], parts: Sequence[ModelOutput], frames: Mapping[str, FieldFrames]
) -> dict[str, Any]:
    """The outputs of all groups as those of one batch, zero at every frame that is not real.

    `frames` is of fields (B, T, ...) and, by the name "attentions", of weights (B, H, T, T).
    """
    whole: dict[str, Any] = {}
    for name in parts[0]:
        of_field = [part[name] for part in parts]
        join = _weights_in_one if name == "attentions" else _frames_in_one
        if isinstance(of_field[0], tuple):
            whole[name] = tuple(join(groups, layer, frames[name]) for layer in zip(*of_field, strict=True))
        else:
            whole[name] = join(groups, of_field, frames[name])
    return whole


def _frames_in_one(groups: Sequence[LengthGroup], pieces: Sequence[Tensor], frames: FieldFrames) -> Tensor:
    """Pieces (n, T', ...) as (B, T, ...)."""
    whole = pieces[0].new_zeros(len(frames.real), frames.total, *pieces[0].shape[2:])
    for group, piece in zip(groups, pieces, strict=True):
        real = frames_within(frames.real[group.rows], piece.shape[1])
        whole[group.rows, : piece.shape[1]] = piece.masked_fill(~real[:, :, None], 0.0)
    return whole


def _weights_in_one(groups: Sequence[LengthGroup], pieces: Sequence[Tensor], frames: FieldFrames) -> Tensor:
    """Pieces (n, H, T', T') as (B, H, T, T); no frame attends to one that is not real."""
    whole = pieces[0].new_zeros(len(frames.real), pieces[0].shape[1], frames.total, frames.total)
    for group, piece in zip(groups, pieces, strict=True):
        width = piece.shape[2]
        real = frames_within(frames.real[group.rows], width)
        whole[group.rows, :, :width, :width] = piece.masked_fill(~real[:, None, :, None], 0.0)
    return whole
