"""The published sizes of the ancestors and small ones, and sizes of the networks on log-mel energies, as functions that
state only what differs.

Sources of the ancestors: the papers (arXiv 1904.05862, 1910.05453), and the commands in fairseq's
`examples/wav2vec/README.md`.
"""

from typing import Any

from wav2vec2.baselines.spectrogram.crnn import CRNNConfig
from wav2vec2.baselines.spectrogram.depthwise_cnn import DepthwiseCNNConfig
from wav2vec2.baselines.spectrogram.time_frequency_lstm import TimeFrequencyLSTMConfig
from wav2vec2.baselines.vq_wav2vec.vq_wav2vec_config import VQWav2VecConfig
from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig

#: Narrow and short, for two CPU cores; frames of 10 ms as always. With distractors that weigh as much as in the paper,
#: a small model first makes all its frames alike, since saying no to everything costs least, and does not come back:
#: after 300 updates its accuracy is still at chance, where that of balanced classes is at three times chance.
_TINY: dict[str, Any] = {"context_dim": (64,) * 4, "context_kernel": (2, 3, 4, 5), "balanced_classes": True}


def wav2vec_base(**overrides: Any) -> Wav2VecConfig:
    """The paper's first model: five convolutions, and nine of kernel size 3 without skip connections."""
    size = {
        "conv_dim": (512,) * 5,
        "conv_stride": (5, 4, 2, 2, 2),
        "conv_kernel": (10, 8, 4, 4, 4),
        "context_dim": (512,) * 9,
        "context_kernel": (3,) * 9,
        "context_skip_connections": False,
    }
    return Wav2VecConfig(**(size | overrides))


def wav2vec_large(**overrides: Any) -> Wav2VecConfig:
    """The paper's large model, published as `wav2vec_large.pt`: 33 M parameters."""
    return Wav2VecConfig(**overrides)


def wav2vec_tiny(**overrides: Any) -> Wav2VecConfig:
    """The large model in small: 0.2 M parameters, four layers of context."""
    return Wav2VecConfig(**({"conv_dim": (64,) * 7} | _TINY | overrides))


def vq_wav2vec(**overrides: Any) -> VQWav2VecConfig:
    """Published as `vq-wav2vec.pt`: 34 M parameters, two groups of 320 entries, chosen by a Gumbel softmax."""
    return VQWav2VecConfig(**overrides)


def vq_wav2vec_kmeans(**overrides: Any) -> VQWav2VecConfig:
    """Published as `vq-wav2vec_kmeans.pt`: the nearest of 320 entries in two groups."""
    return VQWav2VecConfig(**({"quantizer": "kmeans"} | overrides))


def vq_wav2vec_tiny(**overrides: Any) -> VQWav2VecConfig:
    """vq-wav2vec in small: two groups of 32 entries."""
    size = {"conv_dim": (64,) * 8, "num_codevectors_per_group": 32}
    return VQWav2VecConfig(**(size | _TINY | overrides))


def crnn(**overrides: Any) -> CRNNConfig:
    """The small CRNN of the label-efficiency study: a million parameters."""
    return CRNNConfig(**overrides)


def crnn_large(**overrides: Any) -> CRNNConfig:
    """The large CRNN of the label-efficiency study: with 16 M about as many parameters as the small wav2vec 2.0."""
    return CRNNConfig(**({"hidden_size": 768} | overrides))


def time_frequency_lstm(**overrides: Any) -> TimeFrequencyLSTMConfig:
    """A time-frequency LSTM of 2 M parameters."""
    return TimeFrequencyLSTMConfig(**overrides)


def depthwise_cnn(**overrides: Any) -> DepthwiseCNNConfig:
    """A depthwise-separable CNN of 0.1 M parameters, for keywords on two CPU cores."""
    return DepthwiseCNNConfig(**overrides)


def yamnet(**overrides: Any) -> DepthwiseCNNConfig:
    """YAMNet's layers: 3.2 M parameters without the layer of the labels."""
    size = {
        "first_channels": 32,
        "layer_channels": (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024),
        "layer_strides": (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1),
    }
    return DepthwiseCNNConfig(**(size | overrides))
