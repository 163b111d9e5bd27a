"""Pretraining of vq-wav2vec: wav2vec's objective on entries of codebooks, and what quantizing costs."""

from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_model import VQWav2VecModel, VQWav2VecPreTrainedModel
from wav2vec2.baselines.wav2vec.for_pretraining import Wav2VecForPreTraining


class VQWav2VecForPreTraining(VQWav2VecPreTrainedModel, Wav2VecForPreTraining):
    """vq-wav2vec with the linear maps of its predictions."""

    fresh_parts = ("step_predictions.", "wav2vec.quantizer.")
    model_class = VQWav2VecModel

    @property
    def quantizer_weight(self) -> float:
        """Weight of `quantizer_loss`. (Of a Gumbel softmax that is zero anyway.)"""
        return float(self.config.kmeans_loss_weight)
