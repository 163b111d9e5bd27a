"""wav2vec as a model that gives features: what it hears in each frame (z), and that with what came before (c).

Shapes: B batch, S samples, T frames, C channels, G groups.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import ModelOutput, can_return_tuple

from wav2vec2.baselines.baseline_model import BaselineModel
from wav2vec2.baselines.wav2vec.context_network import ContextNetwork
from wav2vec2.baselines.wav2vec.step_predictions import StepProjection
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.baselines.wav2vec.waveform_encoder import WaveformEncoder
from wav2vec2.configuration.frame_arithmetic import Length, conv_output_length, receptive_field
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.input_checks import check_waveforms
from wav2vec2.modeling.random_draws import Draws


class Wav2VecPreTrainedModel(BaselineModel):
    """What all models of this kind share: loading, initialisation, frame arithmetic, the training clock."""

    config: Wav2VecConfig
    config_class = Wav2VecConfig
    base_model_prefix = "wav2vec"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As torch begins every layer, which is how these models were begun: uniform in +-1 / sqrt(inputs)."""
        if isinstance(module, nn.GroupNorm) and module.affine:
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d | nn.Linear):
            start_uniform(module, 1 / math.sqrt(module.weight[0].numel()))
        elif isinstance(module, StepProjection):
            start_uniform(module, module.bound)

    def _get_feat_extract_output_lengths(self, input_lengths: Length) -> Length:
        """Frames that clips of `input_lengths` samples have."""
        return conv_output_length(input_lengths, self.config.conv_kernel, self.config.conv_stride)

    def frame_lengths(self, input_values: Tensor, attention_mask: Tensor | None) -> Tensor:
        """How many real frames each clip (B, S) has: (B,)."""
        check_waveforms(input_values, attention_mask)
        if attention_mask is None:
            count = self._get_feat_extract_output_lengths(input_values.shape[1])
            return torch.full((len(input_values),), count, device=input_values.device)
        return self._get_feat_extract_output_lengths(attention_mask.long().sum(-1))

    def set_update(self, update: int, seed: int = 0) -> None:
        """Tell the model which update of pretraining comes next; the count is saved with the configuration."""
        if update < 0:
            raise ValueError(f"update={update}: must be at least 0")
        self.config.pretraining_updates = update


def start_uniform(module: nn.Module, bound: float) -> None:
    """Every parameter of the module itself uniform in +-bound."""
    for parameter in module.parameters(recurse=False):
        init.uniform_(parameter, -bound, bound)


class QuantizedFrames(NamedTuple):
    """What a quantizer makes of features: `vectors` (B, T, C), `codes` (B, T, G), how often each entry was the best
    among real frames (`code_counts`, G x V), and a `cost` () of the choice, a sum over real frames."""

    vectors: Tensor
    codes: Tensor
    code_counts: Tensor
    cost: Tensor


class Heard(NamedTuple):
    """Clips as the model hears them."""

    #: What the encoder gives (B, T, C).
    features: Tensor
    #: What the context network gives (B, T, C).
    context: Tensor
    #: Real frames of each clip (B,).
    lengths: Tensor
    #: The features as entries of codebooks, where the model has some.
    quantized: QuantizedFrames | None


@dataclass
class Wav2VecModelOutput(ModelOutput):
    """What the model without a head returns. Frames behind a clip's end are zero."""

    #: Context c (B, T, C).
    last_hidden_state: Tensor | None = None
    #: Features z (B, T, C).
    extract_features: Tensor | None = None


class Wav2VecModel(Wav2VecPreTrainedModel):
    """wav2vec without its objective.

    >>> model = Wav2VecModel(Wav2VecConfig(conv_dim=(8,) * 7, context_dim=(8,) * 12))
    >>> model(torch.zeros(1, 16000)).last_hidden_state.shape
    torch.Size([1, 98, 8])
    """

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__(config)
        self.feature_extractor = WaveformEncoder(config)
        self.feature_aggregator = ContextNetwork(config)
        self.feature_dropout = Dropout(config.feature_dropout)
        self.context_dropout = Dropout(config.context_dropout)
        self.add_quantizer()
        self.post_init()

    def add_quantizer(self) -> None:
        """There is none here; what has one adds it."""

    @can_return_tuple
    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> ModelOutput:
        """Waveforms (B, S), whose real samples are marked by `attention_mask` (B, S)."""
        return self.output(self.hear(input_values, attention_mask))

    def output(self, heard: Heard) -> ModelOutput:
        """What was heard, zeros behind the end of each clip."""
        real = frames_within(heard.lengths, heard.features.shape[1])[:, :, None]
        return Wav2VecModelOutput(
            last_hidden_state=heard.context.masked_fill(~real, 0.0),
            extract_features=heard.features.masked_fill(~real, 0.0),
        )

    def hear(self, input_values: Tensor, attention_mask: Tensor | None = None, draws: Draws = None) -> Heard:
        """Waveforms (B, S) through all of the model. A batch that is too short for a frame is made long enough, and has
        no real one."""
        lengths = self.frame_lengths(input_values, attention_mask)
        samples = None if attention_mask is None else attention_mask.long().sum(-1)
        least = receptive_field(self.config.conv_kernel, self.config.conv_stride)
        missing = max(least - input_values.shape[1], 0)
        if missing:
            samples = lengths.new_full(lengths.shape, input_values.shape[1]) if samples is None else samples
        frames = self._get_feat_extract_output_lengths(input_values.shape[1])
        waveform = F.pad(input_values.to(self.dtype), (0, missing))
        z = self.feature_extractor(waveform, samples)  # (B, C, T)
        inside = None if samples is None else lengths
        quantized = self.quantize(z, lengths, inside, draws)
        entering = z if quantized is None else quantized.vectors.transpose(1, 2)
        c = self.context_dropout(self.feature_aggregator(self.feature_dropout(entering), inside))
        if missing and quantized is not None:
            quantized = quantized._replace(vectors=quantized.vectors[:, :frames], codes=quantized.codes[:, :frames])
        return Heard(z.transpose(1, 2)[:, :frames], c.transpose(1, 2)[:, :frames], lengths, quantized)

    def quantize(
        self, features: Tensor, lengths: Tensor, inside: Tensor | None, draws: Draws
    ) -> QuantizedFrames | None:
        """Features (B, C, T) as entries of codebooks; `inside` are the `lengths` (B,), or None where nothing is padded.
        wav2vec has none."""
        return None
