"""Letting `Auto*` classes and `pipeline()` use this package for `model_type: wav2vec2`."""

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.for_audio_frame_classification import Wav2Vec2ForAudioFrameClassification
from wav2vec2.modeling.for_ctc import Wav2Vec2ForCTC
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.modeling.for_sequence_classification import Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.for_xvector import Wav2Vec2ForXVector
from wav2vec2.modeling.wav2vec2_model import Wav2Vec2Model


def register() -> None:
    """From now on, in this process, Transformers' `AutoConfig`, `AutoModel*` and `pipeline()` give this package's
    classes for wav2vec 2.0. Calling it again changes nothing; without it, stock stays as it is."""
    import transformers

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
