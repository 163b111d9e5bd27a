"""Sound that says tokens, a frame each, and a model that hears exactly these: what was said is known to the letter."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from recognition_checkpoints import RATE, TOKENS, talkative_model
from torch import Tensor

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor

#: As many as a checkpoint of letters has tokens.
PHONES = ["<pad>", "<unk>", "|", "h", "ə", "l", "oʊ", "k", "æ", "t", "s"]

#: A token is so many of these loud, at most a third of full scale. Silence is the blank.
_STEP = 1 / 32


def save_planted(folder: Path, phones: bool) -> Path:
    """A checkpoint of phones or of letters. Its model is random; `plant` makes it hear."""
    tokens = PHONES if phones else TOKENS
    kind = Wav2Vec2PhonemeCTCTokenizer if phones else Wav2Vec2CTCTokenizer
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = kind(numbers, bos_token=None, eos_token=None, word_delimiter_token="|")
    talkative_model().save_pretrained(folder)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=False), tokenizer).save_pretrained(folder)
    return folder


def sound(path: str, tokens: list[str]) -> NDArray[np.float32]:
    """Samples of a path, tokens between blanks, "." for silence, "*3" for three frames of what is before it."""
    frames: list[int] = []
    for piece in path.split():
        token, _, times = piece.partition("*")
        frames += [0 if token == "." else tokens.index(token)] * int(times or 1)
    samples = np.zeros(400 + 320 * (len(frames) - 1), np.float32)
    for number, frame in enumerate(frames):
        samples[320 * number + 40 : 320 * number + 360] = frame * _STEP
    return samples


def write_sound(file: Path, path: str, tokens: list[str]) -> Path:
    """A file of it."""
    soundfile.write(file, sound(path, tokens), RATE, subtype="PCM_16")
    return file


def plant(monkeypatch: pytest.MonkeyPatch, sure: float = 0.9999) -> None:
    """Every model of CTC hears what such sound says, with this probability in each frame, and all else alike."""

    def forward(model: Any, input_values: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        size = model.config.vocab_size
        said = (input_values[:, 200::320] / _STEP).round().long().clamp(0, size - 1)
        said = said[:, : 1 + (input_values.shape[1] - 400) // 320]
        logits = torch.full((*said.shape, size), (1 - sure) / (size - 1))
        return SimpleNamespace(logits=logits.scatter_(2, said[..., None], sure).log())

    monkeypatch.setattr(Wav2Vec2ForCTC, "forward", forward)
