"""Entries of codebooks that a network scores and training draws by a Gumbel softmax (vq-wav2vec, section 3.1).

Shapes: B batch, T frames, C channels, G groups, V entries per group, D entry size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.wav2vec.wav2vec_model import QuantizedFrames
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.gumbel_quantizer import float_bits, gumbel_noise, masked_sum
from wav2vec2.modeling.precision import full_precision, in_full_precision
from wav2vec2.modeling.random_draws import Draws

#: The layers of the scoring network before its last are so many times as wide as its input.
_WIDENING = 2


class GumbelCodebook(nn.Module):
    """Features -> quantized vectors. In training the choice is drawn, and has a straight-through gradient."""

    temperature_bits: Tensor

    def __init__(self, config: VQWav2VecConfig) -> None:
        super().__init__()
        self.num_groups, self.num_entries = config.num_codevector_groups, config.num_codevectors_per_group
        self.num_codebooks = config.num_codebooks
        width, entry = config.conv_dim[-1], int(config.codevector_dim or 0) // self.num_groups
        self.codevectors = nn.Parameter(torch.empty(1, self.num_codebooks * self.num_entries, entry))
        widths = [width, *[_WIDENING * width] * (config.quantizer_depth - 1), self.num_groups * self.num_entries]
        self.scores = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.activation = ACT2FN[config.activation]
        # The bits of a float32 as an integer, so that a model cast to 16 bits keeps the temperature exactly.
        self.first_temperature = config.gumbel_temperature(config.pretraining_updates)
        self.register_buffer("temperature_bits", float_bits(self.first_temperature), persistent=False)

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Set the temperature where it lies, on whatever device."""
        self.temperature_bits.fill_(int(float_bits(temperature)))

    def forward(self, features: Tensor, lengths: Tensor, inside: Tensor | None, draws: Draws = None) -> QuantizedFrames:
        """Quantize (B, C, T), of which `lengths` (B,) frames of each clip are real."""
        with in_full_precision(features):
            logits = self.logits(features.transpose(1, 2))
            likeliest = chosen = logits.argmax(dim=-1)  # (B, T, G)
            soft = None
            if self.training:
                noisy = (logits + gumbel_noise(logits, draws)) / self.temperature_bits.view(torch.float32)
                chosen, soft = noisy.argmax(dim=-1), noisy.softmax(dim=-1)
            vectors = self.entries(chosen, soft)
            real = frames_within(lengths, logits.shape[1])
            counts = masked_sum(F.one_hot(likeliest, self.num_entries).to(logits.dtype), real)
        cost = logits.new_zeros(())
        return QuantizedFrames(vectors.flatten(2).to(features.dtype), chosen, counts.long(), cost)

    def logits(self, features: Tensor) -> Tensor:
        """Scores of all entries, (B, T, C) -> (B, T, G, V), in full precision: rounding would turn choices between
        entries that are nearly as likely."""
        x = full_precision(features)
        for number, layer in enumerate(self.scores):
            weight, bias = (full_precision(parameter) for parameter in layer.parameters())
            x = F.linear(self.activation(x) if number else x, weight, bias)
        return x.unflatten(2, (self.num_groups, -1))

    def entries(self, chosen: Tensor, soft: Tensor | None) -> Tensor:
        """The chosen entries (B, T, G) of the codebooks: (B, T, G, D). With the choice's probabilities `soft`
        (B, T, G, V) it has the gradient that a choice by them would have."""
        codebooks = full_precision(self.codevectors[0]).unflatten(0, (self.num_codebooks, -1))
        codebooks = codebooks.expand(self.num_groups, -1, -1)  # (G, V, D)
        vectors = codebooks[torch.arange(self.num_groups, device=chosen.device), chosen]
        if soft is None:
            return vectors
        return vectors + torch.einsum("btgv,gvd->btgd", soft - soft.detach(), codebooks.detach())
