"""Checkpoints of a few thousand random weights that transcribe noise into changing words, and files to transcribe."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from small_models import CALM, small_config

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import Wav2Vec2Processor

RATE = 16_000
TOKENS = ["<pad>", "<unk>", "|", *"abcdefgh"]


def talkative_model(architecture: str = "large_lv60k", **overrides: Any) -> Wav2Vec2ForCTC:
    """A random model whose best token changes from frame to frame, as a trained one's does.

    Its head is centred on what it gives for noise and made steep, with the blank and the delimiter preferred.
    """
    torch.manual_seed(0)
    config = small_config(architecture, vocab_size=len(TOKENS), pad_token_id=0, **(CALM | overrides))
    model: Wav2Vec2ForCTC = Wav2Vec2ForCTC(config).eval()
    noise = torch.randn(1, RATE * 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        hidden = model.wav2vec2(noise).last_hidden_state[0]  # (T, H)
        torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(2))
        logits = hidden @ model.lm_head.weight.T
        model.lm_head.weight *= (3 / logits.std(0))[:, None]
        model.lm_head.bias.copy_(-(hidden @ model.lm_head.weight.T).mean(0))
        model.lm_head.bias[:3] += torch.tensor([4.0, -9.0, 1.5])
    return model


def processor() -> Wav2Vec2Processor:
    """For that model."""
    tokenizer = Wav2Vec2CTCTokenizer({token: number for number, token in enumerate(TOKENS)})
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer)


def save_checkpoint(folder: Path, **overrides: Any) -> Path:
    """Model and processor in one folder."""
    talkative_model(**overrides).save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Noise, off centre and quiet, so that normalisation matters; it comes and goes."""
    generator = np.random.default_rng(seed)
    samples = round(RATE * seconds)
    swell = 0.6 + 0.4 * np.sin(np.arange(samples) / RATE * 2)
    return (0.02 + 0.05 * swell * generator.standard_normal(samples)).astype(np.float32)


def write_noise(path: Path, seconds: float, seed: int = 0) -> Path:
    """A file of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, seed), RATE, subtype="PCM_16")
    return path
