"""Multi-head self-attention through Transformers' attention interface.

Shapes: B batch, H heads, T frames, C channels, D = C / H head size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.dropout_attention import dropout_attention, keeping_weights_is_faster
from wav2vec2.modeling.kept_keys import LayerKeys
from wav2vec2.modeling.linear import Linear
from wav2vec2.modeling.precision import product_dtype


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention spelled out, (B, H, T, D) -> (B, T, H, D); the only one that returns its weights (B, H, T, T)."""
    scores = query @ key.transpose(-2, -1) * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1)
    output = nn.functional.dropout(weights, dropout, module.training) @ value
    return output.transpose(1, 2).contiguous(), weights


def mask_for(implementation: str, config: Wav2Vec2Config, hidden_states: Tensor, frame_mask: Tensor | None) -> Any:
    """The real frames (B, T) in the form that an attention implementation reads.

    A clip without a single real frame attends to its first one, which is zero: its output means nothing, but is finite.
    """
    if frame_mask is None:
        return None
    first = torch.arange(frame_mask.shape[1], device=frame_mask.device) == 0
    seen = frame_mask | first
    if implementation in ("eager", "sdpa"):
        return seen[:, None, None, :].expand(-1, 1, seen.shape[1], -1)  # (B, 1, T, T)
    return create_bidirectional_mask(config, hidden_states, seen)


class Wav2Vec2Attention(nn.Module):
    """Multi-head self-attention in which every frame attends to every real frame of its clip."""

    is_causal = False

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Any, implementation: str, keys: LayerKeys | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, T) if the implementation has them. Of a stream, `keys` are
        those that were kept of its earlier frames."""
        shape = (*hidden_states.shape[:2], self.num_heads, self.head_dim)
        hidden_states = hidden_states.to(product_dtype(hidden_states))  # once, not in each of the three products
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)  # (B, H, T, D)
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        if keys is not None:
            key, value = keys.followed_by(key, value)
        dropout = self.config.attention_dropout if self.training else 0.0
        if implementation == "sdpa" and keeping_weights_is_faster(query, dropout):
            output = dropout_attention(query, key, value, attention_mask, self.scaling, dropout)
            output, weights = output.transpose(1, 2), None
        else:
            attend: Callable[..., tuple[Tensor, Tensor | None]] = eager_attention
            if implementation != "eager":
                attend = ALL_ATTENTION_FUNCTIONS[implementation]
            output, weights = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling)
        return self.out_proj(output.flatten(2)), weights


class FeedForward(nn.Module):
    """The two linear layers of a Transformer layer, applied frame by frame."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.intermediate_dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.intermediate_dropout = Dropout(config.activation_dropout)
        self.output_dense = Linear(config.intermediate_size, config.hidden_size)
        self.output_dropout = Dropout(config.hidden_dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        hidden_states = self.activation(self.intermediate_dense(hidden_states))
        hidden_states = self.output_dense(self.intermediate_dropout(hidden_states))
        output: Tensor = self.output_dropout(hidden_states)
        return output
