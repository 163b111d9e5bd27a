"""Self-supervised pretraining: tell the quantized features of masked frames from distractors (paper, section 3.2).

Shapes: B batch, S samples, T frames, K distractors, D size of the comparison space.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.contrastive_loss import Contrast, contrast, diversity_loss
from wav2vec2.modeling.distractor_sampling import sample_distractors
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.gumbel_quantizer import Wav2Vec2GumbelVectorQuantizer
from wav2vec2.modeling.initialization import uniform_by_inputs
from wav2vec2.modeling.outputs import Wav2Vec2ForPreTrainingOutput
from wav2vec2.modeling.precision import full_precision
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.modeling.requirements_on_tensors import require
from wav2vec2.modeling.wav2vec2_model import Frames, Wav2Vec2Model


class Wav2Vec2ForPreTraining(Wav2Vec2PreTrainedModel):
    """The model with its quantizer and the two projections in which prediction and target are compared."""

    accepts_loss_kwargs = False
    fresh_parts = (
        *Wav2Vec2PreTrainedModel.fresh_parts,
        "quantizer.",
        "project_hid.",
        "project_q.",
    )

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        if config.add_adapter:
            raise ValueError("add_adapter=True: pretraining compares frames one by one; the adapter merges them")
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout_features = Dropout(config.feat_quantizer_dropout)
        self.quantizer = Wav2Vec2GumbelVectorQuantizer(config)
        self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            uniform_by_inputs(self.project_hid)
            uniform_by_inputs(self.project_q)

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set the Gumbel softmax's temperature by hand; `set_update` follows the configuration's schedule."""
        self.quantizer.temperature.fill_(temperature)

    def set_update(self, update: int, seed: int = 0) -> None:
        """As for every model; the temperature follows its schedule, and the count is saved with the configuration."""
        super().set_update(update, seed)
        self.config.pretraining_updates = update
        self.set_gumbel_temperature(self.config.gumbel_temperature(update))

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        sampled_negative_indices: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        generator: torch.Generator | None = None,
    ) -> Wav2Vec2ForPreTrainingOutput:
        """`mask_time_indices` (B, T) and `sampled_negative_indices` (B, T, K; frame numbers over the whole batch, as
        stock's) are drawn here, on the device and from `generator`, unless they are given."""
        frames = self.wav2vec2.encode(input_values, attention_mask)
        hidden_states, normalised = self.wav2vec2.feature_projection(frames.features)
        mask = self.choose_mask(frames, mask_time_indices, generator)
        hidden_states = self.wav2vec2.mask(hidden_states, frames, frames.trim(mask), generator)
        context = self.wav2vec2.contextualise(hidden_states, frames, output_hidden_states, output_attentions)
        predictions = self.project_hid(frames.fit(context.last_hidden_state))
        quantized = self.quantizer(self.dropout_features(normalised), mask, generator)
        targets = self.project_q(quantized.vectors.to(self.project_q.weight.dtype))
        contrastive = contrast(
            predictions,
            targets,
            quantized.codes,
            self.choose_distractors(mask, sampled_negative_indices, frames, generator),
            mask,
            self.config.contrastive_logits_temperature,
        )
        return Wav2Vec2ForPreTrainingOutput(
            projected_states=frames.trim(predictions),
            projected_quantized_states=frames.trim(targets),
            codevector_perplexity=quantized.soft_perplexity,
            code_perplexity=quantized.code_perplexity,
            hidden_states=context.hidden_states,
            attentions=context.attentions,
            **self.losses(contrastive, quantized.soft_perplexity, frames, mask.sum()),
        )

    def losses(
        self, contrastive: Contrast, soft_perplexity: Tensor, frames: Frames, num_masked: Tensor
    ) -> dict[str, Any]:
        """The three losses, each a sum over masked frames, and their weighted total."""
        config = self.config
        num_codes = config.num_codevectors_per_group * config.num_codevector_groups
        diversity = diversity_loss(soft_perplexity, num_codes) * num_masked
        penalty = mean_square(frames) * num_masked
        loss = contrastive.loss + config.diversity_loss_weight * diversity
        if config.feature_penalty_weight:
            loss = loss + config.feature_penalty_weight * penalty
        return {
            "loss": loss,
            "contrastive_loss": contrastive.loss,
            "diversity_loss": diversity,
            "feature_penalty": penalty,
            "accuracy": contrastive.accuracy,
            "positive_negative_share": contrastive.positive_negative_share,
            "num_masked": num_masked,
        }

    def choose_mask(self, frames: Frames, given: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The frames to predict (B, T)."""
        if given is not None:
            expected = (frames.features.shape[0], frames.num_frames)
            if tuple(given.shape) != expected:
                raise ValueError(
                    f"mask_time_indices has shape {tuple(given.shape)}: must be {expected}, (batch, frames)"
                )
            return frames.fit(given.bool())
        if self.config.mask_time_prob == 0:
            raise ValueError(
                "mask_time_prob=0: nothing would be predicted; set it (paper: 0.65) or pass mask_time_indices"
            )
        return self.wav2vec2.draw_time_mask(frames, generator)

    def choose_distractors(
        self, mask: Tensor, given: Tensor | None, frames: Frames, generator: torch.Generator | None
    ) -> Tensor:
        """Distractors as frame numbers within each clip (B, T, K)."""
        if given is None:
            return sample_distractors(mask, self.config.num_negatives, generator)
        if given.dim() != 3 or tuple(given.shape[:2]) != (mask.shape[0], frames.num_frames):
            raise ValueError(
                f"sampled_negative_indices has shape {tuple(given.shape)}: must be "
                f"({mask.shape[0]}, {frames.num_frames}, distractors)"
            )
        first = torch.arange(mask.shape[0], device=mask.device)[:, None, None] * frames.num_frames
        within = given.long() - first
        require(
            ((within >= 0) & (within < frames.num_frames)).all(),
            "sampled_negative_indices: distractors must be frames of the clip itself, numbered over the whole batch "
            "(clip * frames + frame)",
        )
        return frames.fit(within)


def mean_square(frames: Frames) -> Tensor:
    """Mean of the squared convolution output over the real frames."""
    squares = full_precision(frames.features).square().mean(dim=2)  # (B, T)
    if frames.mask is None:
        return squares.mean() if frames.num_frames else squares.sum() * 0
    return squares.masked_fill(~frames.mask, 0.0).sum() / frames.lengths.sum().clamp(min=1)
