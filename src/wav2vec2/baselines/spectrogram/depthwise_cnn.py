"""A depthwise-separable CNN for whole clips, in the manner of YAMNet.

YAMNet (Plakal and Ellis, tensorflow/models, research/audioset/yamnet) is MobileNet v1 (Howard et al., arXiv 1704.04861)
on log-mel energies: each layer is a convolution of every channel by itself, then one of all channels at every place.
`presets.yamnet` has its layers and its 64 bands of 125 to 7500 Hz every 10 ms. What differs: a clip is heard whole and
averaged over its own frames, not in patches of 0.96 s, and energies are relative to the mean of the clip's own.

Shapes: B batch, W windows, M bands, C channels, N labels.
"""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from wav2vec2.baselines.spectrogram.batch_norm import FrameBatchNorm
from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramConfig
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramForLabels, zero_beyond
from wav2vec2.configuration import validation as rule
from wav2vec2.configuration.frame_arithmetic import one_of_every


class DepthwiseCNNConfig(SpectrogramConfig):
    """Configuration of a depthwise-separable CNN; the defaults are YAMNet's layers at half of their width, up to the
    first four strides.

    >>> DepthwiseCNNConfig(layer_strides=(1, 2))
    Traceback (most recent call last):
    ...
    ValueError: DepthwiseCNNConfig cannot be used:
      layer_channels / layer_strides: must be equally long, but layer_channels has 7, layer_strides has 2
    """

    model_type = "depthwise-cnn"

    num_mel_bins: int = 64
    hop_length: int = 160
    lowest_hertz: float | int = 125.0
    highest_hertz: float | int = 7500.0
    #: What a sound that lasts is known by is which bands are loud.
    band_by_band: bool = False

    #: Channels of the first convolution, which is an ordinary one and takes every second window and band.
    first_channels: int = 16
    #: Channels of each depthwise-separable layer.
    layer_channels: list[int] | tuple[int, ...] = (32, 64, 64, 128, 128, 256, 256)
    #: Each takes one window and band out of so many.
    layer_strides: list[int] | tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1)
    #: Dropout before the layer of the labels.
    dropout: float | int = 0.1

    rules: ClassVar[rule.Rules] = (
        *SpectrogramConfig.rules,
        (rule.POSITIVE, "first_channels"),
        (rule.POSITIVE_LIST, "layer_channels layer_strides"),
        (rule.PROBABILITY, "dropout"),
    )

    def contradictions(self) -> Iterator[str]:
        """Also: every layer has a stride."""
        yield from super().contradictions()
        if problem := rule.equally_long(self, "layer_channels", "layer_strides"):
            yield problem

    def operations(self, samples: int) -> float:
        """Of all convolutions."""
        windows, bands = one_of_every(self.windows(samples), 2), one_of_every(self.num_mel_bins, 2)
        inputs, products = self.first_channels, 9 * self.first_channels * windows * bands
        for width, stride in zip(self.layer_channels, self.layer_strides, strict=True):
            windows, bands = one_of_every(windows, stride), one_of_every(bands, stride)
            products += (9 + width) * inputs * windows * bands
            inputs = width
        return 2.0 * products


class NormedConvolution(nn.Module):
    """A convolution, its batch norm and ReLU."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = FrameBatchNorm(width)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, W, M) and its real windows (B,) -> the same of what is left, zero beyond them."""
        if lengths is not None:
            lengths = one_of_every(lengths, self.stride)
        return zero_beyond(self.norm(self.convolution(x), lengths).relu(), lengths), lengths


class DepthwiseCNNForSequenceClassification(SpectrogramForLabels):
    """The mean over a clip's real frames and all bands, and a linear layer.

    >>> import torch
    >>> model = DepthwiseCNNForSequenceClassification(DepthwiseCNNConfig(num_labels=5)).eval()
    >>> model(torch.zeros(1, 16000)).logits.shape
    torch.Size([1, 5])
    """

    config: DepthwiseCNNConfig
    config_class = DepthwiseCNNConfig

    def __init__(self, config: DepthwiseCNNConfig) -> None:
        super().__init__(config)
        width = config.first_channels
        self.layers = nn.ModuleList([NormedConvolution(1, width, kernel=3, stride=2)])
        for channels, stride in zip(config.layer_channels, config.layer_strides, strict=True):
            self.layers.append(NormedConvolution(width, width, kernel=3, stride=stride, groups=width))
            self.layers.append(NormedConvolution(width, channels, kernel=1))
            width = channels
        self.dropout = nn.Dropout(float(config.dropout))
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def frames(self, energies: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Energies (B, W, M), their real windows (B,) -> means over bands (B, W, C), and the same of what is left."""
        x = energies[:, None]
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x.mean(3).transpose(1, 2), lengths
