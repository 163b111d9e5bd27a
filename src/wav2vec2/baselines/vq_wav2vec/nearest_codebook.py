"""The nearest entries of codebooks that follow what is near them: k-means while training (vq-wav2vec, section 3.2).

With features x and the nearest entry e of each group, [.] where no gradient passes, and all means over their numbers:

    output  e, with the gradient of x: [e] + x - [x]
    cost    |[x] - e|^2  +  gamma |x - [e]|^2        entries are drawn to their features, features to their entries

Distances are compared as |e|^2 - 2 x . e, which is |x - e|^2 without what all entries have in common: one product of
matrices instead of a difference for each pair.

Shapes: B batch, T frames, C channels, G groups, V entries per group, D entry size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.wav2vec.clip_norm import ClipNorm
from wav2vec2.baselines.wav2vec.wav2vec_model import QuantizedFrames
from wav2vec2.modeling.convolution import Convolution
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.gumbel_quantizer import masked_sum
from wav2vec2.modeling.precision import full_precision, in_full_precision
from wav2vec2.modeling.random_draws import Draws


def nearest_entries(vectors: Tensor, codebooks: Tensor) -> Tensor:
    """For each group's vector (B, T, G, D) the number of the nearest of its entries (V, G, D): (B, T, G).

    >>> import torch
    >>> codebooks = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    >>> nearest_entries(torch.tensor([[[[0.4, 0.4]], [[0.9, 0.4]]]]), codebooks).flatten().tolist()
    [0, 1]
    """
    products = torch.einsum("btgd,vgd->btgv", vectors, codebooks)
    return (codebooks.square().sum(2).T - 2 * products).argmin(dim=3)


class NearestCodebook(nn.Module):
    """Features -> the nearest entries, once each group has been projected and normalised over its clip."""

    def __init__(self, config: VQWav2VecConfig) -> None:
        super().__init__()
        self.num_groups, self.num_entries = config.num_codevector_groups, config.num_codevectors_per_group
        self.commitment_weight = config.commitment_weight
        width = config.conv_dim[-1]
        self.codevectors = nn.Parameter(torch.empty(self.num_entries, config.num_codebooks, width // self.num_groups))
        self.projection = Convolution(width, width, 1, groups=self.num_groups, bias=False)
        self.norm = ClipNorm(width, self.num_groups)

    def forward(self, features: Tensor, lengths: Tensor, inside: Tensor | None, draws: Draws = None) -> QuantizedFrames:
        """Quantize (B, C, T), of which `lengths` (B,) frames of each clip are real; `inside` is None if all are. No
        random number is drawn."""
        projected = self.norm(self.projection(features), inside)
        with in_full_precision(features):
            x = full_precision(projected).transpose(1, 2).unflatten(2, (self.num_groups, -1))  # (B, T, G, D)
            codebooks = full_precision(self.codevectors).expand(-1, self.num_groups, -1)  # (V, G, D)
            codes = nearest_entries(x.detach(), codebooks.detach())
            chosen = codebooks[codes, torch.arange(self.num_groups, device=codes.device)]  # (B, T, G, D)
            to_features = (chosen - x.detach()).square().mean((2, 3))  # (B, T)
            to_entries = (x - chosen.detach()).square().mean((2, 3))
            real = frames_within(lengths, x.shape[1])
            cost = (to_features + self.commitment_weight * to_entries).masked_fill(~real, 0.0).sum()
            counts = masked_sum(F.one_hot(codes, self.num_entries).to(x.dtype), real)
            vectors = chosen.detach() + (x - x.detach())
        return QuantizedFrames(vectors.flatten(2).to(features.dtype), codes, counts.long(), cost)
