"""Log-mel energies of a clip, and the loss of saying them of each frame of a model.

A band's energies are taken relative to their mean and deviation over the clip's own frames, so that neither padding nor
the neighbours in a batch change them, and how loud a clip is does not either.

Shapes: B batch, S samples, T frames, C channels, M bands, F frequencies.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import frame_stride, receptive_field
from wav2vec2.modeling.feature_encoder import UniformLinear, frames_within
from wav2vec2.modeling.precision import in_full_precision

BANDS = 80
SAMPLING_RATE = 16_000
#: The edges of the lowest and the highest band, in Hertz.
LOWEST, HIGHEST = 60.0, 7600.0
#: Added to the energies of a clip of unit variance, so that silence is no infinity ...
ENERGY_FLOOR = 1e-3
#: ... and to the deviation of a band, so that one that never changes is no division by zero.
DEVIATION_FLOOR = 0.1


class SaidLogMel(NamedTuple):
    """The squared errors of a batch, a mean over bands and summed over its real frames, as `loss` (), and how many
    `frames` () these are."""

    loss: Tensor
    frames: Tensor


class LogMelEnergies(nn.Module):
    """Waveforms -> log-mel energies: of windows of `size` samples, the next of which begins `hop` samples later, in
    `bands` bands, whose edges lie equally far apart on the mel scale between `lowest` and `highest` Hertz.

    They have the mean 0 and the deviation 1 over the frames of a clip: each band by itself, which leaves what changes,
    as in speech, or (`band_by_band=False`) all together, which leaves a sound that lasts.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        size: int,
        hop: int,
        bands: int = BANDS,
        lowest: float = LOWEST,
        highest: float = HIGHEST,
        band_by_band: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.hop, self.band_by_band = size, hop, band_by_band
        self.points = max(1024, 2 << size.bit_length())  # so fine that every band has frequencies of its own
        edges = bands, lowest, highest, SAMPLING_RATE
        self._filters = mel_filter_bank(self.points // 2 + 1, *edges, mel_scale="htk")
        self.register_buffer("window", torch.empty(size, device="cpu", dtype=torch.float32), persistent=False)
        self.register_buffer(
            "filters", torch.empty(self._filters.shape, device="cpu", dtype=torch.float32), persistent=False
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """What follows from the settings alone and is in no file. (`from_pretrained` empties such buffers.)"""
        self.window.copy_(torch.hann_window(self.size, device="cpu", dtype=torch.float32))
        self.filters.copy_(torch.from_numpy(self._filters))

    @torch.no_grad()
    def forward(self, waveforms: Tensor, samples: Tensor, frames: Tensor) -> Tensor:
        """Waveforms (B, S), of whose samples and frames the first so many (B,) are real, to (B, T, M) in float32, zero
        where a frame is not real."""
        with in_full_precision(waveforms):
            waveforms = standardised(waveforms.float(), frames_within(samples, waveforms.shape[1]), 1e-7)
            waveforms = F.pad(waveforms, (0, max(self.size - waveforms.shape[1], 0)))
            windows = waveforms.unfold(1, self.size, self.hop) * self.window  # (B, T, size)
            spectrum = torch.fft.rfft(windows, n=self.points)  # (B, T, F)
            power = spectrum.real.square() + spectrum.imag.square()
            energies = (power @ self.filters + ENERGY_FLOOR).log()  # (B, T, M)
            real = frames_within(frames, energies.shape[1])[:, :, None]
            if self.band_by_band:
                return standardised(energies, real, 0.0, DEVIATION_FLOOR)
            flat = energies.flatten(1)  # (B, T M)
            return standardised(flat, real.expand_as(energies).flatten(1), 0.0, DEVIATION_FLOOR).view_as(energies)


class LogMelHead(nn.Module):
    """A linear layer that says the log-mel energies of each frame, and how wrong it is."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        # a window is what one frame of the model hears
        size, hop = receptive_field(config.conv_kernel, config.conv_stride), frame_stride(config.conv_stride)
        self.energies = LogMelEnergies(size, hop)
        self.linear = UniformLinear(config.conv_dim[-1], BANDS)

    def forward(self, features: Tensor, waveforms: Tensor, samples: Tensor, frames: Tensor) -> SaidLogMel:
        """Features (B, T, C) of waveforms (B, S), of whose samples and frames the first so many (B,) are real."""
        errors = self.linear(features).float() - self.energies(waveforms, samples, frames)
        real = frames_within(frames, errors.shape[1])
        return SaidLogMel(errors.square().mean(2).masked_fill(~real, 0.0).sum(), frames.sum())


def standardised(x: Tensor, real: Tensor, added_to_variance: float, added_to_deviation: float = 0.0) -> Tensor:
    """x (B, N, ...) with the mean 0 and the deviation 1 over those of its N that are `real` (B, N, ...), zero where it
    is not."""
    count = real.sum(1, keepdim=True).clamp(min=1)
    centred = (x - x.masked_fill(~real, 0.0).sum(1, keepdim=True) / count).masked_fill(~real, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / ((variance + added_to_variance).sqrt() + added_to_deviation)
