"""From samples to what a model reads: normalised, padded, with a mask. Files and numbers are stock Transformers'.

Shapes: B clips, S samples of the longest.
"""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import BatchFeature
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType

from wav2vec2.files.shipped_checkpoints import known_names_told, located
from wav2vec2.processing.waveforms import as_array, as_waveform, normalised

logger = logging.getLogger("wav2vec2")

Waveform = NDArray[np.float32]

#: Many clips of a handful of samples each are one recording of a handful of channels.
_FEW_CHANNELS, _MANY_CLIPS = set(range(1, 9)), 100

#: What this process was warned of: extractors are made and copied by the dozen.
_SAID: set[str] = set()


class Wav2Vec2FeatureExtractor(SequenceFeatureExtractor):
    """Stock's `Wav2Vec2FeatureExtractor`: same `preprocessor_config.json`, arguments and outputs.

    What differs: hundreds of clips of a few samples, which are one recording of a few channels, are refused unless
    `batched=True` says that they are clips; int16 and int32 are scaled to [-1, 1); NaN and infinity are refused,
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

    @classmethod
    def get_feature_extractor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in stock Transformers; also by the short name of a model that comes with the package. Settings that are
        none, or no text, are a ValueError that says where."""
        source, again = pretrained_model_name_or_path, "Fetch or write them again."
        with known_names_told(source):
            try:
                found, options = super().get_feature_extractor_dict(located(source), **kwargs)
            except (AttributeError, TypeError, UnicodeDecodeError) as error:
                raise ValueError(f"{source}: settings of a feature extractor are broken ({error}). {again}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{source}: settings of a feature extractor are no object but {found!r:.50}. {again}")
        return found, options

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
        **kwargs: Any,
    ) -> BatchFeature:
        """One clip (an array, tensor or list of samples), a list of clips, or an array with one clip per row ->
        `input_values`, `attention_mask`.

        Both are (B, S) with `return_tensors`, float32 and int32, and lists of arrays without, or where clips of
        several lengths are not padded. `padding`, `max_length`, `truncation` and `pad_to_multiple_of` are as in stock.
        `return_attention_mask=False` leaves the mask out of this answer. `batched=True` declares that the rows of a
        two-dimensional array are clips, however it looks. Other options are left aside, as in stock, and said once.
        """
        self._check_rate(sampling_rate)
        if kwargs:
            _warn_once(f"options {sorted(kwargs)}", "the feature extractor has no option %s", ", ".join(kwargs))
        strategy = self._get_padding_strategies(padding, max_length)
        clips = _clips(raw_speech, batched, self.do_normalize)
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
            message = "sampling_rate is missing: samples are taken to be at %d Hz; what is at another rate is misheard"
            _warn_once("rate", message, expected)
        elif sampling_rate != expected:
            raise ValueError(
                f"the samples are at {sampling_rate} Hz, the model needs {expected} Hz: "
                f"resample(array, {sampling_rate}, {expected}), or read the file with load_audio"
            )

    def _padded(self, clips: Sequence[Waveform], size: int) -> tuple[list[Waveform], list[NDArray[np.int32]]]:
        """Clips and their masks, filled up to `size` samples; one that is longer stays as it is."""
        values, masks = [], []
        for clip in clips:
            width = max(size, len(clip))
            begin = width - len(clip) if self.padding_side == "left" else 0
            inside = slice(begin, begin + len(clip))
            values.append(np.full(width, self.padding_value, np.float32))
            masks.append(np.zeros(width, np.int32))
            values[-1][inside], masks[-1][inside] = clip, 1
        return values, masks


def _clips(raw_speech: Any, batched: bool, any_scale: bool) -> list[Waveform]:
    """One clip or several, each float32 (samples,). Integers without an agreed scale will do if `any_scale` does."""
    if isinstance(raw_speech, list | tuple) and not raw_speech:
        raise ValueError("no clip was given")
    rows: Any = raw_speech
    if not (isinstance(raw_speech, list | tuple) and _is_clip(raw_speech[0])):
        array = as_array(raw_speech, "the audio")
        rows = array if array.ndim == 2 and len(array) else [array]
        if not batched and array.ndim == 2 and 1 < len(array) <= max(_FEW_CHANNELS):
            message = "an array of shape %s is taken for %d clips; if these are channels, mix them first: array.mean(0)"
            _warn_once("rows", message, array.shape, len(array))
    names = _names(len(rows))
    clips = [as_waveform(_floats(clip, any_scale), name) for clip, name in zip(rows, names, strict=True)]
    lengths = {len(clip) for clip in clips}
    if not batched and len(clips) >= _MANY_CLIPS and len(lengths) == 1 and lengths <= _FEW_CHANNELS:
        raise ValueError(
            f"{len(clips)} clips of {len(clips[0])} samples each look like one recording of {len(clips[0])} channels: "
            "mix them first (array.mean(axis=1)), or say batched=True"
        )
    return clips


def _floats(clip: Any, any_scale: bool) -> Any:
    """Integers whose full scale nobody knows, as floats, if the scale is divided out anyhow."""
    if not any_scale or isinstance(clip, str | bytes) or getattr(clip, "dtype", None) in (np.float32, np.int16):
        return clip
    array = as_array(clip, "a clip")
    unscaled = array.dtype.kind in "iu" and array.dtype not in (np.int16, np.int32)
    return array.astype(np.float32) if unscaled else clip


def _is_clip(item: object) -> bool:
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
    """Lists of arrays, or one (B, S) array each as what `return_tensors` asks for. Arrays of several lengths stay a
    list where NumPy is asked for; a tensor of them there is not."""
    ragged = len({len(row) for row in features["input_values"]}) > 1
    numpy_alone = return_tensors is not None and TensorType(return_tensors) is TensorType.NUMPY
    if return_tensors is None or (ragged and numpy_alone):
        return BatchFeature(features)
    if ragged:
        raise ValueError(f"clips of {min(lengths)} to {max(lengths)} samples do not form one tensor: pass padding=True")
    return BatchFeature({name: np.stack(rows) for name, rows in features.items()}, tensor_type=return_tensors)


def _warn_once(kind: str, message: str, *values: object) -> None:
    """Log a warning of this kind, unless this process has seen one."""
    if kind not in _SAID:
        _SAID.add(kind)
        logger.warning(message, *values)
