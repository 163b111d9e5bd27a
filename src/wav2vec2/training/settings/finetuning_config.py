"""What the paper sets in the configuration of a model that is fine-tuned."""

from typing import Any

#: Dropouts, masks and LayerDrop of BASE on 10 hours (fairseq base_10h.yaml; mask_prob is the paper's p x 10,
#: mask_channel_prob the paper's p x 64). The convolutional encoder is never trained: no gradient reaches it.
FINETUNING_CONFIG: dict[str, Any] = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "activation_dropout": 0.1,
    "layerdrop": 0.05,
    "mask_time_prob": 0.65,
    "mask_time_length": 10,
    "mask_feature_prob": 0.5,
    "mask_feature_length": 64,
    "feature_grad_mult": 0.0,
}
