"""wav2vec 2.0 for the Hugging Face ecosystem: the same checkpoints, without the traps.

`configuration` says what a model is, `modeling` holds the mathematics, `processing` makes inputs of audio and text,
`decoding` makes text of outputs, with `language_models` if need be, `alignment` says when a known text was said, and
`inference` does all of it for files. Names are imported when they are first used, so `import wav2vec2` itself costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wav2vec2.alignment.aligned_words import align_words
    from wav2vec2.alignment.forced_alignment import align
    from wav2vec2.configuration import Wav2Vec2Config
    from wav2vec2.decoding.ctc_decoder import CTCDecoder
    from wav2vec2.inference.auto_classes import register
    from wav2vec2.inference.transcriber import Transcriber
    from wav2vec2.inference.transcript import Transcript
    from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
    from wav2vec2.language_models.ngram_trie import LanguageModelError
    from wav2vec2.modeling import (
        CheckpointError,
        Wav2Vec2ForAudioFrameClassification,
        Wav2Vec2ForCTC,
        Wav2Vec2ForPreTraining,
        Wav2Vec2ForSequenceClassification,
        Wav2Vec2ForXVector,
        Wav2Vec2Model,
    )
    from wav2vec2.processing.audio_files import audio_blocks, audio_duration, load_audio
    from wav2vec2.processing.audio_sources import AudioError
    from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
    from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
    from wav2vec2.processing.manifests import read_manifest
    from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
    from wav2vec2.processing.processor import Wav2Vec2Processor
    from wav2vec2.processing.text_normalization import TextNormalization
    from wav2vec2.processing.vocabulary import UnknownCharactersError, build_vocabulary
    from wav2vec2.processing.waveforms import resample
    from wav2vec2.training.finetuning import finetune
    from wav2vec2.training.pretraining import pretrain
    from wav2vec2.training.settings.recipes import read_run
    from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun
    from wav2vec2.training.transformers_trainer import CTCCollator

__version__ = "0.1.0"

_MODULES = {
    "configuration": ("Wav2Vec2Config",),
    "modeling": (
        "CheckpointError",
        "Wav2Vec2ForAudioFrameClassification",
        "Wav2Vec2ForCTC",
        "Wav2Vec2ForPreTraining",
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2ForXVector",
        "Wav2Vec2Model",
    ),
    "processing.audio_sources": ("AudioError",),
    "processing.audio_files": ("audio_blocks", "audio_duration", "load_audio"),
    "processing.waveforms": ("resample",),
    "processing.feature_extractor": ("Wav2Vec2FeatureExtractor",),
    "processing.ctc_tokenizer": ("Wav2Vec2CTCTokenizer",),
    "processing.phoneme_tokenizer": ("Wav2Vec2PhonemeCTCTokenizer",),
    "processing.processor": ("Wav2Vec2Processor",),
    "processing.text_normalization": ("TextNormalization",),
    "processing.vocabulary": ("UnknownCharactersError", "build_vocabulary"),
    "processing.manifests": ("read_manifest",),
    "alignment.aligned_words": ("align_words",),
    "decoding.ctc_decoder": ("CTCDecoder",),
    "alignment.forced_alignment": ("align",),
    "language_models.ngram_trie": ("LanguageModelError",),
    "language_models.ngram_language_model": ("NgramLanguageModel",),
    "inference.auto_classes": ("register",),
    "inference.transcriber": ("Transcriber",),
    "inference.transcript": ("Transcript",),
    "training.finetuning": ("finetune",),
    "training.pretraining": ("pretrain",),
    "training.settings.recipes": ("read_run",),
    "training.settings.run_config": ("FinetuneRun", "PretrainRun"),
    "training.transformers_trainer": ("CTCCollator",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AudioError",
    "CTCCollator",
    "CTCDecoder",
    "CheckpointError",
    "FinetuneRun",
    "LanguageModelError",
    "NgramLanguageModel",
    "PretrainRun",
    "TextNormalization",
    "Transcriber",
    "Transcript",
    "UnknownCharactersError",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2Config",
    "Wav2Vec2FeatureExtractor",
    "Wav2Vec2ForAudioFrameClassification",
    "Wav2Vec2ForCTC",
    "Wav2Vec2ForPreTraining",
    "Wav2Vec2ForSequenceClassification",
    "Wav2Vec2ForXVector",
    "Wav2Vec2Model",
    "Wav2Vec2PhonemeCTCTokenizer",
    "Wav2Vec2Processor",
    "align",
    "align_words",
    "audio_blocks",
    "audio_duration",
    "build_vocabulary",
    "finetune",
    "load_audio",
    "pretrain",
    "read_manifest",
    "read_run",
    "register",
    "resample",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"wav2vec2.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'wav2vec2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
