"""What the loop must know of what it trains: how clips become inputs, what is summed, what the sums mean.

An update's batch is cut into parts, over processes and over time. Whatever is a mean over the update is therefore kept
as a sum until all parts are there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.training.data.audio_clips import ClipFacts, LoadedClip
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.settings.model_choice import AnyConfig

#: What a model takes, and what figures need. `dropped` (B,) marks clips that cannot be learned from (a target that is
#: longer than its audio); the loop lists them.
Inputs = dict[str, Tensor]
Sums = dict[str, Tensor]


class PartOutput(NamedTuple):
    """What one part of an update gives: its share of the `loss` (), a sum over the update's items, and `sums`, what is
    added up over parts and processes, on the model's device."""

    loss: Tensor
    sums: Sums


class Task(Protocol):
    """Pretraining of either kind, CTC, classification: all that the loop asks of them."""

    #: The figure of an evaluation that says how good the model is (lower is better); it decides what the best is.
    criterion: str
    #: What the model is.
    config: AnyConfig
    #: Codebooks, and the accuracy of guessing; 0 and None where there is nothing to collapse.
    num_groups: int
    chance: float | None

    #: Clips -> `input_values`, `sample_lengths` and `clip_seeds`, in worker processes.
    waveforms: Waveforms

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """The inputs with what is to be learnt of these clips, in the training process: only here are a tokenizer and
        the model's mathematics. The clips are in the first rows; a row without one counts for nothing."""

    def counts(self, inputs: Inputs) -> Tensor:
        """What the loss of an update is divided by comes first, then what else `whole_update` needs as a sum: (n,), in
        float32, where the inputs are."""

    def begin(self, model: Any, update: int) -> None:
        """Prepare the model (without its wrappers) for an update."""

    def whole_update(
        self, model: Any, parts: Sequence[Inputs], counts: Tensor, reduce: Callable[[Tensor], Tensor] | None
    ) -> Any:
        """What each part needs to know of the whole. `counts` are summed over parts and processes; `reduce` sums over
        processes, and is None where there is one."""

    def part(self, model: Any, inputs: Inputs, whole: Any) -> PartOutput:
        """Forward pass of one part."""

    def before_step(self, model: Any) -> None:
        """The gradient of the update is there; nothing is changed by it yet."""

    def operations(self, samples: Sequence[int], convolved: Sequence[int] | None = None) -> float:
        """Of the update that was begun, over rows of so many samples, padding included; `convolved` are those of the
        clips that went through the convolutions, where their output is kept."""

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Sums over one update or several -> the figures of the log."""

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """Forward pass of one part of an evaluation."""

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Sums over the evaluation's data -> the figures of the log."""


def inputs_of(task: Task, clips: list[LoadedClip]) -> Inputs:
    """The inputs of clips that are at hand."""
    return task.with_targets(task.waveforms(clips), [clip.facts for clip in clips])


def real_samples(inputs: Inputs) -> Tensor:
    """The attention mask (B, S), made where the lengths are: on a device that is faster than copying it there."""
    return frames_within(inputs["sample_lengths"], inputs["input_values"].shape[1])


def exact(value: Tensor) -> Tensor:
    """Without gradient, in the widest floats that the device has, so that the order of adding up hardly matters."""
    return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
