"""How a new model starts: the formulas of fairseq, through functions that leave loaded weights alone.

Convolutions: Kaiming normal. Codebooks and mask embedding: uniform in [0, 1). Quantizer projection: standard normal.
Positional convolution: normal with standard deviation sqrt(4 / (kernel * width)). Input and contrastive projections:
uniform in +-1 / sqrt(inputs). GRUs: uniform in +-1 / sqrt(width). Every other linear layer: normal with
`initializer_range`, as BERT.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

from wav2vec2.modeling.feature_encoder import UniformLinear
from wav2vec2.modeling.gumbel_quantizer import Wav2Vec2GumbelVectorQuantizer, float_bits
from wav2vec2.modeling.layer_drop import LayerDrop
from wav2vec2.modeling.positional_convolution import NormalisedWeight, WeightNormedConvolution, tap_norms


@torch.no_grad()
def initialize(module: nn.Module, initializer_range: float) -> None:
    """Initialise the parameters of `module` itself.

    Called for every module that has any left to initialise, its parts before it. Transformers passes over modules
    without parameters of their own, so each rule hangs on the module that owns what it initialises.
    """
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, UniformLinear):
        _uniform(module, module.in_features)
    elif isinstance(module, nn.Linear):
        init.normal_(module.weight, mean=0.0, std=initializer_range)
        init.zeros_(module.bias)
    elif isinstance(module, nn.GRU):
        _uniform(module, module.hidden_size)
    elif isinstance(module, nn.Conv1d):
        _convolution(module)
    elif isinstance(module, NormalisedWeight):
        channels, _, kernel = module.original1.shape
        init.normal_(module.original1, mean=0.0, std=math.sqrt(4 / (kernel * channels)))
        init.copy_(module.original0, tap_norms(module.original1))
    elif isinstance(module, WeightNormedConvolution):
        init.zeros_(module.bias)
    elif isinstance(module, Wav2Vec2GumbelVectorQuantizer):
        init.normal_(module.weight_proj.weight, mean=0.0, std=1.0)
        init.uniform_(module.codevectors)
        init.copy_(module.temperature_bits, float_bits(module.initial_temperature))
    elif isinstance(module, LayerDrop):
        init.zeros_(module.key)


def _uniform(module: nn.Module, width: int) -> None:
    bound = 1 / math.sqrt(width)
    for parameter in module.parameters(recurse=False):
        init.uniform_(parameter, -bound, bound)


def _convolution(module: nn.Conv1d) -> None:
    init.kaiming_normal_(module.weight)
    if module.bias is not None:
        bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0])
        init.uniform_(module.bias, -bound, bound)
