"""Log-mel energies made in advance, once for all updates, where waveforms would be heard anew in each.

Shapes: B clips, S samples, W windows, M bands.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.utils import TensorType

from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramConfig
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.log_mel import SAMPLING_RATE, LogMelEnergies


class LogMelFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms -> `input_features` (B, W, M) and `attention_mask` (B, W), what networks on log-mel energies make of
    waveforms themselves. Energies are relative to those of the clip, so neither its neighbours in a batch nor its
    loudness matter; beyond its end there are zeros.

    >>> batch = LogMelFeatureExtractor()([torch.randn(16000), torch.randn(400)], sampling_rate=16000)
    >>> batch["input_features"].shape, batch["attention_mask"].sum(1).tolist()
    (torch.Size([2, 49, 80]), [49, 1])
    """

    model_input_names = ["input_features", "attention_mask"]

    def __init__(
        self,
        feature_size: int = SpectrogramConfig.num_mel_bins,
        sampling_rate: int = SAMPLING_RATE,
        padding_value: float = 0.0,
        window_length: int = SpectrogramConfig.window_length,
        hop_length: int = SpectrogramConfig.hop_length,
        lowest_hertz: float = SpectrogramConfig.lowest_hertz,
        highest_hertz: float = SpectrogramConfig.highest_hertz,
        band_by_band: bool = SpectrogramConfig.band_by_band,
        **kwargs: Any,
    ) -> None:
        """`feature_size` bands between two frequencies; the lengths are in samples."""
        if (sampling_rate, padding_value) != (SAMPLING_RATE, 0.0):
            raise ValueError(
                f"sampling_rate={sampling_rate}, padding_value={padding_value}: must be {SAMPLING_RATE} and 0.0"
            )
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=0.0, **kwargs)
        self.window_length, self.hop_length = window_length, hop_length
        self.lowest_hertz, self.highest_hertz = lowest_hertz, highest_hertz
        self.band_by_band = band_by_band

    @classmethod
    def of(cls, config: SpectrogramConfig) -> "LogMelFeatureExtractor":
        """What a model of this configuration hears."""
        return cls(
            config.num_mel_bins,
            window_length=config.window_length,
            hop_length=config.hop_length,
            lowest_hertz=config.lowest_hertz,
            highest_hertz=config.highest_hertz,
            band_by_band=config.band_by_band,
        )

    @torch.no_grad()
    def __call__(
        self, raw_speech: Any, sampling_rate: int | None = None, return_tensors: str | TensorType | None = "pt"
    ) -> BatchFeature:
        """One clip (an array, tensor or list of samples), or a list of clips, padded to the longest."""
        if sampling_rate != self.sampling_rate:
            raise ValueError(f"sampling_rate={sampling_rate}: must be {self.sampling_rate}, that of the samples")
        clips = _clips(raw_speech)
        samples = torch.tensor([len(clip) for clip in clips])
        windows = conv_output_length(samples, (self.window_length,), (self.hop_length,))
        waveforms = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)  # (B, S)
        energies = self._energies()(waveforms, samples, windows)[:, : int(windows.max())]
        mask = frames_within(windows, energies.shape[1]).int()
        return BatchFeature({"input_features": energies, "attention_mask": mask}, tensor_type=return_tensors)

    def _energies(self) -> LogMelEnergies:
        """Made anew: an extractor is numbers alone, which are saved, copied and sent to other processes."""
        others = self.lowest_hertz, self.highest_hertz, self.band_by_band
        return LogMelEnergies(self.window_length, self.hop_length, self.feature_size, *others)


def _clips(raw_speech: Any) -> list[Tensor]:
    """One clip or several, each (S,) in float32; what is no number, or has several channels, is refused by name."""
    several = isinstance(raw_speech, Sequence) and bool(raw_speech) and not isinstance(raw_speech[0], int | float)
    clips = [torch.as_tensor(one).float() for one in (raw_speech if several else [raw_speech])]
    for number, clip in enumerate(clips):
        if clip.dim() != 1 or not len(clip):
            raise ValueError(f"clip {number} has the shape {tuple(clip.shape)}: must be (samples,), one channel")
        if not clip.isfinite().all():
            raise ValueError(f"clip {number} has samples that are no finite numbers")
    return clips
