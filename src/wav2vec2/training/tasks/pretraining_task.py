"""Pretraining as the loop sees it: masks drawn with the batch, losses that add up over its parts.

Shapes: B clips, T frames, G groups, V entries.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.contrastive_loss import WholeUpdate, diversity_loss
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.modeling.gumbel_quantizer import perplexity
from wav2vec2.modeling.span_masking import draw_pretraining_mask
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.progress.throughput import update_operations
from wav2vec2.training.tasks.task import Inputs, PartOutput, Sums, exact, real_samples


class PretrainingTask:
    """Tell masked frames from distractors. Clips that are too short for a span count for nothing."""

    criterion = "loss"

    def __init__(
        self,
        config: Wav2Vec2Config,
        feature_extractor: Wav2Vec2FeatureExtractor,
        seed: int,
        diversity_over_update: bool = True,
    ) -> None:
        self.config = config
        self.num_groups = config.num_codevector_groups
        self.chance: float | None = 1 / (config.num_negatives + 1)
        self.waveforms = Waveforms.of(feature_extractor)
        self.seed = seed
        self.diversity_over_update = diversity_over_update
        self.first_update = config.pretraining_updates  # weights that were trained before go on from there
        self.temperature = config.gumbel_temperature(self.first_update)
        self.update = 0

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With the frames to predict."""
        inputs = dict(waveforms)
        samples = inputs["sample_lengths"]
        frames = conv_output_length(samples, self.config.conv_kernel, self.config.conv_stride)
        longest = inputs["input_values"].shape[1]
        size = int(conv_output_length(longest, self.config.conv_kernel, self.config.conv_stride))
        inputs["mask_time_indices"] = draw_pretraining_mask(self.config, frames, size, inputs["clip_seeds"])
        inputs["num_frames"] = frames.sum()
        if int(samples.min()) == longest:  # nothing is padded, and attention without a mask is faster
            del inputs["sample_lengths"]
        return inputs

    def counts(self, inputs: Inputs) -> Tensor:
        """Masked frames, and real ones."""
        return torch.stack([inputs["mask_time_indices"].sum(), inputs["num_frames"]]).float()

    def begin(self, model: Wav2Vec2ForPreTraining, update: int) -> None:
        """Gumbel temperature and LayerDrop."""
        model.set_update(self.first_update + update, self.seed)
        self.temperature = self.config.gumbel_temperature(self.first_update + update)
        self.update = update

    def whole_update(
        self,
        model: Any,
        parts: Sequence[Inputs],
        counts: Tensor,
        reduce: Callable[[Tensor], Tensor] | None,
    ) -> WholeUpdate:
        """The update's counts and, if it is cut into several parts, how often it chooses each code.

        The diversity loss is of the distribution of codes over the whole batch (paper, section 3.2), which no part
        knows. A first pass over the parts counts it, without gradient and without the Transformer.
        """
        usage = None
        if self.diversity_over_update and (reduce is not None or len(parts) > 1):
            chosen = sum(model.choice_probabilities(**encoder_inputs(part)) for part in parts)
            usage = (chosen if reduce is None else reduce(chosen)) / counts[0].clamp(min=1)
        return WholeUpdate(num_masked=counts[0], num_frames=counts[1], usage=usage)

    def part(self, model: Any, inputs: Inputs, whole: WholeUpdate) -> PartOutput:
        """One part's share of the loss, and what its figures are made of."""
        output = model(**encoder_inputs(inputs), clip_seeds=inputs["clip_seeds"], whole_update=whole)
        return PartOutput(output.loss, sums_of(output, inputs))

    def before_step(self, model: Wav2Vec2ForPreTraining) -> None:
        """All of the model is trained. The count that is saved is of updates done, so that whoever goes on from the
        checkpoint does not do this one's temperature again."""
        model.config.pretraining_updates = self.first_update + self.update + 1

    def operations(self, samples: Sequence[int], convolved: Sequence[int] | None = None) -> float:
        """Of the products of the encoder in forward and backward pass."""
        trained = self.config.feature_grad_mult > 0
        return update_operations(self.config, samples, trained)

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The same, without gradient and with masks that are the same at every evaluation.

        As if of one frame for one, so that the penalty is a sum of squares, whatever the part.
        """
        one = torch.ones((), device=inputs["input_values"].device)
        output = model(**encoder_inputs(inputs), clip_seeds=inputs["clip_seeds"], whole_update=WholeUpdate(one, one))
        return sums_of(output, inputs)

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """The figures that an update with all of the data would have: diversity and penalty are of the whole, not means
        over its parts. No choice is drawn, so there is no temperature."""
        masked, frames = max(sums["masked"], 1.0), max(sums["frames"], 1.0)
        counts = torch.tensor(sums["code_counts"], dtype=torch.float64)
        used = perplexity(counts / counts.sum(-1, keepdim=True).clamp(min=1)).sum()
        diversity, penalty = float(diversity_loss(used, counts.numel())), sums["penalty"] / frames
        loss = sums["contrastive"] / masked + self.config.diversity_loss_weight * diversity
        loss += self.config.feature_penalty_weight * penalty
        whole = {"loss": loss, "diversity": diversity, "penalty": penalty}
        figures = self.figures(sums | {name: value * masked for name, value in whole.items()})
        return {name: value for name, value in figures.items() if name != "temperature"}

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Sums -> means over the masked frames. Without one there is no mean: a loss of 0 would look like success."""
        if not sums["masked"]:
            return {"masked_share": 0.0, "temperature": self.temperature}
        masked, frames = sums["masked"], max(sums["frames"], 1.0)
        counts = torch.tensor(sums["code_counts"], dtype=torch.float64)
        contrastive = sums["contrastive"] / masked
        codes = counts.numel()
        return {
            "loss": sums["loss"] / masked,
            "bits": contrastive / math.log(2),
            "contrastive": contrastive,
            "diversity": sums["diversity"] / masked,
            "penalty": sums["penalty"] / masked,
            "accuracy": sums["right"] / masked,
            "code_perplexity": perplexity(counts / counts.sum(-1, keepdim=True).clamp(min=1)).tolist(),
            "codes_used": float((counts > 0).sum() / codes),
            "positive_negative_share": sums["same"] / masked,
            "masked_share": sums["masked"] / frames,
            "temperature": self.temperature,
        }


def encoder_inputs(inputs: Inputs) -> dict[str, Tensor | None]:
    """What goes through the encoder; a batch without padding has no mask."""
    padded = "sample_lengths" in inputs
    return {
        "input_values": inputs["input_values"],
        "attention_mask": real_samples(inputs) if padded else None,
        "mask_time_indices": inputs["mask_time_indices"],
    }


def sums_of(output: Any, inputs: Inputs) -> Sums:
    """An output as sums over masked frames, without gradient."""
    masked = exact(output.num_masked)
    return {
        "loss": exact(output.loss),
        "contrastive": exact(output.contrastive_loss),
        "diversity": exact(output.diversity_loss),
        "penalty": exact(output.feature_penalty),
        "right": exact(output.accuracy) * masked,
        "same": exact(output.positive_negative_share) * masked,
        "masked": masked,
        "frames": exact(inputs["num_frames"]),
        "code_counts": exact(output.code_counts),
    }
