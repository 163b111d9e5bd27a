"""Frame classifiers of a few thousand random weights that hear changing sounds in noise."""

from pathlib import Path
from typing import Any

import torch
from recognition_checkpoints import RATE
from small_models import CALM, small_config

from wav2vec2 import Wav2Vec2FeatureExtractor, Wav2Vec2ForAudioFrameClassification

LABELS = ("none", "applause", "music", "silence", "speech")


def hearing_model(**overrides: Any) -> Wav2Vec2ForAudioFrameClassification:
    """A random model whose best label changes every few frames; its head is centred on noise and made steep."""
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: number for number, label in enumerate(LABELS)}}
    model: Wav2Vec2ForAudioFrameClassification
    model = Wav2Vec2ForAudioFrameClassification(small_config("large_lv60k", **(CALM | names | overrides))).eval()
    noise = torch.randn(1, RATE * 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        hidden = model.wav2vec2(noise).last_hidden_state[0]  # (T, H)
        torch.nn.init.normal_(model.classifier.weight, generator=torch.Generator().manual_seed(2))
        model.classifier.weight *= (2 / (hidden @ model.classifier.weight.T).std(0))[:, None]
        model.classifier.bias.copy_(-(hidden @ model.classifier.weight.T).mean(0))
    return model


def save_hearing_model(folder: Path) -> Path:
    """Model and feature extractor in one folder."""
    hearing_model().save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
