"""Letting `Auto*` classes and `pipeline()` use this package for `model_type: wav2vec2`, and for its baselines, which
Transformers does not have.

Models are found by their configuration, so they are registered as Transformers provides for. Tokenizers, feature
extractors and processors are found by the class name in their files, which is the same here and there and in the
checkpoints of a dozen other models; those Auto classes are wrapped to look at the model's type first.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import transformers

from wav2vec2.baselines import (
    CRNNConfig,
    CRNNForCTC,
    CRNNForSequenceClassification,
    DepthwiseCNNConfig,
    DepthwiseCNNForSequenceClassification,
    TimeFrequencyLSTMConfig,
    TimeFrequencyLSTMForCTC,
    VQWav2VecConfig,
    VQWav2VecForPreTraining,
    VQWav2VecModel,
    Wav2VecConfig,
    Wav2VecForPreTraining,
    Wav2VecModel,
)
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling import (
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
)
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import Wav2Vec2Processor, load_tokenizer
from wav2vec2.processing.tokenizer_files import (
    CONFIG_FILE,
    SETTINGS_FILE,
    TokenizerFileError,
    find_file,
    read_json,
    split_options,
)

#: wav2vec of 2019 and vq-wav2vec: configuration, features, pretraining.
_ANCESTORS = (
    (Wav2VecConfig, Wav2VecModel, Wav2VecForPreTraining),
    (VQWav2VecConfig, VQWav2VecModel, VQWav2VecForPreTraining),
)
#: Networks on log-mel energies: configuration, what finds the model, the model.
_SPECTROGRAM_MODELS: tuple[tuple[Any, Any, Any], ...] = (
    (CRNNConfig, transformers.AutoModelForCTC, CRNNForCTC),
    (CRNNConfig, transformers.AutoModelForAudioClassification, CRNNForSequenceClassification),
    (TimeFrequencyLSTMConfig, transformers.AutoModelForCTC, TimeFrequencyLSTMForCTC),
    (DepthwiseCNNConfig, transformers.AutoModelForAudioClassification, DepthwiseCNNForSequenceClassification),
)
_OTHERS = [config.model_type for config, *_ in (*_ANCESTORS, *_SPECTROGRAM_MODELS)]
_MODEL_TYPES = (None, Wav2Vec2Config.model_type, *_OTHERS)

_FEATURES_FILE, _PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"
#: For each Auto class: what loads ours, where its files name a class, and the names that ours stand for. A processor
#: `Wav2Vec2ProcessorWithLM` is left to Transformers: its methods take logits; `Transcriber` reads those folders.
_BY_NAME: dict[str, tuple[Callable[..., Any], tuple[tuple[str, str], ...], frozenset[str]]] = {
    "AutoTokenizer": (
        load_tokenizer,
        ((SETTINGS_FILE, "tokenizer_class"),),
        frozenset({"Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer", "Wav2Vec2Tokenizer"}),
    ),
    "AutoFeatureExtractor": (
        Wav2Vec2FeatureExtractor.from_pretrained,
        ((_FEATURES_FILE, "feature_extractor_type"), (_PROCESSOR_FILE, "feature_extractor")),
        frozenset({"Wav2Vec2FeatureExtractor"}),
    ),
    "AutoProcessor": (
        Wav2Vec2Processor.from_pretrained,
        ((_PROCESSOR_FILE, "processor_class"), (_FEATURES_FILE, "processor_class"), (SETTINGS_FILE, "processor_class")),
        frozenset({"Wav2Vec2Processor"}),
    ),
}


def register() -> None:
    """From now on, in this process, Transformers' `Auto*` classes and `pipeline()` give this package's classes for
    wav2vec 2.0: for folders and names whose `config.json` says `model_type: wav2vec2`, and, where there is no such
    file, whose own files name a `Wav2Vec2…` class. The models of `wav2vec2.baselines`, which Transformers does not
    know, are known too. Other models get Transformers' own classes as before. Calling it again changes nothing; without
    it, nothing of Transformers is changed."""
    transformers.AutoConfig.register("wav2vec2", Wav2Vec2Config, exist_ok=True)
    for auto_class, model in (
        (transformers.AutoModel, Wav2Vec2Model),
        (transformers.AutoModelForPreTraining, Wav2Vec2ForPreTraining),
        (transformers.AutoModelForCTC, Wav2Vec2ForCTC),
        (transformers.AutoModelForAudioClassification, Wav2Vec2ForSequenceClassification),
        (transformers.AutoModelForAudioFrameClassification, Wav2Vec2ForAudioFrameClassification),
        (transformers.AutoModelForAudioXVector, Wav2Vec2ForXVector),
    ):
        auto_class.register(Wav2Vec2Config, model, exist_ok=True)
        auto_class.register(transformers.Wav2Vec2Config, model, exist_ok=True)
    for config, model, for_pretraining in _ANCESTORS:
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
        transformers.AutoModel.register(config, model, exist_ok=True)
        transformers.AutoModelForPreTraining.register(config, for_pretraining, exist_ok=True)
    for config, auto_class, model in _SPECTROGRAM_MODELS:
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
        auto_class.register(config, model, exist_ok=True)
    for name in _BY_NAME:
        _prefer_ours(getattr(transformers, name), name)


def _prefer_ours(auto_class: Any, name: str) -> None:
    """Wrap `from_pretrained` of an Auto class, once, so that it gives our classes for our models."""
    original = auto_class.from_pretrained
    if hasattr(original, "before_wav2vec2"):
        return

    @functools.wraps(original)
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], *inputs: Any, **kwargs: Any) -> Any:
        if inputs or not _is_ours(name, pretrained_model_name_or_path, kwargs):
            return original(pretrained_model_name_or_path, *inputs, **kwargs)
        hub, options = split_options(kwargs)
        found = _BY_NAME[name][0](pretrained_model_name_or_path, **hub, **options)
        if name == "AutoTokenizer" and "_from_pipeline" in kwargs:
            found.as_transcript = True
        return found

    from_pretrained.before_wav2vec2 = original  # type: ignore[attr-defined]
    auto_class.from_pretrained = staticmethod(from_pretrained)


def _is_ours(name: str, source: str | os.PathLike[str], options: Mapping[str, Any]) -> bool:
    """Whether the files are those of a model of this package and name a class that this package has."""
    _, places, classes = _BY_NAME[name]
    hub, _ = split_options(dict(options))
    given = getattr(options.get("config"), "model_type", None)
    try:
        model_type = given or _said(source, CONFIG_FILE, "model_type", hub)
        if model_type not in _MODEL_TYPES:
            return False
        named = next((said for place in places if (said := _said(source, *place, hub)) is not None), None)
    except (TokenizerFileError, OSError):  # Transformers says better what it cannot find
        return False
    return named in classes or (named is None and model_type == "wav2vec2")


def _said(source: str | os.PathLike[str], file: str, key: str, hub: Mapping[str, Any]) -> Any:
    path = find_file(source, file, hub)
    content = None if path is None else read_json(path)
    said = content.get(key) if isinstance(content, dict) else None
    return said.get("feature_extractor_type") if isinstance(said, dict) else said
