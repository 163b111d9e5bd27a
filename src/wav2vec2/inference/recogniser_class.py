"""Which class writes the text of a checkpoint: wav2vec 2.0, or a network on log-mel energies that it is compared with.

Both take waveforms `input_values` (B, S) and `attention_mask`, and give `logits` (B, T, V); of the configuration
`Transcriber` asks for `vocab_size` and `pad_token_id`, the blank, and for what says how many frames a clip has and when
they are (`configuration.frame_arithmetic.FrameGrid`).
"""

from pathlib import Path
from typing import Any

from wav2vec2.baselines import SPECTROGRAM_MODELS
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramForCTC
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.processing.tokenizer_files import CONFIG_FILE, find_file, read_json


def recogniser_class(name: str | Path, hub: dict[str, Any]) -> type[Wav2Vec2ForCTC | SpectrogramForCTC]:
    """The class of the model in a folder or on the Hub, whose files are asked for with the options `hub`."""
    path = find_file(name, CONFIG_FILE, hub)
    config = {} if path is None else read_json(path)
    kind = SPECTROGRAM_MODELS.get(config.get("model_type", "")) if isinstance(config, dict) else None
    return kind if kind is not None and issubclass(kind, SpectrogramForCTC) else Wav2Vec2ForCTC
