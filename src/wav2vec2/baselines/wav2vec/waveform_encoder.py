"""The encoder: convolutions over the waveform, each followed by a norm over the clip and a non-linearity.

Shapes: B batch, S samples, C channels, T frames.
"""

import math

from torch import Tensor, nn
from transformers.activations import ACT2FN

from wav2vec2.baselines.wav2vec.clip_norm import ClipNorm
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.convolution import Convolution


class EncoderLayer(nn.Module):
    """Convolution, norm, activation, and where asked for and possible the layer's own input on top."""

    def __init__(self, config: Wav2VecConfig, index: int) -> None:
        super().__init__()
        channels, width = (config.conv_dim[index - 1] if index else 1), config.conv_dim[index]
        self.kernel, self.stride = config.conv_kernel[index], config.conv_stride[index]
        self.conv = Convolution(channels, width, self.kernel, self.stride, bias=False)
        self.norm = ClipNorm(width, affine=config.norm_affine)
        self.activation = ACT2FN[config.activation]
        self.adds_input = config.conv_skip_connections and channels == width
        self.scale = math.sqrt(config.residual_scale)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C_in, T_in) and its real lengths (B,) -> (B, C, T) and its real lengths. Of the input that is added,
        every `stride`-th frame is taken."""
        if lengths is not None:
            lengths = conv_output_length(lengths, (self.kernel,), (self.stride,))
        output: Tensor = self.activation(self.norm(self.conv(x), lengths))
        if self.adds_input:
            output = (output + x[:, :, :: self.stride][:, :, : output.shape[2]]) * self.scale
        return output, lengths


class WaveformEncoder(nn.Module):
    """Waveform (B, S) -> features z (B, C, T), one every 10 ms."""

    def __init__(self, config: Wav2VecConfig) -> None:
        super().__init__()
        self.log_compression = config.log_compression
        self.conv_layers = nn.ModuleList(EncoderLayer(config, index) for index in range(len(config.conv_dim)))

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`lengths` (B,) are the real samples of each clip; None if all are."""
        x = waveform[:, None]
        for layer in self.conv_layers:
            x, lengths = layer(x, lengths)
        return x.abs().log1p() if self.log_compression else x
