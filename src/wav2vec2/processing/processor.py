"""Feature extractor and tokenizer in one object that is saved into, and loaded from, one checkpoint folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from transformers import ProcessorMixin

from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.texts_and_paths import IGNORED, OneIdPerLogitTokenizer
from wav2vec2.processing.tokenizer_files import (
    SETTINGS_FILE,
    TokenizerFileError,
    find_file,
    read_json,
    split_options,
    write_json,
)

#: Options of a call that are for sound alone, and those that are for both; all others are the tokenizer's.
_OF_SOUND = ("sampling_rate", "return_attention_mask")
_OF_BOTH = ("padding", "max_length", "truncation", "pad_to_multiple_of", "return_tensors")
#: Options of `from_pretrained` that are the feature extractor's; all others are the tokenizer's.
_OF_FEATURE_EXTRACTOR = ("feature_size", "padding_value", "do_normalize", *_OF_SOUND)
#: Both files are written: releases before 5 read the first one, later ones prefer the second.
_FEATURES_FILE, _PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"


def load_tokenizer(source: str | os.PathLike[str], **options: Any) -> OneIdPerLogitTokenizer:
    """The tokenizer of a checkpoint: of phonemes where its files say so, else of characters."""
    hub, _ = split_options(options)
    path = find_file(source, SETTINGS_FILE, hub)
    settings = {} if path is None else read_json(path)
    named = settings.get("tokenizer_class") if isinstance(settings, dict) else None
    of_phonemes = named == Wav2Vec2PhonemeCTCTokenizer.__name__
    tokenizer: type[OneIdPerLogitTokenizer] = Wav2Vec2PhonemeCTCTokenizer if of_phonemes else Wav2Vec2CTCTokenizer
    return tokenizer.from_pretrained(source, **options)


class Wav2Vec2Processor(ProcessorMixin):
    """Sound to `input_values`, text to `labels`, paths to text.

    `processor(audio=array, sampling_rate=16000, text="hello", return_tensors="pt")` gives `input_values`,
    `attention_mask` and `labels`. Padding in `labels` is -100, which is in no loss; stock Transformers pads
    them with the blank.
    """

    def __init__(self, feature_extractor: Wav2Vec2FeatureExtractor, tokenizer: OneIdPerLogitTokenizer) -> None:
        super().__init__(feature_extractor, tokenizer)

    def __call__(self, audio: Any = None, text: Any = None, **kwargs: Any) -> Any:
        """Features of the audio, or ids of the text, or both. Options go where they belong; `audio_kwargs` and
        `text_kwargs` hold options for one of the two."""
        if audio is None and text is None:
            raise ValueError("give audio=, text= or both")
        of_sound, of_text = self._split(kwargs, audio is None)
        if audio is None:
            return self.tokenizer(text, **of_text)
        features = self.feature_extractor(audio, **of_sound)
        if text is not None:
            features["labels"] = _labels(self.tokenizer(text, **of_text))
        return features

    def _split(self, options: Mapping[str, Any], text_alone: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options for sound and for text. Those that the tokenizer was made with are its defaults, as in stock."""
        own = {"audio_kwargs", "text_kwargs"}
        of_tokenizer = {
            name: self.tokenizer.init_kwargs[name] for name in _OF_BOTH if name in self.tokenizer.init_kwargs
        }
        of_sound = {name: value for name, value in options.items() if name in (*_OF_SOUND, *_OF_BOTH)}
        of_text = {
            name: value
            for name, value in options.items()
            if name not in own and (name not in _OF_SOUND or (text_alone and name != "sampling_rate"))
        }
        of_sound |= options.get("audio_kwargs") or {}
        return of_sound, of_tokenizer | of_text | (options.get("text_kwargs") or {})

    def pad(self, input_features: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        """Pad features, or labels, or both; with both, `labels` of the result are padded with -100."""
        if input_features is None and labels is None:
            raise ValueError("give input_features, labels= or both")
        if input_features is None:
            return self.tokenizer.pad(labels, **kwargs)
        padded = self.feature_extractor.pad(input_features, **kwargs)
        if labels is not None:
            padded["labels"] = _labels(self.tokenizer.pad(labels, **kwargs))
        return padded

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """Read several paths as texts, as the tokenizer's `batch_decode` does."""
        return self.tokenizer.batch_decode(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Read one path as text, as the tokenizer's `decode` does."""
        return self.tokenizer.decode(*args, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What a model takes from this: the feature extractor's names and `labels`."""
        return [*self.feature_extractor.model_input_names, "labels"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load both from a folder or the Hub, whichever release saved them. A repository without a tokenizer is an
        error that says how to build one."""
        hub, options = split_options(kwargs)
        of_features = {name: options.pop(name) for name in _OF_FEATURE_EXTRACTOR if name in options}
        try:
            tokenizer = load_tokenizer(pretrained_model_name_or_path, **hub, **options)
        except TokenizerFileError as error:
            if find_file(pretrained_model_name_or_path, _FEATURES_FILE, hub) is None:
                raise
            hint = "its feature extractor loads alone: Wav2Vec2FeatureExtractor.from_pretrained"
            raise TokenizerFileError(f"{error}. Without a tokenizer there is no processor; {hint}") from error
        return cls(
            Wav2Vec2FeatureExtractor.from_pretrained(pretrained_model_name_or_path, **hub, **of_features), tokenizer
        )

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Write everything that stock Transformers needs, in release 4 and in release 5."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        name = type(self).__name__
        self.tokenizer._set_processor_class(name)
        saved = list(self.tokenizer.save_pretrained(folder))
        features = self.feature_extractor.to_dict()
        write_json(folder / _FEATURES_FILE, features | {"processor_class": name})
        write_json(folder / _PROCESSOR_FILE, {"feature_extractor": features, "processor_class": name})
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return [*saved, str(folder / _FEATURES_FILE), str(folder / _PROCESSOR_FILE)]


def _labels(encodings: Mapping[str, Any]) -> Any:
    """Input ids with -100 where the attention mask is 0, as lists, arrays or tensors alike."""
    ids, mask = encodings["input_ids"], encodings["attention_mask"]
    if hasattr(ids, "shape"):
        return ids * mask + IGNORED * (1 - mask)
    if ids and isinstance(ids[0], list):
        return [_ignored(row, kept) for row, kept in zip(ids, mask, strict=True)]
    return _ignored(ids, mask)


def _ignored(ids: list[int], mask: list[int]) -> list[int]:
    return [index if kept else IGNORED for index, kept in zip(ids, mask, strict=True)]
