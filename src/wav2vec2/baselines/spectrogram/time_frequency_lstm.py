"""Time-frequency LSTM with CTC: an LSTM along the bands of each window, and above it LSTMs along the clip.

Li, Mohamed, Zweig and Gong, "LSTM time and frequency recurrence for automatic speech recognition" (ASRU 2015): the
frequency LSTM goes through overlapping pieces of the spectrum from low to high, and what it says at every piece is what
the time LSTM hears of the window. Here both go both ways, and two windows make one frame, as in `crnn.py`; sizes are
ours.

Shapes: B batch, W windows, M bands, P pieces of a spectrum, Z bands of a piece, T frames, D width.
"""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramCTCConfig, recurrent_operations
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramForCTC, in_groups, through_clips, zero_beyond
from wav2vec2.configuration import validation as rule
from wav2vec2.configuration.frame_arithmetic import conv_output_length, one_of_every

#: Windows that make one frame.
_STRIDE = 2


class TimeFrequencyLSTMConfig(SpectrogramCTCConfig):
    """Configuration of a time-frequency LSTM.

    >>> TimeFrequencyLSTMConfig().pieces
    9
    """

    model_type = "time-frequency-lstm"

    #: Bands of a piece of the spectrum.
    piece_size: int = 16
    #: Bands from one piece to the next.
    piece_step: int = 8
    #: Width of the LSTM along the bands, in each direction.
    frequency_size: int = 24
    #: Width of the LSTMs along the clip, in each direction.
    hidden_size: int = 160
    #: How many of these there are, one above the other.
    num_layers: int = 2
    #: Dropout between them.
    dropout: float | int = 0.2

    rules: ClassVar[rule.Rules] = (
        *SpectrogramCTCConfig.rules,
        (rule.POSITIVE, "piece_size piece_step frequency_size hidden_size num_layers"),
        (rule.PROBABILITY, "dropout"),
    )

    def contradictions(self) -> Iterator[str]:
        """Also: there is a piece."""
        yield from super().contradictions()
        if self.piece_size > self.num_mel_bins:
            yield f"piece_size={self.piece_size}: must be at most num_mel_bins={self.num_mel_bins}"

    @property
    def frame_stride(self) -> int:
        """Windows from one frame to the next."""
        return _STRIDE

    @property
    def pieces(self) -> int:
        """Pieces of a spectrum."""
        return conv_output_length(self.num_mel_bins, (self.piece_size,), (self.piece_step,))

    @property
    def heard_of_window(self) -> int:
        """Numbers that the LSTM along the bands says of a window."""
        return self.pieces * 2 * self.frequency_size

    def operations(self, samples: int) -> float:
        """Of both kinds of LSTM and the layer of tokens."""
        along_bands = self.pieces * recurrent_operations(self.piece_size, self.frequency_size, 1, gates=4)
        inputs = _STRIDE * self.heard_of_window
        along_clip = recurrent_operations(inputs, self.hidden_size, self.num_layers, gates=4)
        tokens = 4.0 * self.hidden_size * int(self.vocab_size or 0)
        return self.windows(samples) * along_bands + self.frames(samples) * (along_clip + tokens)


class TimeFrequencyLSTMForCTC(SpectrogramForCTC):
    """The network with a layer of tokens.

    >>> import torch
    >>> TimeFrequencyLSTMForCTC(TimeFrequencyLSTMConfig()).eval()(torch.zeros(1, 16000)).logits.shape
    torch.Size([1, 25, 32])
    """

    config: TimeFrequencyLSTMConfig
    config_class = TimeFrequencyLSTMConfig

    def __init__(self, config: TimeFrequencyLSTMConfig) -> None:
        super().__init__(config)
        self.along_bands = nn.LSTM(config.piece_size, config.frequency_size, bidirectional=True, batch_first=True)
        self.along_clip = nn.LSTM(
            _STRIDE * config.heard_of_window,
            config.hidden_size,
            num_layers=config.num_layers,
            bidirectional=True,
            batch_first=True,
            dropout=float(config.dropout) if config.num_layers > 1 else 0.0,
        )
        self.lm_head = self.head(2 * config.hidden_size)
        self.post_init()

    def encode(self, energies: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, W, M) -> (B, T, 2 D)"""
        config = self.config
        spectra = energies.flatten(0, 1).unfold(1, config.piece_size, config.piece_step)  # (B W, P, Z)
        said, _ = self.along_bands(spectra)
        x = said.reshape(*energies.shape[:2], config.heard_of_window)  # (B, W, P x 2 D)
        x = in_groups(zero_beyond(x[:, None], lengths)[:, 0], _STRIDE)  # (B, T, 2 P x 2 D)
        return through_clips(self.along_clip, x, None if lengths is None else one_of_every(lengths, _STRIDE))
