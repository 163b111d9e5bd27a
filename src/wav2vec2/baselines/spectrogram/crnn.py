"""CRNN with CTC: convolutions over time and frequency, recurrent layers over the clip, a layer of tokens.

The order is that of CLDNN (Sainath et al., ICASSP 2015) and of Deep Speech 2 (arXiv 1512.02595): two convolutions, the
second with a stride over time, and bidirectional GRUs. The sizes are those of this project's label-efficiency study:
with GRUs of 160 a million parameters, with GRUs of 768 about as many as the small wav2vec 2.0.

Shapes: B batch, W windows, M bands, C channels, T frames, D width.
"""

from typing import ClassVar

from torch import Tensor, nn

from wav2vec2.baselines.spectrogram.batch_norm import FrameBatchNorm
from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramCTCConfig, recurrent_operations
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramForCTC, through_clips, zero_beyond
from wav2vec2.configuration import validation as rule
from wav2vec2.configuration.frame_arithmetic import one_of_every

#: Windows from one frame to the next: what the second convolution leaves.
_STRIDE = 2


class CRNNConfig(SpectrogramCTCConfig):
    """Configuration of a CRNN; the defaults are the study's.

    >>> CRNNConfig().frames(16000), CRNNConfig().conv_stride
    (25, (320, 2))
    """

    model_type = "crnn"

    #: Channels of both convolutions.
    channels: int = 24
    #: Width of the GRUs, in each direction.
    hidden_size: int = 160
    #: How many there are, one above the other.
    num_layers: int = 2
    #: Dropout between them, and before a layer of labels.
    dropout: float | int = 0.2

    rules: ClassVar[rule.Rules] = (
        *SpectrogramCTCConfig.rules,
        (rule.POSITIVE, "channels hidden_size num_layers"),
        (rule.PROBABILITY, "dropout"),
    )

    @property
    def frame_stride(self) -> int:
        """Windows from one frame to the next."""
        return _STRIDE

    @property
    def bands(self) -> int:
        """Bands that the convolutions leave, each of which takes every second."""
        return one_of_every(one_of_every(self.num_mel_bins, 2), 2)

    def operations(self, samples: int) -> float:
        """Of the convolutions, the GRUs and the layer of tokens."""
        windows, frames, kernel = self.windows(samples), self.frames(samples), 9 * self.channels
        convolutions = windows * one_of_every(self.num_mel_bins, 2) * kernel
        convolutions += frames * self.bands * kernel * self.channels
        recurrent = recurrent_operations(self.channels * self.bands, self.hidden_size, self.num_layers, gates=3)
        return 2.0 * convolutions + frames * (recurrent + 4.0 * self.hidden_size * int(self.vocab_size or 0))


class StridedConvolution(nn.Module):
    """A convolution over time and frequency, which takes every second band and every `stride`-th window."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(channels, width, 3, stride=(stride, 2), padding=1)
        self.norm = FrameBatchNorm(width)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, W, M) and its real windows (B,) -> the same of what is left, zero beyond them."""
        if lengths is not None:
            lengths = one_of_every(lengths, self.stride)
        return zero_beyond(self.norm(self.convolution(x), lengths).relu(), lengths), lengths


class CRNNForCTC(SpectrogramForCTC):
    """The network with a layer of tokens.

    >>> import torch
    >>> CRNNForCTC(CRNNConfig()).eval()(torch.zeros(1, 16000)).logits.shape
    torch.Size([1, 25, 32])
    """

    config: CRNNConfig
    config_class = CRNNConfig

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__(config)
        channels, width = config.channels, config.hidden_size
        self.first = StridedConvolution(1, channels, stride=1)
        self.second = StridedConvolution(channels, channels, stride=_STRIDE)
        self.recurrent = nn.GRU(
            channels * config.bands,
            width,
            num_layers=config.num_layers,
            bidirectional=True,
            batch_first=True,
            dropout=float(config.dropout) if config.num_layers > 1 else 0.0,
        )
        self.lm_head = self.head(2 * width)
        self.post_init()

    def encode(self, energies: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, W, M) -> (B, T, 2 D)"""
        x, lengths = self.first(energies[:, None], lengths)  # (B, C, W, M / 2)
        x, lengths = self.second(x, lengths)  # (B, C, T, M / 4)
        return through_clips(self.recurrent, x.permute(0, 2, 1, 3).flatten(2), lengths)

    def frames(self, energies: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What is encoded, and how much of it is a clip's own."""
        left = None if lengths is None else one_of_every(lengths, self.config.frame_stride)
        return self.encode(energies, lengths), left
