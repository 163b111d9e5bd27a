"""The mathematics: one file per idea of the paper, one class per head.

Read `for_pretraining.py` first: encode, mask, contextualise, quantise, contrast. Each step has a file of its own.
"""

from wav2vec2.modeling.for_audio_frame_classification import Wav2Vec2ForAudioFrameClassification
from wav2vec2.modeling.for_ctc import Wav2Vec2ForCTC
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.modeling.for_sequence_classification import Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.for_slots import Wav2Vec2ForSlots
from wav2vec2.modeling.for_xvector import Wav2Vec2ForXVector
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.modeling.wav2vec2_model import Wav2Vec2Model

__all__ = [
    "CheckpointError",
    "Wav2Vec2ForAudioFrameClassification",
    "Wav2Vec2ForCTC",
    "Wav2Vec2ForPreTraining",
    "Wav2Vec2ForSequenceClassification",
    "Wav2Vec2ForSlots",
    "Wav2Vec2ForXVector",
    "Wav2Vec2Model",
    "Wav2Vec2PreTrainedModel",
]
