"""The model on pieces of many streams at once: their new samples through the convolutions, their windows through the
Transformer. What comes out for a stream does not depend on its neighbours.

Shapes: B streams, S samples, T frames, C channels of the feature encoder, K kernel size, U frames of the logits,
V tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wav2vec2.inference.streaming.incoming_audio import Chunk, Hearing, Patches
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.modeling.convolution import statistics_dtype
from wav2vec2.modeling.convolved_clips import ConvolvedClips

#: Seconds for which running moments remember.
_MEMORY = 60.0


class StreamEncoder:
    """Runs a model on streams."""

    def __init__(self, model: Wav2Vec2ForCTC, normalise: bool, sampling_rate: int) -> None:
        self.model = model
        config, body = model.config, model.wav2vec2
        first = (config.conv_kernel[0], config.conv_stride[0]) if config.feat_extract_norm == "group" else None
        stride = int(np.prod(config.conv_stride))
        memory = round(_MEMORY * sampling_rate)
        self.hearing = Hearing(stride, body.receptive_field, normalise, first, memory)

    @torch.inference_mode()
    def convolve(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """The convolutions' output (T, C) for the new frames of each stream."""
        encoder, device = self.model.wav2vec2.feature_extractor, self.model.device
        samples = pad_sequence([torch.from_numpy(chunk.samples) for chunk in chunks], batch_first=True)  # (B, S)
        moments = self._moments([chunk.patches for chunk in chunks if chunk.patches is not None])
        features = encoder.convolve_piece(samples.to(device), moments)  # (B, C, T)
        return [row[:, : chunk.frames].T for row, chunk in zip(features, chunks, strict=True)]

    def _moments(self, patches: Sequence[Patches]) -> tuple[Tensor, Tensor] | None:
        """Mean (B, K) and covariance (B, K, K) for a model with a group norm."""
        if not patches:
            return None
        wide = statistics_dtype(next(self.model.wav2vec2.feature_extractor.parameters()))
        mean, covariance = (
            torch.from_numpy(np.stack(values)).to(wide).to(self.model.device)
            for values in ([one.mean for one in patches], [one.covariance for one in patches])
        )
        return mean, covariance

    @torch.inference_mode()
    def log_probs(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """The log-probabilities (U, V) of windows of features (T, C), in float32 on the CPU."""
        hearing = self.hearing
        samples = [(len(window) - 1) * hearing.stride + hearing.receptive_field for window in windows]
        features = pad_sequence(list(windows), batch_first=True)  # (B, T, C)
        clips = ConvolvedClips(features, torch.tensor(samples, device=features.device), max(samples))
        logits = self.model(clips).logits.float().log_softmax(-1).cpu()
        every = self.model.config.frames_per_logits
        return [row[: -(-len(window) // every)] for row, window in zip(logits, windows, strict=True)]
