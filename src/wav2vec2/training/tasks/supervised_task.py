"""What all tasks have in common that learn from what people wrote down: transcripts, labels of clips or of frames.

The loss of an update is the sum over what is labelled divided by its number, whatever parts and processes it came in.
Items know nothing of each other, so a part needs no more of the whole than that number.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from wav2vec2.baselines import SpectrogramConfig, SpectrogramModel
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import FrameGrid, conv_output_length, frame_stride, receptive_field
from wav2vec2.modeling.convolved_clips import ConvolvedClips, EncodedClips, LayeredClips
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.progress.throughput import update_operations
from wav2vec2.training.tasks.task import Inputs, PartOutput, Sums, real_samples

#: What the inputs of a batch may have in the place of waveforms: the convolutions' output, the Transformer's, or that
#: of each of its layers.
_KEPT_AS = {"features": ConvolvedClips, "context": EncodedClips, "layers": LayeredClips}

#: A label that no loss sees.
NO_LABEL = -100


class SupervisedTask:
    """A head on an encoder that may be held for the first `freeze_updates` updates, or always (None).

    A task of this kind says what the labels of clips are (`with_targets`), what counts (`counts`), what is summed
    (`sums`) and what the sums mean (`figures`); where its loss is not that of the model, also `forward`.
    """

    criterion: str
    num_groups = 0
    chance: float | None = None

    def __init__(
        self,
        config: Wav2Vec2Config | SpectrogramConfig,
        feature_extractor: Wav2Vec2FeatureExtractor,
        seed: int,
        freeze_updates: int | None = 0,
    ) -> None:
        self.config = config
        self.waveforms = Waveforms.of(feature_extractor)
        self.seed = seed
        self.freeze_updates = freeze_updates

    def begin(self, model: Wav2Vec2PreTrainedModel | SpectrogramModel, update: int) -> None:
        """LayerDrop, and whether the encoder is trained yet."""
        model.set_update(update, self.seed)
        model.hold_encoder(self.freeze_updates is None or update < self.freeze_updates)

    def whole_update(
        self, model: Any, parts: Sequence[Inputs], counts: Tensor, reduce: Callable[[Tensor], Tensor] | None
    ) -> None:
        """Nothing that a part would need to know."""

    def part(self, model: Any, inputs: Inputs, whole: None) -> PartOutput:
        """The summed loss of one part."""
        output = self.forward(model, inputs)
        return PartOutput(output.loss, self.sums(output, inputs))

    def before_step(self, model: Wav2Vec2PreTrainedModel | SpectrogramModel) -> None:
        """Take the zeros from a held encoder: to an optimizer they would be gradients, with moments and decay."""
        for parameter in model.held_parameters():
            parameter.grad = None

    def operations(self, samples: Sequence[int], convolved: Sequence[int] | None = None) -> float:
        """Of the products of the encoder, or of the whole of a small network, in forward and backward pass."""
        if isinstance(self.config, SpectrogramConfig):
            return sum(3 * self.config.operations(length) for length in samples)
        trained = self.config.feature_grad_mult > 0 and convolved is None
        return update_operations(self.config, samples, trained, convolved=convolved)

    def forward(self, model: Any, inputs: Inputs) -> Any:
        """The model's output, its loss as a sum."""
        return model(**encoder_inputs(inputs, self.config), labels=inputs["labels"], num_items_in_batch=1)

    def sums(self, output: Any, inputs: Inputs) -> Sums:
        """What figures are made of."""
        raise NotImplementedError


def encoder_inputs(inputs: Inputs, config: FrameGrid) -> dict[str, Any]:
    """What goes through the encoder: waveforms and their mask, or what part of it has made of them."""
    seeds = {"clip_seeds": inputs["clip_seeds"]}
    if _kept_as(inputs):
        return seeds | {"input_values": convolved_clips(inputs, config)}
    return seeds | {"input_values": inputs["input_values"], "attention_mask": real_samples(inputs)}


def convolved_clips(inputs: Inputs, config: FrameGrid) -> ConvolvedClips:
    """What was kept, (B, T, C), as a model takes it."""
    kept_as = _kept_as(inputs)
    features = inputs[kept_as]
    if "scales" in inputs:
        features = features.float() * inputs["scales"][:, None, None]
    frames = features.shape[1]
    samples = receptive_field(config.conv_kernel, config.conv_stride) + (frames - 1) * frame_stride(config.conv_stride)
    return _KEPT_AS[kept_as](features, inputs["sample_lengths"], samples if frames else 0)


def _kept_as(inputs: Inputs) -> str:
    """The name of what stands in the place of waveforms; empty if they are there themselves."""
    return next((name for name in _KEPT_AS if name in inputs), "")


def frames_of(inputs: Inputs, config: FrameGrid) -> int:
    """T, of a batch of any kind."""
    if kept_as := _kept_as(inputs):
        return inputs[kept_as].shape[1]
    return conv_output_length(inputs["input_values"].shape[1], config.conv_kernel, config.conv_stride)
