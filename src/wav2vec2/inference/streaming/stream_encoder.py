"""The model on pieces of many streams at once: their new samples through the convolutions, what follows of each through
the Transformer. What comes out for a stream does not depend on its neighbours.

There are two ways through the Transformer. A model that was trained on whole clips looks at a window, which is computed
anew for every block (`WindowedEncoder`). One that was tuned in chunks computes the block and its right context alone,
and keeps the keys and values of what came before (`CachedEncoder`).

Shapes: B streams, S samples, T frames, C channels of the feature encoder, K kernel size, U frames of the logits,
V tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wav2vec2.inference.streaming.incoming_audio import Chunk, Hearing, Patches
from wav2vec2.inference.streaming.look_ahead import LookAhead
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.modeling.attention_in_chunks import Chunks
from wav2vec2.modeling.convolution import statistics_dtype
from wav2vec2.modeling.convolved_clips import ConvolvedClips
from wav2vec2.modeling.kept_keys import KeptKeys, StreamsOfChunks

#: Seconds for which running moments remember.
_MEMORY = 60.0


@dataclass(frozen=True)
class Window:
    """What the Transformer is given of one stream."""

    #: (T, C): the block, and what it looks at of the features before and behind it.
    features: Tensor
    #: How many of these frames become final.
    block: int
    #: What is kept of the frames before, where they are not computed anew.
    keys: KeptKeys | None


class StreamEncoder(ABC):
    """Runs a model on streams."""

    def __init__(self, model: Wav2Vec2ForCTC, normalise: bool, sampling_rate: int, look_ahead: LookAhead) -> None:
        self.model = model
        #: Which features a window has.
        self.look_ahead = look_ahead
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
    def log_probs(self, windows: Sequence[Window]) -> list[Tensor]:
        """The log-probabilities (U, V) of windows, in float32 on the CPU."""
        logits = self.logits(windows).float().log_softmax(-1).cpu()
        every = self.model.config.frames_per_logits
        return [row[: -(-len(one.features) // every)] for row, one in zip(logits, windows, strict=True)]

    @abstractmethod
    def logits(self, windows: Sequence[Window]) -> Tensor:
        """Of windows (B, U, V), whatever stands behind the frames of each."""

    @abstractmethod
    def no_keys(self) -> KeptKeys | None:
        """What is kept of a stream that begins."""


class WindowedEncoder(StreamEncoder):
    """Every window is a clip to the model: for what was trained on whole clips."""

    def logits(self, windows: Sequence[Window]) -> Tensor:
        """Of windows (B, U, V), left context included."""
        hearing = self.hearing
        samples = [(len(window.features) - 1) * hearing.stride + hearing.receptive_field for window in windows]
        features = _side_by_side(windows)
        clips = ConvolvedClips(features, torch.tensor(samples, device=features.device), max(samples))
        logits: Tensor = self.model(clips).logits
        return logits

    def no_keys(self) -> None:
        """Nothing: all is computed anew."""


class CachedEncoder(StreamEncoder):
    """A window is a block and its right context, and sees what was kept: for what was tuned in chunks.

    Left context is in keys and values, and a window has no features of it. The end of a stream is heard block by block
    as well, each with what there is of its right context.
    """

    def __init__(self, model: Wav2Vec2ForCTC, normalise: bool, sampling_rate: int, look_ahead: LookAhead) -> None:
        super().__init__(model, normalise, sampling_rate, replace(look_ahead, left=0))
        self.chunks = Chunks(look_ahead.block, look_ahead.left, look_ahead.right, model.config.attention_sinks)

    def logits(self, windows: Sequence[Window]) -> Tensor:
        """Of windows (B, U, V), whose blocks are kept for those that follow."""
        body, streams = self.model.wav2vec2, [window.keys for window in windows if window.keys is not None]
        blocks, widths = [window.block for window in windows], [len(window.features) for window in windows]
        hidden_states, _ = body.feature_projection(_side_by_side(windows))
        context = body.encoder.next_chunks(hidden_states, StreamsOfChunks(streams, blocks, widths), self.chunks)
        logits: Tensor = self.model.lm_head(context)
        return logits

    def no_keys(self) -> KeptKeys:
        """Of a stream that begins."""
        return KeptKeys.none(self.model.config, self.model.device, self.model.dtype)


def _side_by_side(windows: Sequence[Window]) -> Tensor:
    """The features of windows (B, T, C), zeros behind those of each."""
    return pad_sequence([window.features for window in windows], batch_first=True)


def stream_encoder(model: Wav2Vec2ForCTC, normalise: bool, sampling_rate: int, look_ahead: LookAhead) -> StreamEncoder:
    """The way through the model that it was trained for."""
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    if any(kernel < stride for kernel, stride in zip(kernels, strides, strict=True)):
        raise ValueError(
            f"conv_kernel={list(kernels)}, conv_stride={list(strides)}: a stride that is longer than its kernel leaves "
            "samples out, which streams are not cut for; transcribe whole recordings with this model"
        )
    way = CachedEncoder if model.config.hears_in_chunks else WindowedEncoder
    return way(model, normalise, sampling_rate, look_ahead)
