"""What defines a model: `Wav2Vec2Config`, and `presets` of the published sizes."""

from wav2vec2.configuration import presets
from wav2vec2.configuration.wav2vec2_config import OWN_FIELDS, Wav2Vec2Config

__all__ = ["OWN_FIELDS", "Wav2Vec2Config", "presets"]
