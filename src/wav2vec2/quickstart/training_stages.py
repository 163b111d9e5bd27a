"""The two training runs: those of `wav2vec2 pretrain` and `wav2vec2 finetune`, in a size for minutes on two cores.

How long a quickstart will take on this machine, with whatever else is at work on it, follows from a few timed steps.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wav2vec2.configuration import presets
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.quickstart.manifest_files import LONGEST, SHORTEST, Corpus
from wav2vec2.training.settings.run_config import (
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRun,
    FinetuneRunSection,
    FinetuneScheduleSection,
    GuardSection,
    ModelSection,
    OptimizerSection,
    PretrainRun,
    RunSection,
    ScheduleSection,
    Source,
    TextSection,
    TuningSection,
)
from wav2vec2.training.settings.run_sections import DataSection
from wav2vec2.training.starting import has_fast_bf16

#: The tiny preset made smaller still: about a million parameters. Of dropout it has none, since so short a run never
#: learns its data by heart. Norms before the layers instead of behind them, larger weights at the start (narrow layers
#: of 0.02 pass next to nothing on) and masks of 100 ms let pretraining get somewhere in so few updates.
MODEL: dict[str, Any] = {
    "conv_dim": [32, 32, 64, 64, 64, 64, 64],
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 512,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "layerdrop": 0.0,
    "feature_grad_mult": 1.0,
    "do_stable_layer_norm": True,
    "initializer_range": 0.05,
    "mask_time_length": 5,
    "feature_penalty_weight": 0.0,
    "gumbel_temperature_decay": 0.998,
}

#: Light masks. The convolutions go on learning: so short a pretraining has not finished them.
FINETUNING: dict[str, Any] = {
    "mask_time_prob": 0.05,
    "mask_time_length": 10,
    "mask_feature_prob": 0.0,
    "feature_grad_mult": 1.0,
}


#: Clips of a step that is timed; together they have the seconds of audio of an update.
_CLIPS = 8

#: What an update takes beside such a step: reading, padding, the optimizer, log and guards (1.8 to 2.2 measured).
_UPDATE = 2.1

#: What is not training, in updates: speaking the corpus, the language model, measurement, reports.
_REST = 350

#: Steps that are not timed, and those that are.
_WARM_UPS, _TIMED = 3, 8


@dataclass(frozen=True)
class TrainingSize:
    """How long both runs are."""

    #: Updates of the pretraining.
    pretraining_updates: int = 400
    #: Seconds of audio in each of its updates.
    pretraining_seconds: float = 16.0
    #: Its highest learning rate.
    pretraining_rate: float = 2e-3
    #: Updates of the fine-tuning.
    finetuning_updates: int = 1250
    #: Seconds of audio in each of its updates.
    finetuning_seconds: float = 16.0
    #: Its highest learning rate.
    finetuning_rate: float = 2e-3

    def scaled(self, factor: float) -> "TrainingSize":
        """The same with so many times the updates."""
        return replace(
            self,
            pretraining_updates=max(1, round(self.pretraining_updates * factor)),
            finetuning_updates=max(1, round(self.finetuning_updates * factor)),
        )


def pretraining_run(corpus: Corpus, output: Path, size: TrainingSize, seed: int) -> PretrainRun:
    """Learn from all training audio, without labels."""
    updates = size.pretraining_updates
    return PretrainRun(
        model=ModelSection(preset="tiny", config=dict(MODEL)),
        data=DataSection(
            train=[Source(str(corpus.audio), format="manifest")],
            min_seconds=1.0,
            max_seconds=4.0,  # longer ones are cropped
            seconds_per_update=size.pretraining_seconds,
            seconds_per_batch=1.5 * size.pretraining_seconds,  # padding included: an update is one batch
            workers=0,  # decoding is a hundredth of the work, and a process that imports torch takes seconds
        ),
        optimizer=OptimizerSection(learning_rate=size.pretraining_rate),
        schedule=ScheduleSection(warmup=0.1),
        run=RunSection(
            output=str(output),
            updates=updates,
            seed=seed,
            attention="eager",  # on clips of seconds a third faster on a CPU than the fused kernels
            log_every=max(1, updates // 10),
            save_every=max(1, updates // 5),
            keep_last=1,
        ),
        guards=GuardSection(stalled=False),  # which counts over more updates than there are
    )


def finetuning_run(corpus: Corpus, checkpoint: Path, output: Path, size: TrainingSize, seed: int) -> FinetuneRun:
    """Learn to spell from the labelled part. Recordings with a letter that no other has are left out, and listed."""
    updates = size.finetuning_updates
    return FinetuneRun(
        model=FinetuneModelSection(checkpoint=str(checkpoint), config=dict(FINETUNING)),
        data=FinetuneDataSection(
            train=[Source(str(corpus.labelled), format="manifest")],
            valid=[Source(str(corpus.development), format="manifest")],
            min_seconds=SHORTEST,
            max_seconds=min(LONGEST, size.finetuning_seconds),
            seconds_per_update=size.finetuning_seconds,
            seconds_per_batch=1.5 * size.finetuning_seconds,  # padding included: an update is one batch
            workers=0,  # decoding is a hundredth of the work, and a process that imports torch takes seconds
        ),
        text=TextSection(on_unknown="skip"),
        tuning=TuningSection(freeze_updates=0),
        optimizer=FinetuneOptimizerSection(learning_rate=size.finetuning_rate),
        schedule=FinetuneScheduleSection(),
        run=FinetuneRunSection(
            output=str(output),
            updates=updates,
            seed=seed,
            attention="eager",  # on clips of seconds a third faster on a CPU than the fused kernels
            log_every=max(1, updates // 20),
            evaluate_every=max(1, updates // 6),
            save_every=max(1, updates // 6),
            keep_last=1,
        ),
    )


def expected_minutes(size: TrainingSize) -> float:
    """How long a quickstart of that size will take, from a few steps of the model on noise."""
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
