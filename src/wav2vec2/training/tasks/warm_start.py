"""The warm start of pretraining: the convolutions learn to say log-mel energies before the objective takes over.

The frames of a fresh encoder are all alike: the contrastive task finds nothing in them to tell apart, and stays at
chance or ends with a few codes for everything. Under a linear head that is thrown away, some hundred updates give them
content. Nothing else moves meanwhile: what is above the convolutions stands in the graph with a gradient of zero, so
that no distributed wrapper waits for it, and the optimizer is given none.

    WarmStartModel     the model that is trained, with the head
    LogMelTask         what is learnt first
    WarmStartedTask    first that, then the objective: what the loop sees
    WithoutHead        a checkpoint's model folder as it is without the head
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.modeling.layer_drop import join_with_zero_gradient
from wav2vec2.modeling.log_mel import LogMelHead, SaidLogMel
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.progress.throughput import update_operations
from wav2vec2.training.saving.checkpoints import TRAINING_WEIGHTS
from wav2vec2.training.tasks.pretraining_task import PretrainingTask, encoder_inputs
from wav2vec2.training.tasks.task import Inputs, PartOutput, Sums, exact

_WEIGHTS = "model.safetensors"
_HEAD = "log_mel_head"


class WarmStartModel(Wav2Vec2ForPreTraining):
    """The model with the head of a warm start. While it `warms_up`, its output is what the head makes of the frames."""

    warms_up = False

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.log_mel_head = LogMelHead(self.config)
        self.post_init()

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """As of the model without the head, unless it warms up. Either way all parameters are in the graph."""
        if self.warms_up:
            said = self.say_log_mel(**keywords)
            return said._replace(loss=join_with_zero_gradient(said.loss, *self.held_parameters()))
        output = super().forward(*inputs, **keywords)
        if output.loss is not None:
            output.loss = join_with_zero_gradient(output.loss, *self.held_parameters())
        return output

    def say_log_mel(self, input_values: Tensor, attention_mask: Tensor | None) -> SaidLogMel:
        """The head's errors on waveforms (B, S) whose real samples are marked by `attention_mask` (B, S)."""
        waveforms, samples = self.wav2vec2.real_samples(input_values, attention_mask)
        frames = self.wav2vec2.convolve(waveforms, samples)
        if samples is None:
            samples = frames.lengths.new_full(frames.lengths.shape, waveforms.shape[1])
        features = self.wav2vec2.feature_projection.layer_norm(frames.features)
        said: SaidLogMel = self.log_mel_head(features, waveforms, samples, frames.lengths)
        return said

    def held_parameters(self) -> list[nn.Parameter]:
        """What is not trained at present: all but what the head stands on while it warms up, the head itself later."""
        if not self.warms_up:
            return list(self.log_mel_head.parameters())
        moving = (self.wav2vec2.feature_extractor, self.wav2vec2.feature_projection.layer_norm, self.log_mel_head)
        ours = {id(parameter) for module in moving for parameter in module.parameters()}
        return [one for one in self.parameters() if one.requires_grad and id(one) not in ours]


#: What a checkpoint's configuration says of it: without the head, that is what it is.
WarmStartModel.__name__ = Wav2Vec2ForPreTraining.__name__


class LogMelTask:
    """Say the log-mel energies of every real frame. The loss of an update is the mean over its frames and bands."""

    def begin(self, model: WarmStartModel, update: int) -> None:
        """Nothing depends on the update: no noise is drawn, and nothing is dropped."""

    def counts(self, inputs: Inputs) -> Tensor:
        """Real frames."""
        return inputs["num_frames"].float()[None]

    def whole_update(
        self, model: Any, parts: Sequence[Inputs], counts: Tensor, reduce: Callable[[Tensor], Tensor] | None
    ) -> None:
        """Frames know nothing of each other."""

    def part(self, model: Any, inputs: Inputs, whole: None) -> PartOutput:
        """One part's share of the loss."""
        said = model(**{name: encoder_inputs(inputs)[name] for name in ("input_values", "attention_mask")})
        return PartOutput(said.loss, {"loss": exact(said.loss), "log_mel_frames": exact(said.frames)})

    def before_step(self, model: WarmStartModel) -> None:
        """There is no count to keep: the updates that a checkpoint tells of are those of the objective."""

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """The mean of the squared errors; without a frame there is none."""
        frames = sums["log_mel_frames"]
        return {"log_mel_error": sums["loss"] / frames} if frames else {}


class WarmStartedTask:
    """So many updates of the warm start, then the objective, which begins with its own first update."""

    def __init__(self, objective: PretrainingTask, updates: int) -> None:
        self.objective, self.updates = objective, updates
        self.criterion, self.config, self.waveforms = objective.criterion, objective.config, objective.waveforms
        self.num_groups, self.chance = objective.num_groups, objective.chance
        #: What the update at hand learns, and how many updates are done with it.
        self.now: LogMelTask | PretrainingTask = objective
        self.done = 0

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """The objective's inputs: the warm start needs no others."""
        return self.objective.with_targets(waveforms, clips)

    def begin(self, model: Wav2Vec2ForPreTraining, update: int) -> None:
        """Whose turn it is. A model without a head is one that has its warm start behind it."""
        warms_up = update < self.updates
        self.now, self.done = LogMelTask() if warms_up else self.objective, update + 1
        if isinstance(model, WarmStartModel):
            model.warms_up = warms_up
        self.now.begin(model, update if warms_up else update - self.updates)

    def counts(self, inputs: Inputs) -> Tensor:
        """What the one at hand counts."""
        return self.now.counts(inputs)

    def whole_update(
        self, model: Any, parts: Sequence[Inputs], counts: Tensor, reduce: Callable[[Tensor], Tensor] | None
    ) -> Any:
        """What the one at hand needs to know."""
        return self.now.whole_update(model, parts, counts, reduce)

    def part(self, model: Any, inputs: Inputs, whole: Any) -> PartOutput:
        """The part as the one at hand sees it."""
        return self.now.part(model, inputs, whole)

    def before_step(self, model: Wav2Vec2ForPreTraining) -> None:
        """Take the zeros from what is not trained: to an optimizer they would be gradients, with moments and decay."""
        for parameter in model.held_parameters():
            parameter.grad = None
        self.now.before_step(model)

    def operations(self, samples: Sequence[int], convolved: Sequence[int] | None = None) -> float:
        """Those of the one at hand: the warm start leaves the Transformer out."""
        if self.now is self.objective:
            return self.objective.operations(samples)
        return update_operations(self.config, samples, uses_transformer=False)

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """The figures of the one at hand. (The loop writes a line where they change, so none has sums of both.)"""
        return self.now.figures(sums)

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The objective's alone: before it has begun, the loop evaluates nothing."""
        return self.objective.evaluation_part(model, inputs)

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """The objective's."""
        return self.objective.evaluation_figures(sums)


class WithoutHead:
    """Takes the head out of a checkpoint's model. Inside the warm start, which it is needed to go on with, the weights
    with it are kept beside the optimizer."""

    def __init__(self, task: WarmStartedTask) -> None:
        self.task = task

    def save_pretrained(self, save_directory: str | os.PathLike[str], /) -> None:
        """Write the folder's weights anew; those of a model that has no head any more are as they should be."""
        folder = Path(save_directory)
        trained = load_file(folder / _WEIGHTS)
        kept = {name: tensor for name, tensor in trained.items() if not name.startswith(f"{_HEAD}.")}
        if len(kept) == len(trained):
            return
        if self.task.done < self.task.updates:
            (folder / TRAINING_WEIGHTS).parent.mkdir(exist_ok=True)
            (folder / _WEIGHTS).rename(folder / TRAINING_WEIGHTS)
        save_file(kept, folder / _WEIGHTS, {"format": "pt"})
