"""How a new model starts: the formulas of fairseq, through functions that leave loaded weights alone.

Convolutions: Kaiming normal. Codebooks and mask embedding: uniform in [0, 1). Quantizer projection: standard normal.
Positional convolution: normal with standard deviation sqrt(4 / (kernel * width)). Input and contrastive projections:
uniform in +-1 / sqrt(inputs). Every other linear layer: normal with `initializer_range`, as BERT.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from wav2vec2.modeling.feature_encoder import Wav2Vec2FeatureProjection
from wav2vec2.modeling.gumbel_quantizer import Wav2Vec2GumbelVectorQuantizer
from wav2vec2.modeling.layer_drop import LayerDrop
from wav2vec2.modeling.positional_convolution import WeightNormedConvolution, tap_norms


@torch.no_grad()
def initialize(module: nn.Module, initializer_range: float) -> None:
    """Initialise what belongs to `module` itself. Called for every module, its parts before it."""
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        init.normal_(module.weight, mean=0.0, std=initializer_range)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d):
        _convolution(module)
    elif isinstance(module, WeightNormedConvolution):
        _positional_convolution(module)
    elif isinstance(module, Wav2Vec2FeatureProjection):
        uniform_by_inputs(module.projection)
    elif isinstance(module, Wav2Vec2GumbelVectorQuantizer):
        init.normal_(module.weight_proj.weight, mean=0.0, std=1.0)
        init.zeros_(module.weight_proj.bias)
        init.uniform_(module.codevectors)
        init.constant_(module.temperature, module.initial_temperature)
    elif isinstance(module, LayerDrop):
        init.zeros_(module.key)


def _convolution(module: nn.Conv1d) -> None:
    init.kaiming_normal_(module.weight)
    if module.bias is not None:
        bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0])
        init.uniform_(module.bias, -bound, bound)


def _positional_convolution(module: WeightNormedConvolution) -> None:
    weight: Any = module.parametrizations["weight"]
    direction = weight.original1
    channels, _, kernel = direction.shape
    init.normal_(direction, mean=0.0, std=math.sqrt(4 / (kernel * channels)))
    init.copy_(weight.original0, tap_norms(direction))
    init.zeros_(module.bias)


def uniform_by_inputs(linear: nn.Linear) -> None:
    """Uniform in +-1 / sqrt(inputs), weights and bias: torch's own initialisation of linear layers."""
    bound = 1 / math.sqrt(linear.in_features)
    init.uniform_(linear.weight, -bound, bound)
    init.uniform_(linear.bias, -bound, bound)
