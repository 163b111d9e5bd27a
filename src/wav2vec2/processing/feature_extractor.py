"""From samples to what a model reads: normalised, padded, with a mask. Stock's files, and stock's numbers.

Shapes: B clips, S samples of the longest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import BatchFeature
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType

from wav2vec2.processing.waveforms import as_array, as_waveform, normalised

Waveform = NDArray[np.float32]

#: Many clips of a handful of samples each are one recording of a handful of channels.
_FEW_CHANNELS, _MANY_CLIPS = set(range(1, 9)), 100


class Wav2Vec2FeatureExtractor(SequenceFeatureExtractor):
    """Stock's `Wav2Vec2FeatureExtractor`, made strict: same `preprocessor_config.json`, arguments and outputs.

    What differs: the sampling rate must be given and be right; a two-dimensional array is refused unless
    `batched=True` says that its rows are clips; int16 and int32 are scaled to [-1, 1); NaN and infinity are refused,
    naming the clip; the mask is always returned; statistics never see padding, on whichever side it is.

    >>> extractor = Wav2Vec2FeatureExtractor()
    >>> batch = extractor([np.ones(3), np.array([1.0, -1.0])], sampling_rate=16000, padding=True, return_tensors="np")
    >>> batch["attention_mask"].tolist()
    [[1, 1, 1], [1, 1, 0]]
    """

    model_input_names = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        return_attention_mask: bool = True,
        do_normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        """`return_attention_mask` is only kept for stock, which obeys it; here the mask is always returned."""
        if feature_size != 1:
            raise ValueError(f"feature_size={feature_size}: a waveform has one value per sample")
        if kwargs.get("padding_side", "right") not in ("right", "left"):
            raise ValueError(f"padding_side must be 'right' or 'left', got {kwargs['padding_side']!r}")
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.return_attention_mask = return_attention_mask
        self.do_normalize = do_normalize

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str | PaddingStrategy = False,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
        sampling_rate: int | None = None,
        *,
        batched: bool = False,
    ) -> BatchFeature:
        """One clip (an array, tensor or list of samples) or a list of clips -> `input_values`, `attention_mask`.

        Both are (B, S) with `return_tensors`, float32 and int32, and lists of arrays without. `padding`, `max_length`,
        `truncation` and `pad_to_multiple_of` are stock's. `return_attention_mask=False` leaves the mask out of this
        answer. `batched=True` declares that a two-dimensional array holds one clip per row.
        """
        self._check_rate(sampling_rate)
        strategy = self._get_padding_strategies(padding, max_length)
        clips = _clips(raw_speech, batched)
        if truncation:
            clips = [clip[: _rounded_limit(max_length, pad_to_multiple_of)] for clip in clips]
        if self.do_normalize:
            clips = [normalised(clip, name) for clip, name in zip(clips, _names(len(clips)), strict=True)]
        lengths = [len(clip) for clip in clips]
        if strategy is PaddingStrategy.DO_NOT_PAD:
            values, masks = clips, [np.ones(length, np.int32) for length in lengths]
        else:
            longest = max(lengths)
            limit = longest if strategy is PaddingStrategy.LONGEST or max_length is None else max_length
            size = _round_up(limit, pad_to_multiple_of)
            if longest > size:
                raise ValueError(f"a clip of {longest} samples is longer than max_length={size}: pass truncation=True")
            values, masks = self._padded(clips, size)
        features = {"input_values": values, "attention_mask": masks}
        if return_attention_mask is False:
            del features["attention_mask"]
        return _as_features(features, return_tensors, lengths)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
    ) -> BatchFeature:
        """Pad features that were made before, as data collators do. The mask is returned here too."""
        mask = True if return_attention_mask is None else return_attention_mask
        return super().pad(
            processed_features, padding, max_length, truncation, pad_to_multiple_of, mask, return_tensors
        )

    def _check_rate(self, sampling_rate: int | None) -> None:
        expected = self.sampling_rate
        if sampling_rate is None:
            raise ValueError(f"sampling_rate is missing: say at which rate the samples are ({expected} Hz is needed)")
        if sampling_rate != expected:
            raise ValueError(
                f"the samples are at {sampling_rate} Hz, the model needs {expected} Hz: "
                f"resample(array, {sampling_rate}, {expected}), or read the file with load_audio"
            )

    def _padded(self, clips: Sequence[Waveform], size: int) -> tuple[list[Waveform], list[NDArray[np.int32]]]:
        """Clips side by side in one array (B, size), and their masks; each as a list of rows."""
        values = np.full((len(clips), size), self.padding_value, np.float32)
        masks = np.zeros((len(clips), size), np.int32)
        for row, clip in enumerate(clips):
            begin = size - len(clip) if self.padding_side == "left" else 0
            values[row, begin : begin + len(clip)] = clip
            masks[row, begin : begin + len(clip)] = 1
        return list(values), list(masks)


def _clips(raw_speech: Any, batched: bool) -> list[Waveform]:
    """One clip or several, each float32 (samples,)."""
    if isinstance(raw_speech, list | tuple) and not raw_speech:
        raise ValueError("no clip was given")
    if isinstance(raw_speech, list | tuple) and _is_clip(raw_speech[0]):
        clips = [as_waveform(clip, name) for clip, name in zip(raw_speech, _names(len(raw_speech)), strict=True)]
    else:
        array = as_array(raw_speech, "the audio")
        if array.ndim != 2:
            return [as_waveform(array, "the audio")]
        if not batched or not len(array):
            raise ValueError(
                f"the audio is one array of shape {array.shape}. If its rows are clips, say so with batched=True or "
                "give a list of arrays; if they or its columns are channels, mix them first: array.mean(axis=...)"
            )
        clips = [as_waveform(clip, name) for clip, name in zip(array, _names(len(array)), strict=True)]
    lengths = {len(clip) for clip in clips}
    if not batched and len(clips) >= _MANY_CLIPS and len(lengths) == 1 and lengths <= _FEW_CHANNELS:
        raise ValueError(
            f"{len(clips)} clips of {len(clips[0])} samples each look like one recording of {len(clips[0])} channels: "
            "mix them first, or say batched=True"
        )
    return clips


def _is_clip(item: Any) -> bool:
    return isinstance(item, list | tuple) or getattr(item, "ndim", 0) > 0


def _names(count: int) -> list[str]:
    return ["the audio"] if count == 1 else [f"clip {index} of {count}" for index in range(count)]


def _rounded_limit(max_length: int | None, multiple: int | None) -> int:
    if max_length is None:
        raise ValueError("truncation=True needs max_length")
    return _round_up(max_length, multiple)


def _round_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple


def _as_features(features: dict[str, Any], return_tensors: str | TensorType | None, lengths: list[int]) -> BatchFeature:
    """Lists of arrays, or one (B, S) array each as what `return_tensors` asks for."""
    if return_tensors is None:
        return BatchFeature(features)
    if len({len(row) for row in features["input_values"]}) > 1:
        raise ValueError(f"clips of {min(lengths)} to {max(lengths)} samples do not form one tensor: pass padding=True")
    return BatchFeature({name: np.stack(rows) for name, rows in features.items()}, tensor_type=return_tensors)
