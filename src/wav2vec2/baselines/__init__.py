"""Models to compare wav2vec 2.0 with: networks on log-mel energies, and what it came from, wav2vec (2019) and
vq-wav2vec.

    from wav2vec2.baselines import VQWav2VecModel
    codes = VQWav2VecModel.from_pretrained(folder).eval()(**inputs).codes

`presets` has their sizes. `docs/ancestors.md` tells how they are used and trained, and the ancestors converted.
"""

from wav2vec2.baselines.spectrogram.crnn import CRNNConfig, CRNNForCTC
from wav2vec2.baselines.spectrogram.crnn_for_labels import CRNNForSequenceClassification
from wav2vec2.baselines.spectrogram.depthwise_cnn import DepthwiseCNNConfig, DepthwiseCNNForSequenceClassification
from wav2vec2.baselines.spectrogram.for_slots import CRNNForSlots, DepthwiseCNNForSlots
from wav2vec2.baselines.spectrogram.log_mel_feature_extractor import LogMelFeatureExtractor
from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramConfig
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramModel
from wav2vec2.baselines.spectrogram.time_frequency_lstm import TimeFrequencyLSTMConfig, TimeFrequencyLSTMForCTC
from wav2vec2.baselines.vq_wav2vec.for_pretraining import VQWav2VecForPreTraining
from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_model import VQWav2VecModel
from wav2vec2.baselines.wav2vec.for_pretraining import Wav2VecForPreTraining
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.baselines.wav2vec.wav2vec_model import Wav2VecModel

#: Networks on log-mel energies, by the `model_type` of their configuration.
SPECTROGRAM_MODELS: dict[str, type[SpectrogramModel]] = {
    model.config_class.model_type: model
    for model in (CRNNForCTC, TimeFrequencyLSTMForCTC, DepthwiseCNNForSequenceClassification)
}

#: Those that give labels to whole clips.
SPECTROGRAM_CLASSIFIERS: dict[str, type[SpectrogramModel]] = {
    model.config_class.model_type: model
    for model in (CRNNForSequenceClassification, DepthwiseCNNForSequenceClassification)
}

__all__ = [
    "SPECTROGRAM_CLASSIFIERS",
    "SPECTROGRAM_MODELS",
    "CRNNConfig",
    "CRNNForCTC",
    "CRNNForSequenceClassification",
    "CRNNForSlots",
    "DepthwiseCNNConfig",
    "DepthwiseCNNForSequenceClassification",
    "DepthwiseCNNForSlots",
    "LogMelFeatureExtractor",
    "SpectrogramConfig",
    "SpectrogramModel",
    "TimeFrequencyLSTMConfig",
    "TimeFrequencyLSTMForCTC",
    "VQWav2VecConfig",
    "VQWav2VecForPreTraining",
    "VQWav2VecModel",
    "Wav2VecConfig",
    "Wav2VecForPreTraining",
    "Wav2VecModel",
]
