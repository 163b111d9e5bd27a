"""What `transformers.Trainer` needs to train these models: batches, the update count, figures without logits.

    trainer = Trainer(
        model=model,
        args=TrainingArguments(..., remove_unused_columns=False, label_names=["labels"]),
        data_collator=CTCCollator(processor),
        callbacks=[UpdateCallback()],
        preprocess_logits_for_metrics=GreedyIds(model),
        compute_metrics=ErrorRates(processor),
        ...
    )

Trainer counts the labels of an update over its parts and processes and hands the model the number: the loss is the sum
divided by it, so accumulation and the number of processes change nothing. That needs labels padded with -100.

Its `eval_loss` is another thing: the mean over clips of the loss per label of the batch that each was in, which depends
on the size of the batches. With `include_for_metrics=["loss"]` in the arguments, `ErrorRates` gives the loss per label
of the whole evaluation beside it (`eval_loss_per_label`), where that is on one process.

Shapes: B clips, S samples, U labels, T frames, V tokens.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from wav2vec2.evaluation.scoring import error_rates
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.processing.processor import Wav2Vec2Processor

#: What pads labels, ids and whatever Trainer joins of them.
_NO_LABEL = -100


class CTCCollator:
    """Examples with audio and text -> a batch.

    An example has `input_values` (the feature extractor's), or `audio`, samples at the extractor's rate as an array or
    as `datasets` has them ({"array", "sampling_rate"}); and `labels` (ids), or `text`. There is always an attention
    mask: it also says how many frames the loss may use.
    """

    def __init__(self, processor: Wav2Vec2Processor, audio_column: str = "audio", text_column: str = "text") -> None:
        self.feature_extractor = processor.feature_extractor
        self.tokenizer = processor.tokenizer
        self.audio_column = audio_column
        self.text_column = text_column

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """`input_values` and `attention_mask` (B, S), `labels` (B, U)."""
        values = [torch.as_tensor(self.values_of(example), dtype=torch.float32) for example in examples]
        masks = [torch.ones(len(one), dtype=torch.long) for one in values]
        labels = [torch.tensor(self.labels_of(example) or [_NO_LABEL]) for example in examples]
        return {
            "input_values": pad_sequence(values, batch_first=True),
            "attention_mask": pad_sequence(masks, batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=_NO_LABEL),
        }

    def values_of(self, example: Mapping[str, Any]) -> NDArray[np.float32]:
        """The extractor's values (S,) of one example."""
        if "input_values" in example:
            return _one_clip(np.asarray(example["input_values"], np.float32), "input_values")
        if self.audio_column not in example:
            raise ValueError(
                f"an example has {sorted(example)}, but neither `input_values` nor `{self.audio_column}`: pass "
                "remove_unused_columns=False to TrainingArguments"
            )
        audio = example[self.audio_column]
        rate = self.feature_extractor.sampling_rate
        if isinstance(audio, Mapping):
            audio, rate = audio["array"], audio["sampling_rate"]
        clip = _one_clip(np.asarray(audio), self.audio_column)
        return self.feature_extractor(clip, sampling_rate=rate).input_values[0]

    def labels_of(self, example: Mapping[str, Any]) -> list[int]:
        """The ids of one example's text."""
        if "labels" in example:
            return [int(one) for one in example["labels"] if one != _NO_LABEL]
        ids: list[int] = self.tokenizer(example[self.text_column]).input_ids
        return ids


def _one_clip(samples: NDArray[Any], column: str) -> NDArray[Any]:
    """Samples (S,) of one example, also where they are a batch of this one clip. Channels are refused."""
    samples = samples[0] if samples.ndim == 2 and len(samples) == 1 else samples
    if samples.ndim != 1:
        raise ValueError(
            f"`{column}` of an example has shape {samples.shape}: one clip has shape (samples,). Mix channels before: "
            "array.mean(axis=...)"
        )
    return samples


class UpdateCallback(TrainerCallback):
    """Tells the model which update comes next: LayerDrop (and in pretraining the temperature) then follow from the
    seed and the update alone, the same in all parts and on all processes, and after resuming."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before the first part of an update."""
        model = kwargs["model"]
        getattr(model, "module", model).set_update(state.global_step, args.seed)


class GreedyIds:
    """For `preprocess_logits_for_metrics`: (B, T, V) -> the best token of each real frame (B, T), -100 in padding.

    Trainer keeps what this returns for the whole evaluation; logits would be V times as much. It does not say how long
    the clips were, so the model is watched for that: what stands in the frames of padding would be read as text.
    """

    def __init__(self, model: Wav2Vec2PreTrainedModel) -> None:
        self.model = model
        self.lengths = torch.zeros(0)
        model.register_forward_pre_hook(self.watch, with_kwargs=True)

    def watch(self, model: Wav2Vec2PreTrainedModel, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keep the numbers of frames (B,) of the batch that goes through the model."""
        if "input_values" in named:
            self.lengths = model.frame_lengths(named["input_values"], named.get("attention_mask"))

    def __call__(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """The ids of the batch that has just gone through the model."""
        if not isinstance(logits, Tensor):  # the model's other outputs follow
            logits = logits[0]
        if len(logits) != len(self.lengths):
            raise ValueError("these logits are not of the model that GreedyIds was made for")
        best: Tensor = logits.argmax(-1)
        return best.masked_fill(~frames_within(self.lengths.to(best.device), best.shape[1]), _NO_LABEL)


class ErrorRates:
    """For `compute_metrics`: word and character error rates over the corpus, from the ids of `GreedyIds`."""

    def __init__(self, processor: Wav2Vec2Processor) -> None:
        self.tokenizer = processor.tokenizer

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """`predictions` are ids (B, T), `label_ids` (B, U), both padded with -100."""
        heard = [self.tokenizer.decode(self.ids(row)) for row in np.asarray(prediction.predictions)]
        said = [self.tokenizer.decode_labels(self.ids(row)) for row in np.asarray(prediction.label_ids)]
        rates = error_rates(said, heard)
        return {"wer": rates.wer, "cer": rates.cer} | self.loss_per_label(prediction)

    @staticmethod
    def loss_per_label(prediction: EvalPrediction) -> dict[str, float]:
        """Of all clips together. Trainer says of each clip what the loss per label of its batch was; times the clip's
        own labels, these add up to the losses of the batches. On several processes it counts other labels."""
        losses = getattr(prediction, "losses", None)
        if losses is None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return {}
        labels = (np.asarray(prediction.label_ids) >= 0).sum(1)
        return {"loss_per_label": float((np.asarray(losses, np.float64) * labels).sum() / max(1, labels.sum()))}

    @staticmethod
    def ids(row: NDArray[np.int64]) -> list[int]:
        """Without padding."""
        kept: list[int] = row[row >= 0].tolist()
        return kept
