"""wav2vec 2.0 for the Hugging Face ecosystem: the same checkpoints, without the traps.

`configuration` says what a model is, `modeling` holds the mathematics, `processing` makes inputs of audio and text,
`decoding` makes text of outputs, with `language_models` if need be, `alignment` says when a known text was said, and
`inference` does all of it for files. Names are imported when they are first used, so `import wav2vec2` itself costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names again, for type checkers and editors (tests/test_register.py compares)
    from wav2vec2.alignment.aligned_words import align_words as align_words
    from wav2vec2.alignment.forced_alignment import align as align
    from wav2vec2.configuration import Wav2Vec2Config as Wav2Vec2Config
    from wav2vec2.decoding.ctc_decoder import CTCDecoder as CTCDecoder
    from wav2vec2.files.shipped_checkpoints import checkpoint as checkpoint
    from wav2vec2.inference.auto_classes import register as register
    from wav2vec2.inference.labeller import Labeller as Labeller
    from wav2vec2.inference.streaming.endpoints import EndpointRules as EndpointRules
    from wav2vec2.inference.streaming.stream_state import StreamUpdate as StreamUpdate
    from wav2vec2.inference.streaming.streaming_recogniser import StreamingRecogniser as StreamingRecogniser
    from wav2vec2.inference.transcriber import Transcriber as Transcriber
    from wav2vec2.inference.transcript import Transcript as Transcript
    from wav2vec2.language_models.ngram_language_model import NgramLanguageModel as NgramLanguageModel
    from wav2vec2.language_models.ngram_trie import LanguageModelError as LanguageModelError
    from wav2vec2.modeling import CheckpointError as CheckpointError
    from wav2vec2.modeling import Wav2Vec2ForAudioFrameClassification as Wav2Vec2ForAudioFrameClassification
    from wav2vec2.modeling import Wav2Vec2ForCTC as Wav2Vec2ForCTC
    from wav2vec2.modeling import Wav2Vec2ForPreTraining as Wav2Vec2ForPreTraining
    from wav2vec2.modeling import Wav2Vec2ForSequenceClassification as Wav2Vec2ForSequenceClassification
    from wav2vec2.modeling import Wav2Vec2ForXVector as Wav2Vec2ForXVector
    from wav2vec2.modeling import Wav2Vec2Model as Wav2Vec2Model
    from wav2vec2.processing.audio_files import audio_blocks as audio_blocks
    from wav2vec2.processing.audio_files import audio_duration as audio_duration
    from wav2vec2.processing.audio_files import load_audio as load_audio
    from wav2vec2.processing.audio_sources import AudioError as AudioError
    from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer as Wav2Vec2CTCTokenizer
    from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor as Wav2Vec2FeatureExtractor
    from wav2vec2.processing.manifests import read_manifest as read_manifest
    from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer as Wav2Vec2PhonemeCTCTokenizer
    from wav2vec2.processing.processor import Wav2Vec2Processor as Wav2Vec2Processor
    from wav2vec2.processing.text_normalization import TextNormalization as TextNormalization
    from wav2vec2.processing.vocabulary import UnknownCharactersError as UnknownCharactersError
    from wav2vec2.processing.vocabulary import build_vocabulary as build_vocabulary
    from wav2vec2.processing.waveforms import resample as resample
    from wav2vec2.pronunciation.assessing import assess as assess
    from wav2vec2.sharing.converters.conversion import convert_checkpoint as convert_checkpoint
    from wav2vec2.training.finetuning import finetune as finetune
    from wav2vec2.training.pretraining import pretrain as pretrain
    from wav2vec2.training.settings.recipes import read_run as read_run
    from wav2vec2.training.settings.run_config import FinetuneRun as FinetuneRun
    from wav2vec2.training.settings.run_config import PretrainRun as PretrainRun
    from wav2vec2.training.transformers_trainer import CTCCollator as CTCCollator

__version__ = "0.1.0"

_MODULES = {
    "files.shipped_checkpoints": ("checkpoint",),
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
    "inference.labeller": ("Labeller",),
    "inference.streaming.endpoints": ("EndpointRules",),
    "inference.streaming.stream_state": ("StreamUpdate",),
    "inference.streaming.streaming_recogniser": ("StreamingRecogniser",),
    "inference.transcriber": ("Transcriber",),
    "inference.transcript": ("Transcript",),
    "pronunciation.assessing": ("assess",),
    "sharing.converters.conversion": ("convert_checkpoint",),
    "training.finetuning": ("finetune",),
    "training.pretraining": ("pretrain",),
    "training.settings.recipes": ("read_run",),
    "training.settings.run_config": ("FinetuneRun", "PretrainRun"),
    "training.transformers_trainer": ("CTCCollator",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"wav2vec2.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'wav2vec2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
