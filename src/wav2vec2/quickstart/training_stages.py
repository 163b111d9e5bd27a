"""The two training runs: those of `wav2vec2 pretrain` and `wav2vec2 finetune`, in a size for minutes on two cores."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class TrainingSize:
    """Updates of both runs, seconds of audio in each, and the highest learning rates."""

    pretraining_updates: int = 400
    pretraining_seconds: float = 16.0
    pretraining_rate: float = 2e-3
    finetuning_updates: int = 1250
    finetuning_seconds: float = 16.0
    finetuning_rate: float = 2e-3

    def scaled(self, factor: float) -> "TrainingSize":
        """With so many times the updates."""
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
