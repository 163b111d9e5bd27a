"""The Transformer: one layer and one stack, in which pre- or post-norm is a flag.

Shapes: B batch, T frames, C channels, H heads.
"""

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.attention import FeedForward, Wav2Vec2Attention, mask_for
from wav2vec2.modeling.attention_in_chunks import ChunkPlaces, Chunks, places_of, refuse_without_masks
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.kept_keys import LayerKeys, StreamsOfChunks
from wav2vec2.modeling.layer_drop import LayerDrop, join_with_zero_gradient
from wav2vec2.modeling.positional_convolution import Wav2Vec2PositionalConvEmbedding

logger = logging.getLogger("wav2vec2")


class Wav2Vec2AttnAdapterLayer(nn.Module):
    """A language adapter: a narrow bottleneck at the end of a Transformer layer (MMS)."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, bottleneck)
        self.act_fn = nn.ReLU()
        self.linear_2 = nn.Linear(bottleneck, width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        output: Tensor = self.linear_2(self.act_fn(self.linear_1(self.norm(hidden_states))))
        return output


class Wav2Vec2EncoderLayer(GradientCheckpointingLayer):
    """Attention and feed-forward network, each with a residual connection and a layer norm."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.pre_norm = config.do_stable_layer_norm
        self.attention = Wav2Vec2Attention(config)
        self.dropout = Dropout(config.hidden_dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.adapter_layer = None
        if config.adapter_attn_dim is not None and self.pre_norm:
            self.adapter_layer = Wav2Vec2AttnAdapterLayer(config.hidden_size, config.adapter_attn_dim)

    def forward(
        self,
        x: Tensor,
        attention_mask: Any,
        implementation: str,
        skip: bool = False,
        keys: LayerKeys | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the attention weights if the implementation has them. Of a stream, `keys` are
        those that attention kept."""
        if skip:
            return join_with_zero_gradient(x, *self.parameters()), None
        if self.pre_norm:
            attended, weights = self.attention(self.layer_norm(x), attention_mask, implementation, keys)
            x = x + self.dropout(attended)
            x = x + self.feed_forward(self.final_layer_norm(x))
        else:
            attended, weights = self.attention(x, attention_mask, implementation, keys)
            x = self.layer_norm(x + self.dropout(attended))
            x = self.final_layer_norm(x + self.feed_forward(x))
        if self.adapter_layer is not None:
            x = x + self.adapter_layer(x)
        return x, weights


class Context(NamedTuple):
    """What the Transformer made of the features: its output `hidden_states` (B, T, C) and, if they were asked for, the
    input and the output of every layer, and every layer's attention weights (B, H, T, T)."""

    hidden_states: Tensor
    all_hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class Wav2Vec2Encoder(nn.Module):
    """Positions, then the layers. With pre-norm the last layer norm follows them, else it precedes them."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        self.pos_conv_embed = Wav2Vec2PositionalConvEmbedding(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(Wav2Vec2EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.layer_drop = LayerDrop(config.num_hidden_layers)
        #: What frames see in training, whatever the configuration says; None: what it says.
        self.drawn_chunks: Chunks | None = None
        if config.adapter_attn_dim is not None and not config.do_stable_layer_norm:
            logger.warning(
                "adapter_attn_dim=%d: there are no language adapters in this model, since only layers with "
                "do_stable_layer_norm=True have them",
                config.adapter_attn_dim,
            )

    def forward(
        self,
        x: Tensor,
        frame_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> Context:
        """(B, T, C) -> (B, T, C) and, on request, what lies between. `frame_mask` (B, T) marks real frames."""
        implementation = "eager" if output_attentions else self.config._attn_implementation
        places = places_of(self.chunks(), x.shape[1], x.device, implementation)
        x, attention_mask = self.with_positions(x, frame_mask, implementation, places)
        x = self.dropout(x if self.config.do_stable_layer_norm else self.layer_norm(x))
        hidden_states, attentions = [x], []
        skipped = self.layer_drop(self.config.layerdrop)
        for index, layer in enumerate(self.layers):
            if isinstance(skipped, Tensor):
                output, weights = layer(x, attention_mask, implementation)
                x = torch.where(skipped[index], x, output)
            else:
                skip = skipped is not None and skipped[index]
                x, weights = layer(x, attention_mask, implementation, skip)
            if output_hidden_states:
                hidden_states.append(x)
            if output_attentions:
                attentions.append(self.no_attention(x) if weights is None else weights)
        if self.config.do_stable_layer_norm:
            x = self.layer_norm(x)
        if places is not None:
            x = places.gathered(x)
            hidden_states = [places.gathered(state) for state in hidden_states]
            attentions = [places.weights(weights) for weights in attentions]
        return Context(
            x, tuple(hidden_states) if output_hidden_states else None, tuple(attentions) if output_attentions else None
        )

    def next_chunks(self, x: Tensor, streams: StreamsOfChunks, chunks: Chunks) -> Tensor:
        """The next chunk of each of some streams, with its look-ahead: (B, W, C) -> (B, W, C). What later ones see of
        it is kept."""
        refuse_without_masks(self.config._attn_implementation)
        heard = x.masked_fill(~streams.there[:, :, None], 0.0)
        positions = self.pos_conv_embed(torch.cat([streams.before.to(x.dtype), heard], 1), streams.before.shape[1])
        x = heard + positions.to(x.device)
        x = x if self.config.do_stable_layer_norm else self.layer_norm(x)
        for layer, keys in zip(self.layers, streams.layers, strict=True):
            x, _ = layer(x, streams.visible, self.config._attn_implementation, keys=keys)
        streams.keep(heard, chunks)
        return self.layer_norm(x) if self.config.do_stable_layer_norm else x

    def chunks(self) -> Chunks:
        """What a frame sees: in training, what was drawn for it if anything was; else what the configuration says."""
        drawn = self.drawn_chunks if self.training else None
        return Chunks.of(self.config) if drawn is None else drawn

    def with_positions(
        self, x: Tensor, frame_mask: Tensor | None, implementation: str, places: ChunkPlaces | None
    ) -> tuple[Tensor, Any]:
        """Features (B, T, C) with their positions, each at its place (B, L, C), and what the places see."""
        if frame_mask is not None:
            x = x.masked_fill(~frame_mask[:, :, None], 0.0)
        if places is None:
            attention_mask = mask_for(implementation, self.config, x, frame_mask)
            return x + self.pos_conv_embed(x).to(x.device), attention_mask
        positions = places.positions(x, self.pos_conv_embed, self.pos_conv_embed.conv.left).to(x.device)
        return places.spread(x) + positions, places.visible(frame_mask)

    def no_attention(self, x: Tensor) -> Tensor:
        """The weights (B, H, T, T) of a layer that was skipped."""
        return x.new_zeros(x.shape[0], self.config.num_attention_heads, x.shape[1], x.shape[1])
