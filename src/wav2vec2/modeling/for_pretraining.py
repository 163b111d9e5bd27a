"""Self-supervised pretraining: tell the quantized features of masked frames from distractors (paper, section 3.2).

Shapes: B batch, S samples, T frames, K distractors, D size of the comparison space.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.contrastive_loss import Contrast, WholeUpdate, contrast, diversity_loss, sample_distractors
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.feature_encoder import UniformLinear, frames_within
from wav2vec2.modeling.gumbel_quantizer import Quantized, Wav2Vec2GumbelVectorQuantizer
from wav2vec2.modeling.input_checks import check_distractors, check_frame_mask
from wav2vec2.modeling.outputs import Wav2Vec2ForPreTrainingOutput
from wav2vec2.modeling.precision import full_precision
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.modeling.random_draws import Draws, choose_draws
from wav2vec2.modeling.span_masking import check_that_frames_are_masked, draw_time_mask
from wav2vec2.modeling.wav2vec2_model import Wav2Vec2Model


class Wav2Vec2ForPreTraining(Wav2Vec2PreTrainedModel):
    """The model with its quantizer and the two projections in which prediction and target are compared."""

    accepts_loss_kwargs = False
    fresh_parts = (*Wav2Vec2PreTrainedModel.fresh_parts, "quantizer.", "project_hid.", "project_q.")

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        if config.add_adapter:
            raise ValueError("add_adapter=True: pretraining compares frames one by one; the adapter merges them")
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout_features = Dropout(config.feat_quantizer_dropout)
        self.quantizer = Wav2Vec2GumbelVectorQuantizer(config)
        self.project_hid = UniformLinear(config.hidden_size, config.proj_codevector_dim)
        self.project_q = UniformLinear(config.codevector_dim, config.proj_codevector_dim)
        self.post_init()

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set the Gumbel softmax's temperature by hand, and save it so, until `set_update` follows the configuration's
        schedule again."""
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        self.config.gumbel_temperature_by_hand = float(temperature)
        self.quantizer.set_temperature(temperature)

    def set_update(self, update: int, seed: int = 0) -> None:
        """As for every model; the temperature follows its schedule, and the count is saved with the configuration."""
        super().set_update(update, seed)
        self.config.pretraining_updates, self.config.gumbel_temperature_by_hand = update, None
        self.quantizer.set_temperature(self.config.gumbel_temperature(update))

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
        clip_seeds: Tensor | None = None,
        whole_update: WholeUpdate | None = None,
    ) -> Wav2Vec2ForPreTrainingOutput:
        """`mask_time_indices` (B, T) and `sampled_negative_indices` (B, T, K; frame numbers over the whole batch, as
        in stock Transformers) are drawn here, on the device, unless they are given: from `generator`, or for each clip
        from its seed in `clip_seeds` (B,), in training also from torch's random state. Evaluation without any of them
        masks nothing and has no loss. The batch is an update of its own, or the part of `whole_update` that it is."""
        draws = choose_draws(generator, clip_seeds, input_values.device)
        lengths = self.frame_lengths(input_values, attention_mask)
        num_frames = self._get_feat_extract_output_lengths(input_values.shape[1])
        mask = self.choose_mask(lengths, num_frames, mask_time_indices, draws)
        outputs = self.wav2vec2(
            input_values,
            attention_mask=attention_mask,
            mask_time_indices=mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            generator=generator,
            clip_seeds=clip_seeds,
            return_dict=True,
        )
        predictions = self.project_hid(outputs.last_hidden_state)
        features, usage = self.dropout_features(outputs.extract_features), whole_update and whole_update.usage
        counted = frames_within(lengths, num_frames) if mask is None else mask
        quantized = self.quantizer(features, counted, draws, usage)
        targets = self.project_q(quantized.vectors.to(self.project_q.weight.dtype))
        distractors = self.choose_distractors(mask, sampled_negative_indices, draws)
        losses, kappa = {}, self.config.contrastive_logits_temperature
        if mask is not None and distractors is not None:
            whole = whole_update or WholeUpdate(mask.sum(), lengths.sum())
            contrastive = contrast(predictions, targets, quantized.codes, distractors, mask, kappa)
            penalty = sum_of_squares(outputs.conv_features, lengths) / whole.num_frames.clamp(min=1) * whole.num_masked
            losses = self.losses(contrastive, quantized, penalty, mask.sum()) | {"num_frames": lengths.sum()}
        return Wav2Vec2ForPreTrainingOutput(
            projected_states=predictions,
            projected_quantized_states=targets,
            codevector_perplexity=quantized.soft_perplexity,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **losses,
        )

    def draws_by_itself(self, draws: Draws) -> bool:
        """Whether masks and distractors that are not given are drawn: in training, and whenever a source is."""
        return self.training or draws is not None

    def losses(
        self, contrastive: Contrast, quantized: Quantized, penalty: Tensor, num_masked: Tensor
    ) -> dict[str, Any]:
        """The three losses, each a sum over masked frames (`penalty` already is), their weighted total, and what tells
        whether they mean anything."""
        config = self.config
        num_codes = config.num_codevectors_per_group * config.num_codevector_groups
        diversity = diversity_loss(quantized.soft_perplexity, num_codes) * num_masked
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
            "code_perplexity": quantized.code_perplexity,
            "code_counts": quantized.code_counts,
            "num_masked": num_masked,
        }

    @torch.no_grad()
    def choice_probabilities(
        self, input_values: Tensor, attention_mask: Tensor | None, mask_time_indices: Tensor
    ) -> Tensor:
        """The quantizer's choice probabilities without noise, summed over masked frames (B, T): (G, V).

        Convolutions and quantizer alone. Summed over all parts of an update and divided by its masked frames, this is
        the `usage` of a `WholeUpdate`.
        """
        frames = self.wav2vec2.encode(input_values, attention_mask)
        check_frame_mask(mask_time_indices, frames.features.shape[0], frames.num_frames)
        features = self.wav2vec2.feature_projection.layer_norm(frames.features)
        return self.quantizer.choice_probabilities(frames.trim(features), mask_time_indices.bool())

    def choose_mask(self, lengths: Tensor, num_frames: int, given: Tensor | None, draws: Draws) -> Tensor | None:
        """The frames to predict (B, T); None if there are none to predict."""
        if given is not None:
            check_frame_mask(given, lengths.shape[0], num_frames)
            return given.bool()
        if not self.draws_by_itself(draws):
            return None
        check_that_frames_are_masked(self.config)
        return draw_time_mask(self.config, lengths, num_frames, draws)

    def choose_distractors(self, mask: Tensor | None, given: Tensor | None, draws: Draws) -> Tensor | None:
        """Distractors as frame numbers within each clip (B, T, K); None if nothing is to be told from them."""
        if mask is None:
            if given is not None:
                raise ValueError(
                    "sampled_negative_indices without mask_time_indices: which frames are to be predicted?"
                )
            return None
        if given is not None:
            return check_distractors(given, mask)
        wanted = self.draws_by_itself(draws)
        return sample_distractors(mask, self.config.num_negatives, draws) if wanted else None


def sum_of_squares(features: Tensor, lengths: Tensor) -> Tensor:
    """Mean of the squares of (B, T, C) over channels, summed over the first `lengths` (B,) frames."""
    squares = full_precision(features).square().mean(dim=2)  # (B, T)
    real = frames_within(lengths, squares.shape[1])
    return squares.masked_fill(~real, 0.0).sum()
