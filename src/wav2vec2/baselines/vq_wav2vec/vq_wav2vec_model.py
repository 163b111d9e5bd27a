"""vq-wav2vec as a model that gives features and discrete codes.

Shapes: B batch, S samples, T frames, C channels, G groups.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from wav2vec2.baselines.vq_wav2vec.gumbel_codebook import GumbelCodebook
from wav2vec2.baselines.vq_wav2vec.nearest_codebook import NearestCodebook
from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.wav2vec.wav2vec_model import (
    Heard,
    QuantizedFrames,
    Wav2VecModel,
    Wav2VecModelOutput,
    Wav2VecPreTrainedModel,
)
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.gumbel_quantizer import float_bits
from wav2vec2.modeling.random_draws import Draws

#: The code of a frame behind a clip's end.
NO_CODE = -1


@dataclass
class VQWav2VecModelOutput(Wav2VecModelOutput):
    """What the model without a head returns. Behind a clip's end, frames are zero and codes -1."""

    #: The chosen entry of each group (B, T, G), numbered from 0 within its group.
    codes: Tensor | None = None
    #: The chosen entries themselves, one behind the other (B, T, C): what enters the context network.
    quantized_features: Tensor | None = None


class VQWav2VecPreTrainedModel(Wav2VecPreTrainedModel):
    """What both models of this kind share."""

    config: VQWav2VecConfig
    config_class = VQWav2VecConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As fairseq: scored entries uniform in [0, 1), entries of k-means close to zero, and a score that is a single
        linear layer standard normal."""
        super()._init_weights(module)
        if isinstance(module, NearestCodebook):
            init.normal_(module.codevectors, std=0.01)
        elif isinstance(module, GumbelCodebook):
            init.uniform_(module.codevectors)
            init.copy_(module.temperature_bits, float_bits(module.first_temperature))
            if len(module.scores) == 1:
                init.normal_(module.scores[0].weight)
                init.zeros_(module.scores[0].bias)

    def set_update(self, update: int, seed: int = 0) -> None:
        """As of wav2vec; the Gumbel temperature follows its schedule."""
        super().set_update(update, seed)
        for module in self.modules():
            if isinstance(module, GumbelCodebook):
                module.set_temperature(self.config.gumbel_temperature(update))


class VQWav2VecModel(VQWav2VecPreTrainedModel, Wav2VecModel):
    """vq-wav2vec without its objective.

    >>> config = VQWav2VecConfig(conv_dim=(8,) * 8, context_dim=(8,) * 12, quantizer="kmeans")
    >>> VQWav2VecModel(config)(torch.zeros(1, 16000)).codes.shape
    torch.Size([1, 98, 2])
    """

    def add_quantizer(self) -> None:
        """The one that the configuration names."""
        self.quantizer = (NearestCodebook if self.config.quantizer == "kmeans" else GumbelCodebook)(self.config)

    def quantize(self, features: Tensor, lengths: Tensor, inside: Tensor | None, draws: Draws) -> QuantizedFrames:
        """Features (B, C, T) as entries of codebooks."""
        quantized: QuantizedFrames = self.quantizer(features, lengths, inside, draws)
        return quantized

    def output(self, heard: Heard) -> ModelOutput:
        """With codes and chosen entries."""
        assert heard.quantized is not None
        real = frames_within(heard.lengths, heard.features.shape[1])[:, :, None]
        return VQWav2VecModelOutput(
            **super().output(heard),
            codes=heard.quantized.codes.masked_fill(~real, NO_CODE),
            quantized_features=heard.quantized.vectors.masked_fill(~real, 0.0),
        )
