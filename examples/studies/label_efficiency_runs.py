"""The runs of `label_efficiency.py`: what is pretrained on what, and what is fine-tuned or trained from scratch how.

Against the paper's recipe, in this size: norms before the layers and larger weights at the start (0.02, meant for a
width of 768, passes next to nothing on at 128) end the time in which CTC writes blanks alone after 200 updates instead
of 500; masks of 100 instead of 200 ms are a task that so small a model gets somewhere with; hardly any dropout.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wav2vec2.training.settings.run_config import (
    DataSection,
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRun,
    FinetuneRunSection,
    FinetuneScheduleSection,
    ModelSection,
    OptimizerSection,
    PretrainRun,
    RunSection,
    ScheduleSection,
    Source,
    TuningSection,
)

PRETRAINING_UPDATES = 12000
PRETRAINING_SECONDS = 16.0
UPDATES = 1000
SECONDS_PER_UPDATE = 8.0
LEARNING_RATES = {"pretrained": 3e-3, "scratch": 2e-3, "cnn-rnn": 2e-3}
#: Of copies, with which a corpus of few speakers gets more of them; without labels, and with.
PRETRAINING_SPEEDS = (0.85, 0.92, 1.08, 1.17)
FINETUNING_SPEEDS = (0.82, 0.88, 0.94, 1.06, 1.13, 1.2)

#: 0.8 M parameters.
MODEL: dict[str, Any] = {
    "conv_dim": [32, 32, 64, 64, 64, 64, 64],
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 512,
    "do_stable_layer_norm": True,
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feature_grad_mult": 1.0,
}
PRETRAINING: dict[str, Any] = {
    "initializer_range": 0.05,
    "mask_time_length": 5,
    "gumbel_temperature_decay": 0.998,
    "feature_penalty_weight": 0.0,
    "feat_quantizer_dropout": 0.0,
}
FINETUNING: dict[str, Any] = {
    "hidden_dropout": 0.05,
    "activation_dropout": 0.0,
    "mask_time_length": 10,
    "mask_time_prob": 0.05,
    "mask_feature_prob": 0.0,
}
#: Of the pretrained model the convolutions are kept, as in the paper.
PRETRAINED: dict[str, Any] = {"feature_grad_mult": 0.0}
SCRATCH: dict[str, Any] = {"feature_grad_mult": 1.0, "initializer_range": 0.08}


def pretraining_run(seed: int, train: Sequence[Path], valid: Path, output: Path) -> PretrainRun:
    """Learn from audio alone."""
    return PretrainRun(
        model=ModelSection(preset="tiny", config=MODEL | PRETRAINING),
        data=DataSection(
            train=[Source(str(path)) for path in train],
            valid=[Source(str(valid))],
            min_seconds=1.0,
            max_seconds=4.0,
            seconds_per_update=PRETRAINING_SECONDS,
            seconds_per_batch=1.25 * PRETRAINING_SECONDS,
            workers=0,  # decoding is a hundredth of the work
            cache=str(output.parent / "durations"),
        ),
        optimizer=OptimizerSection(learning_rate=2e-3),
        schedule=ScheduleSection(warmup=0.08),
        run=RunSection(
            output=str(output),
            updates=PRETRAINING_UPDATES,
            seed=seed,
            attention="eager",  # on clips of seconds a third faster on a CPU than the fused kernels
            log_every=50,
            evaluate_every=max(1, PRETRAINING_UPDATES // 4),
            save_every=max(1, PRETRAINING_UPDATES // 12),
        ),
    )


def finetuning_run(kind: str, seed: int, train: Path, pretrained: Path, output: Path) -> FinetuneRun:
    """Fine-tuning or training from scratch: all else is equal."""
    if kind == "pretrained":
        model = FinetuneModelSection(checkpoint=str(pretrained), config=FINETUNING | PRETRAINED)
    else:
        model = FinetuneModelSection(preset="tiny", config=MODEL | FINETUNING | SCRATCH)
    return FinetuneRun(
        model=model,
        data=FinetuneDataSection(
            train=[Source(str(train))],
            min_seconds=0.5,
            max_seconds=20.0,
            seconds_per_update=SECONDS_PER_UPDATE,
            seconds_per_batch=20.0,
            workers=0,
            cache=str(output.parent.parent / "durations"),
        ),
        optimizer=FinetuneOptimizerSection(learning_rate=LEARNING_RATES[kind], weight_decay=0.01),
        schedule=FinetuneScheduleSection(),
        tuning=TuningSection(freeze_updates=0),
        run=FinetuneRunSection(
            output=str(output),
            updates=UPDATES,
            seed=seed,
            attention="eager",
            log_every=50,
            save_every=UPDATES,
            report=False,
        ),
    )
