"""Models to compare wav2vec 2.0 with, and what it came from: wav2vec (2019) and vq-wav2vec, a folder each.

    from wav2vec2.baselines import VQWav2VecModel
    codes = VQWav2VecModel.from_pretrained(folder).eval()(**inputs).codes

`presets` has their published sizes. `docs/ancestors.md` tells how they are used, trained and converted.
"""

from wav2vec2.baselines.vq_wav2vec.for_pretraining import VQWav2VecForPreTraining
from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_model import VQWav2VecModel
from wav2vec2.baselines.wav2vec.for_pretraining import Wav2VecForPreTraining
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.baselines.wav2vec.wav2vec_model import Wav2VecModel

__all__ = [
    "VQWav2VecConfig",
    "VQWav2VecForPreTraining",
    "VQWav2VecModel",
    "Wav2VecConfig",
    "Wav2VecForPreTraining",
    "Wav2VecModel",
]
