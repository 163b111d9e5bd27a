"""Pretraining of wav2vec: tell the frames that come next from others of the same clip (paper, section 2.2).

Shapes: B batch, S samples, T frames, N distractors, G groups, V entries per group.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput, can_return_tuple

from wav2vec2.baselines.wav2vec.step_predictions import StepPredictions
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.baselines.wav2vec.wav2vec_model import Heard, Wav2VecModel, Wav2VecPreTrainedModel
from wav2vec2.modeling.contrastive_loss import sample_distractors
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.input_checks import check_distractors
from wav2vec2.modeling.random_draws import Draws, choose_draws


class WholeUpdate(NamedTuple):
    """What one part of an update must know of all parts together: their predictions () and their real frames ().
    A cost that is a mean over the frames then adds up over parts beside one that is a sum over predictions."""

    num_predictions: Tensor
    num_frames: Tensor


@dataclass
class Wav2VecForPreTrainingOutput(ModelOutput):
    """What pretraining returns. Losses are sums over predictions, so that parts of a batch can be added up."""

    #: prediction_loss, and with a k-means quantizer kmeans_loss_weight * quantizer_loss.
    loss: Tensor | None = None
    #: What telling frames to come from distractors costs.
    prediction_loss: Tensor | None = None
    #: The mean cost of a frame's quantization, times the number of predictions; zero where quantizing costs nothing.
    quantizer_loss: Tensor | None = None
    #: Share of predictions for which the true frame beats every distractor.
    accuracy: Tensor | None = None
    #: Number of predictions: what to divide the losses by.
    num_predictions: Tensor | None = None
    #: Number of real frames.
    num_frames: Tensor | None = None
    #: How many real frames find each entry the best one (G, V), where there are codebooks.
    code_counts: Tensor | None = None


class Wav2VecForPreTraining(Wav2VecPreTrainedModel):
    """wav2vec with the linear maps of its predictions."""

    accepts_loss_kwargs = False
    fresh_parts: tuple[str, ...] = ("step_predictions.",)
    #: The model without the objective.
    model_class: type[Wav2VecModel] = Wav2VecModel

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__(config)
        self.wav2vec = self.model_class(config)
        self.step_predictions = StepPredictions(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        sampled_negative_indices: Tensor | None = None,
        generator: torch.Generator | None = None,
        clip_seeds: Tensor | None = None,
        whole_update: WholeUpdate | None = None,
    ) -> Wav2VecForPreTrainingOutput:
        """`sampled_negative_indices` (B, T, N; frame numbers over the whole batch) are drawn here unless they are
        given: from `generator`, or for each clip from its seed in `clip_seeds` (B,), else from torch's random state.
        The batch is an update of its own, or the part of `whole_update` that it is."""
        draws = choose_draws(generator, clip_seeds, input_values.device)
        heard = self.wav2vec.hear(input_values, attention_mask, draws)
        targets, codes = heard.features, None
        if heard.quantized is not None:
            targets, codes = heard.quantized.vectors, heard.quantized.codes
        distractors = self.distractors(heard, sampled_negative_indices, draws)
        steps = self.step_predictions(heard.context, targets, heard.lengths, distractors, codes)
        whole = whole_update or WholeUpdate(steps.made, heard.lengths.sum())
        cost = steps.loss.new_zeros(()) if heard.quantized is None else heard.quantized.cost
        quantizer_loss = cost / whole.num_frames.clamp(min=1) * whole.num_predictions
        return Wav2VecForPreTrainingOutput(
            loss=steps.loss + self.quantizer_weight * quantizer_loss,
            prediction_loss=steps.loss,
            quantizer_loss=quantizer_loss,
            accuracy=steps.right / steps.made.clamp(min=1),
            num_predictions=steps.made,
            num_frames=heard.lengths.sum(),
            code_counts=None if heard.quantized is None else heard.quantized.code_counts,
        )

    @property
    def quantizer_weight(self) -> float:
        """Weight of `quantizer_loss`: wav2vec has no quantizer."""
        return 0.0

    def distractors(self, heard: Heard, given: Tensor | None, draws: Draws) -> Tensor:
        """For each frame other frames of its clip (B, T, N)."""
        real = frames_within(heard.lengths, heard.features.shape[1])
        if given is not None:
            return check_distractors(given, real)
        return sample_distractors(real, self.config.num_negatives, draws)
