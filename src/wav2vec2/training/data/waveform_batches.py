"""Clips of different lengths as one batch of waveforms.

Shapes: B clips, S samples of the longest.
"""

import numpy as np
import torch

from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.audio_clips import LoadedClip

#: What stands where no clip could be read, so that every process still takes part in the update: one frame.
EMPTY_SAMPLES = 400


def waveform_batch(clips: list[LoadedClip], extractor: Wav2Vec2FeatureExtractor) -> dict[str, torch.Tensor]:
    """`input_values` and `attention_mask` (B, S), and `clip_seeds` (B,). Without clips, one of no real sample."""
    if not clips:
        return {
            "input_values": torch.zeros(1, EMPTY_SAMPLES),
            "attention_mask": torch.zeros(1, EMPTY_SAMPLES, dtype=torch.long),
            "clip_seeds": torch.zeros(1, dtype=torch.long),
        }
    features = extractor(
        [np.asarray(clip.samples, np.float32) for clip in clips],
        sampling_rate=extractor.sampling_rate,
        padding=True,
        return_tensors="pt",
    )
    return {
        "input_values": features["input_values"],
        "attention_mask": features["attention_mask"].long(),
        "clip_seeds": torch.tensor([clip.seed for clip in clips]),
    }
