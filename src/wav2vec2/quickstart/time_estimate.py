"""How long a quickstart will take on this machine, with whatever else is at work on it."""

import time

import torch

from wav2vec2.configuration import presets
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.quickstart.training_stages import FINETUNING, MODEL, TrainingSize
from wav2vec2.training.starting import has_fast_bf16

#: Clips of a step that is timed, with the seconds of audio of an update.
_CLIPS = 8

#: What an update takes beside such a step: reading, padding, the optimizer, log and guards (1.8 to 2.2 measured).
_UPDATE = 2.1

#: What is not training, in updates: speaking the corpus, the language model, measurement, reports.
_REST = 350

_WARM_UPS, _TIMED = 3, 8


def expected_minutes(size: TrainingSize) -> float:
    """From a few steps of the model on noise."""
    updates = size.pretraining_updates + size.finetuning_updates + _REST
    return updates * _UPDATE * seconds_of_a_step(size.finetuning_seconds) / 60


def seconds_of_a_step(seconds: float) -> float:
    """The median of forward and backward passes over so many seconds of audio."""
    config = presets.tiny(**{**MODEL, **FINETUNING, "vocab_size": 32})
    config._attn_implementation = "eager"  # as in the runs
    model = Wav2Vec2ForCTC(config).train()
    audio = torch.zeros(_CLIPS, round(seconds / _CLIPS * 16_000)).normal_()
    labels = torch.ones(_CLIPS, 12, dtype=torch.long)
    taken = []
    for _ in range(_WARM_UPS + _TIMED):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
            loss = model(audio, labels=labels).loss
        loss.backward()
        taken.append(time.perf_counter() - begin)
    return sorted(taken[_WARM_UPS:])[_TIMED // 2]
