"""Pretraining of wav2vec (2019) and vq-wav2vec as the loop sees it: frames to come told from distractors.

Of the guards, those for numbers that are not finite and for codebooks that collapse apply; the accuracy takes longer to
leave chance than the one for standstill would wait.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.wav2vec.for_pretraining import WholeUpdate
from wav2vec2.baselines.wav2vec.step_predictions import count_predictions
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.gumbel_quantizer import perplexity
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.progress.throughput import prediction_operations
from wav2vec2.training.tasks.task import Inputs, PartOutput, Sums, exact, real_samples


class FuturePredictionTask:
    """Predict the frames to come. Clips that are too short to predict anything in count for nothing."""

    criterion = "loss"
    chance: float | None = None

    def __init__(self, config: Wav2VecConfig, feature_extractor: Wav2Vec2FeatureExtractor, seed: int) -> None:
        self.config = config
        self.num_groups = config.num_codevector_groups if isinstance(config, VQWav2VecConfig) else 0
        self.waveforms = Waveforms.of(feature_extractor)
        self.seed = seed
        self.first_update = config.pretraining_updates  # weights that were trained before go on from there
        self.update = 0

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With the numbers of what there is to predict."""
        inputs = dict(waveforms)
        samples = inputs["sample_lengths"]
        frames = conv_output_length(samples, self.config.conv_kernel, self.config.conv_stride)
        inputs["num_predictions"] = count_predictions(frames, self.config)
        inputs["num_frames"] = frames.sum()
        if int(samples.min()) == inputs["input_values"].shape[1]:  # nothing is padded, and torch's own norm is faster
            del inputs["sample_lengths"]
        return inputs

    def counts(self, inputs: Inputs) -> Tensor:
        """Predictions, and real frames."""
        return torch.stack([inputs["num_predictions"], inputs["num_frames"]]).float()

    def begin(self, model: Any, update: int) -> None:
        """The Gumbel temperature, if there is one."""
        model.set_update(self.first_update + update, self.seed)
        self.update = update

    def whole_update(
        self, model: Any, parts: Sequence[Inputs], counts: Tensor, reduce: Callable[[Tensor], Tensor] | None
    ) -> WholeUpdate:
        """The update's counts: what quantizing costs is a mean over its frames."""
        return WholeUpdate(num_predictions=counts[0], num_frames=counts[1])

    def part(self, model: Any, inputs: Inputs, whole: WholeUpdate) -> PartOutput:
        """One part's share of the loss, and what its figures are made of."""
        output = model(**model_inputs(inputs), whole_update=whole)
        return PartOutput(output.loss, sums_of(output))

    def before_step(self, model: Any) -> None:
        """All of the model is trained. The count that is saved is of updates done."""
        model.config.pretraining_updates = self.first_update + self.update + 1

    def operations(self, samples: Sequence[int], convolved: Sequence[int] | None = None) -> float:
        """Of the products in forward and backward pass; there is nothing that could be kept."""
        return 3 * sum(prediction_operations(self.config, length) for length in samples)

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The same, without gradient and with distractors that are the same at every evaluation. As if of one
        prediction and one frame, so that what quantizing costs is a sum, whatever the part."""
        one = torch.ones((), device=inputs["input_values"].device)
        return sums_of(model(**model_inputs(inputs), whole_update=WholeUpdate(one, one)))

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """The figures that an update with all of the data would have."""
        predictions, frames = sums["predictions"], max(sums["frames"], 1.0)
        quantizer = sums["quantizer"] / frames * predictions
        weight = self.config.kmeans_loss_weight if isinstance(self.config, VQWav2VecConfig) else 0.0
        figures = self.figures(
            sums | {"loss": sums["prediction"] + weight * quantizer, "quantizer": quantizer},
        )
        return {name: value for name, value in figures.items() if name != "temperature"}

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Sums -> means over the predictions. Without one there is no mean: a loss of 0 would look like success."""
        figures: dict[str, Any] = {}
        if sums["predictions"]:
            of_each = {name: sums[name] / sums["predictions"] for name in ("loss", "prediction", "quantizer", "right")}
            figures = {
                "loss": of_each["loss"],
                "prediction": of_each["prediction"] / math.log(2),
                "accuracy": of_each["right"],
            }
            if "code_counts" in sums:
                figures |= {"quantizer": of_each["quantizer"]} | usage(sums["code_counts"])
        if isinstance(self.config, VQWav2VecConfig) and self.config.quantizer == "gumbel":
            figures["temperature"] = self.config.gumbel_temperature(self.first_update + self.update)
        return figures


def usage(code_counts: list[list[float]]) -> dict[str, Any]:
    """How many entries each group uses, and the share of all entries that is used at all."""
    counts = torch.tensor(code_counts, dtype=torch.float64)
    used = perplexity(counts / counts.sum(-1, keepdim=True).clamp(min=1)).tolist()
    return {"code_perplexity": used, "codes_used": float((counts > 0).sum() / counts.numel())}


def model_inputs(inputs: Inputs) -> dict[str, Tensor | None]:
    """What the model takes; a batch without padding has no mask."""
    padded = "sample_lengths" in inputs
    return {
        "input_values": inputs["input_values"],
        "attention_mask": real_samples(inputs) if padded else None,
        "clip_seeds": inputs["clip_seeds"],
    }


def sums_of(output: Any) -> Sums:
    """An output as sums over predictions, without gradient."""
    predictions = exact(output.num_predictions)
    sums = {
        "loss": exact(output.loss),
        "prediction": exact(output.prediction_loss),
        "quantizer": exact(output.quantizer_loss),
        "right": exact(output.accuracy) * predictions,
        "predictions": predictions,
        "frames": exact(output.num_frames),
    }
    return sums if output.code_counts is None else sums | {"code_counts": exact(output.code_counts)}
