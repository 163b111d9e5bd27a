"""Strided convolutions after the Transformer (`add_adapter`), for encoder-decoder models.

Shapes: B batch, T frames, C channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import ADAPTER_PADDING, adapter_layer_output_length
from wav2vec2.modeling.feature_encoder import frames_within


class Wav2Vec2AdapterLayer(nn.Module):
    """A strided convolution with a gated linear unit."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        width = config.output_hidden_size or config.hidden_size
        self.conv = nn.Conv1d(
            width, 2 * width, config.adapter_kernel_size, stride=config.adapter_stride, padding=ADAPTER_PADDING
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T / stride); what is shorter than the kernel is padded to its length."""
        short = max(self.conv.kernel_size[0] - 2 * ADAPTER_PADDING - hidden_states.shape[2], 0)
        return F.glu(self.conv(F.pad(hidden_states, (0, short))), dim=1)


class Wav2Vec2Adapter(nn.Module):
    """Projection to another width if asked for, then the convolutions. No layer is dropped: each one changes T."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        self.proj = self.proj_layer_norm = None
        width = config.output_hidden_size or config.hidden_size
        if width != config.hidden_size:
            self.proj = nn.Linear(config.hidden_size, width)
            self.proj_layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Wav2Vec2AdapterLayer(config) for _ in range(config.num_adapter_layers))

    def forward(self, hidden_states: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T', C'). Frames from `lengths` (B,) on count as the zeros that pad a single clip."""
        if self.proj is not None and self.proj_layer_norm is not None:
            hidden_states = self.proj_layer_norm(self.proj(hidden_states))
        hidden_states = hidden_states.transpose(1, 2)
        for layer in self.layers:
            if lengths is not None:
                real = frames_within(lengths, hidden_states.shape[2])[:, None]
                hidden_states = hidden_states.masked_fill(~real, 0.0)
                lengths = adapter_layer_output_length(lengths, self.config)
            hidden_states = layer(hidden_states)
        return hidden_states.transpose(1, 2)
