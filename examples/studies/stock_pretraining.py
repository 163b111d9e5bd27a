"""Stock Transformers' pretraining model and loss inside this package's loop: the study's comparison.

Masks and distractors are drawn by stock's functions, as its collator does; what stock has not (feature penalty, scale
of the feature gradient) stays out. Its loss is divided by the masked frames of the update, as ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers.models.wav2vec2 import modeling_wav2vec2 as stock

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.progress.throughput import update_operations
from wav2vec2.training.tasks.task import Inputs, PartOutput, Sums, exact, real_samples


class StockPretrainingTask:
    """Stock's `Wav2Vec2ForPreTraining`, trained by our loop."""

    criterion = "loss"
    num_groups = 0
    chance = None

    def __init__(self, config: Wav2Vec2Config, feature_extractor: Wav2Vec2FeatureExtractor, seed: int) -> None:
        self.config = config
        self.waveforms = Waveforms.of(feature_extractor)

    def model(self) -> Any:
        """A fresh model of the same shape."""
        return stock.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**self.config.to_dict()))

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With masks and distractors."""
        config, lengths = self.config, waveforms["sample_lengths"]
        frames = conv_output_length(lengths, config.conv_kernel, config.conv_stride)
        size = int(frames.max())
        real = torch.arange(size) < frames[:, None]
        np.random.seed(int(waveforms["clip_seeds"][0]) % 2**32)
        mask = stock._compute_mask_indices(
            (len(frames), size), config.mask_time_prob, config.mask_time_length, attention_mask=real.long(), min_masks=2
        )
        negatives = stock._sample_negative_indices((len(frames), size), config.num_negatives, mask)
        return waveforms | {
            "mask_time_indices": torch.tensor(mask),
            "sampled_negative_indices": torch.tensor(negatives, dtype=torch.long),
            "num_frames": frames.sum(),
        }

    def counts(self, inputs: Inputs) -> Tensor:
        """Masked frames."""
        return inputs["mask_time_indices"].sum().float()[None]

    def operations(self, samples: Sequence[int], convolved: Sequence[int] | None = None) -> float:
        """As many as ours has, whose convolutions are trained too."""
        return update_operations(self.config, samples)

    def begin(self, model: Any, update: int) -> None:
        """The temperature, as stock's script sets it."""
        model.set_gumbel_temperature(self.config.gumbel_temperature(update))

    def whole_update(
        self, model: Any, parts: Sequence[Inputs], counts: Tensor, reduce: Callable[[Tensor], Tensor] | None
    ) -> None:
        """Nothing: stock's parts know nothing of each other."""

    def part(self, model: Any, inputs: Inputs, whole: None) -> PartOutput:
        """Stock's forward pass."""
        names = ("input_values", "mask_time_indices", "sampled_negative_indices")
        output = model(**{name: inputs[name] for name in names}, attention_mask=real_samples(inputs).long())
        masked = inputs["mask_time_indices"].sum()
        return PartOutput(
            output.loss,
            {
                "loss": exact(output.loss),
                "contrastive": exact(output.contrastive_loss),
                "diversity": exact(output.diversity_loss),
                "perplexity": exact(output.codevector_perplexity) * masked,
                "masked": exact(masked),
            },
        )

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Means over masked frames."""
        masked = max(sums["masked"], 1.0)
        contrastive = sums["contrastive"] / masked
        return {
            "loss": sums["loss"] / masked,
            "contrastive": contrastive,
            "bits": contrastive / np.log(2),
            "diversity": sums["diversity"] / masked,
            "soft_perplexity": sums["perplexity"] / masked,
        }

    def before_step(self, model: Any) -> None:
        """Nothing: all of the model is trained."""

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """As of an update."""
        return self.part(model, inputs, None).sums

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """As of an update."""
        return self.figures(sums)
