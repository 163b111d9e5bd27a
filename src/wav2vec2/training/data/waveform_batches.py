"""Clips of different lengths as one batch of waveforms, made in worker processes: NumPy and torch are all they need.

Shapes: B clips, S samples of the longest.
"""

from dataclasses import dataclass
from typing import Any

import torch

from wav2vec2.processing.waveforms import as_waveform, normalised
from wav2vec2.training.data.audio_clips import LoadedClip

#: What stands where no clip could be read, so that every process still takes part in the update: one frame.
EMPTY_SAMPLES = 400


@dataclass(frozen=True)
class Waveforms:
    """What a feature extractor makes of clips, padded behind them, without the extractor."""

    normalize: bool
    padding: float = 0.0

    @classmethod
    def of(cls, extractor: Any) -> "Waveforms":
        """With the choices of a feature extractor."""
        return cls(extractor.do_normalize, extractor.padding_value)

    def __call__(self, clips: list[LoadedClip]) -> dict[str, torch.Tensor]:
        """`input_values` and `attention_mask` (B, S), and `clip_seeds` (B,). Without clips, one of no real sample."""
        if not clips:
            return {
                "input_values": torch.zeros(1, EMPTY_SAMPLES),
                "attention_mask": torch.zeros(1, EMPTY_SAMPLES, dtype=torch.long),
                "clip_seeds": torch.zeros(1, dtype=torch.long),
            }
        shape = len(clips), max(len(clip.samples) for clip in clips)
        values, mask = torch.full(shape, self.padding), torch.zeros(shape, dtype=torch.long)
        for row, clip in enumerate(clips):
            samples = as_waveform(clip.samples, "the audio")
            samples = normalised(samples, "the audio") if self.normalize else samples
            values[row, : len(samples)] = torch.from_numpy(samples)
            mask[row, : len(samples)] = 1
        seeds = torch.tensor([clip.seed for clip in clips])
        return {"input_values": values, "attention_mask": mask, "clip_seeds": seeds}
