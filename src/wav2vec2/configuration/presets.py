"""The published sizes and two small ones, as functions that state only what differs. Any field can be a keyword.

Sources: the paper (arXiv 2006.11477), fairseq's `examples/wav2vec/config/pretraining/*.yaml`, the published
configurations of XLS-R and MMS, and `models/wav2vec2_ssl/config.py` of omnilingual-asr. Numbers of heads are stated,
never derived from the width: Omnilingual has 16 heads at every size.
"""

from typing import Any

from wav2vec2.configuration.wav2vec2_config import Wav2Vec2Config


def base(**overrides: Any) -> Wav2Vec2Config:
    """BASE on LibriSpeech 960 h: 12 layers of 768, 95 M parameters, with the paper's pretraining settings."""
    pretraining = {
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.1,
        "feat_quantizer_dropout": 0.1,
        "final_dropout": 0.0,
        "layerdrop": 0.05,
        "mask_time_prob": 0.65,
        "feature_grad_mult": 0.1,
        "feature_penalty_weight": 10.0,
        "gumbel_temperature_decay": 0.999995,
    }
    return Wav2Vec2Config(**(pretraining | overrides))


def tiny(**overrides: Any) -> Wav2Vec2Config:
    """BASE in small, for two CPU cores: 4 layers of 192, about 3 M parameters, the same 20 ms frames."""
    size = {
        "conv_dim": (96,) * 7,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "num_conv_pos_embeddings": 64,
        "num_conv_pos_embedding_groups": 8,
        "num_codevectors_per_group": 64,
        "codevector_dim": 96,
        "proj_codevector_dim": 96,
        "classifier_proj_size": 96,
    }
    return base(**(size | overrides))


def small(**overrides: Any) -> Wav2Vec2Config:
    """16 M parameters that learn within minutes of one accelerator, from a warm start: 8 layers of 384, norms before
    the layers, and what kept all codes in use at this size."""
    differences = {
        "conv_dim": (256,) * 7,
        "hidden_size": 384,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "num_conv_pos_embeddings": 64,
        "do_stable_layer_norm": True,
        "initializer_range": 0.03,
        "hidden_dropout": 0.05,
        "attention_dropout": 0.0,
        "feat_proj_dropout": 0.05,
        "feat_quantizer_dropout": 0.05,
        "layerdrop": 0.0,
        "feature_penalty_weight": 1.0,
        "diversity_loss_weight": 0.5,
    }
    return base(**(differences | overrides))


def large(**overrides: Any) -> Wav2Vec2Config:
    """LARGE on LibriSpeech 960 h: 24 layers of 1024, 317 M parameters, group norm and post-norm as BASE."""
    size = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "codevector_dim": 768,
        "proj_codevector_dim": 768,
        "layerdrop": 0.2,
        "gumbel_temperature_end": 0.1,
    }
    return base(**(size | overrides))


def large_lv60k(**overrides: Any) -> Wav2Vec2Config:
    """LARGE on Libri-Light 60k h: layer norm in the feature encoder, pre-norm, no dropout, no feature penalty."""
    differences = {
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "feat_quantizer_dropout": 0.0,
        "layerdrop": 0.0,
        "feature_grad_mult": 1.0,
        "feature_penalty_weight": 0.0,
    }
    return large(**(differences | overrides))


def xls_r_300m(**overrides: Any) -> Wav2Vec2Config:
    """XLS-R with 0.3 billion parameters: the shape of LARGE LV-60k."""
    return large_lv60k(**overrides)


def xls_r_1b(**overrides: Any) -> Wav2Vec2Config:
    """XLS-R with 1 billion parameters: 48 layers of 1280, 16 heads."""
    size = {
        "hidden_size": 1280,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
        "codevector_dim": 1024,
        "proj_codevector_dim": 1024,
    }
    return large_lv60k(**(size | overrides))


def xls_r_2b(**overrides: Any) -> Wav2Vec2Config:
    """XLS-R with 2 billion parameters: 48 layers of 1920, 16 heads."""
    size = {"hidden_size": 1920, "intermediate_size": 7680}
    return xls_r_1b(**(size | overrides))


def mms_1b(**overrides: Any) -> Wav2Vec2Config:
    """MMS with 1 billion parameters and language adapters of width 16; `adapter_attn_dim=None` leaves them out."""
    return xls_r_1b(**({"adapter_attn_dim": 16} | overrides))


def omniasr_300m(**overrides: Any) -> Wav2Vec2Config:
    """Omnilingual 300M: the shape of LARGE LV-60k, with the 9,812 characters of the first release."""
    return large_lv60k(**({"vocab_size": 9812} | overrides))


def omniasr_1b(**overrides: Any) -> Wav2Vec2Config:
    """Omnilingual 1B: 48 layers of 1280, 16 heads of 80."""
    return xls_r_1b(**({"vocab_size": 9812} | overrides))


def omniasr_3b(**overrides: Any) -> Wav2Vec2Config:
    """Omnilingual 3B: 60 layers of 2048, 16 heads of 128."""
    size = {"hidden_size": 2048, "num_hidden_layers": 60, "intermediate_size": 8192}
    return omniasr_1b(**(size | overrides))


def omniasr_7b(**overrides: Any) -> Wav2Vec2Config:
    """Omnilingual 7B: 128 layers of 2048, 16 heads of 128."""
    return omniasr_3b(**({"num_hidden_layers": 128} | overrides))
