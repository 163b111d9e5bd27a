"""Small sizes on which every property can be shown in milliseconds, and the architectures that exist."""

from typing import Any

import torch
from torch import Tensor

from wav2vec2 import (
    Wav2Vec2Config,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
)

#: The body, and every head.
HEADS: list[Any] = [
    Wav2Vec2Model,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForXVector,
]

#: Sizes under which a model has a few thousand parameters. Strides and kernels are the real ones: 320 samples a frame.
SMALL: dict[str, Any] = {
    "conv_dim": (32,) * 7,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "codevector_dim": 16,
    "proj_codevector_dim": 12,
    "num_negatives": 10,
    "classifier_proj_size": 16,
    "tdnn_dim": (16, 16, 16),
    "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1),
    "xvector_output_dim": 10,
    "mask_time_prob": 0.5,
    "mask_time_length": 3,
}

#: No randomness but the one under test.
CALM: dict[str, Any] = {
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
}

#: The architectures of published checkpoints.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "base": {},
    "base_conv_bias": {"conv_bias": True},
    "large_lv60k": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "layer_norm_post_norm": {"feat_extract_norm": "layer"},
    "mms": {
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
        "adapter_attn_dim": 6,
    },
}


def small_config(architecture: str = "base", **overrides: Any) -> Wav2Vec2Config:
    """A small configuration of an architecture."""
    return Wav2Vec2Config(**(SMALL | ARCHITECTURES[architecture] | overrides))


def waveforms(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of the given lengths, padded on the right, and its mask."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    values, mask = torch.zeros(len(lengths), longest), torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, generator=generator)
        mask[row, :length] = 1
    return values, mask


def recompute_activations(model: Any, use_reentrant: bool) -> None:
    """Switch gradient checkpointing on, by the name that the installed Transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})
