"""The training runs: those of `wav2vec2 pretrain` and `wav2vec2 finetune`, in a size for minutes on two cores.

All start from the small model that comes with the package, but for one: what the same labels give the same shape
without pretraining. How long a quickstart will take on this machine, with whatever else is at work on it, follows from
a few timed steps.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config, presets
from wav2vec2.files.shipped_checkpoints import checkpoint
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

#: The model that everything starts from; always the package's own, whatever folder is called so.
CHECKPOINT = "small"

#: What the shape of a model is, and what its weights are like before they have learned anything.
_SHAPE = (
    "conv_dim",
    "conv_bias",
    "feat_extract_norm",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "do_stable_layer_norm",
    "initializer_range",
)

#: Light masks and no dropout: so short a run does not learn its labels by heart.
_FINETUNING: dict[str, Any] = {
    "num_hidden_layers": 4,  # the middle of the checkpoint tells letters best
    "mask_time_prob": 0.05,
    "mask_time_length": 10,
    "mask_feature_prob": 0.0,
    "feat_proj_dropout": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
}

#: Clips of a step that is timed; together they have the seconds of audio of an update.
_CLIPS = 8

#: What an update takes beside such a step: reading, padding, the optimizer, log and guards.
_UPDATE = 1.3

#: A step that trains the Transformer alone, and one of pretraining with the same audio, beside one that trains all.
_HELD, _CONTRASTIVE = 0.7, 1.2

#: What is not training, in updates: speaking the corpus, the language model, measurement, reports.
_REST = 90

#: Steps that are not timed, and those that are.
_WARM_UPS, _TIMED = 2, 5


@dataclass(frozen=True)
class TrainingSize:
    """How long the runs are."""

    #: Updates of the pretraining that goes on. So few show how it is done and change little: of 40, 12 % of the masked
    #: pieces are told before and after, and 60 small updates of fine-tuning then leave 60 and 79 % of the characters
    #: wrong (two seeds), without it 62 and 85 %.
    pretraining_updates: int = 20
    #: Seconds of audio in each of its updates.
    pretraining_seconds: float = 16.0
    #: Its highest learning rate: a tenth of what the checkpoint was trained with, of which an update had 75 times the
    #: audio.
    pretraining_rate: float = 1e-4
    #: Updates of the fine-tuning, and of the training from scratch beside it.
    finetuning_updates: int = 200
    #: Seconds of audio in each of their updates.
    finetuning_seconds: float = 16.0
    #: Their highest learning rate.
    finetuning_rate: float = 1e-3

    def scaled(self, factor: float) -> "TrainingSize":
        """The same with so many times the updates."""
        return replace(
            self,
            pretraining_updates=max(1, round(self.pretraining_updates * factor)),
            finetuning_updates=max(1, round(self.finetuning_updates * factor)),
        )


def pretraining_run(corpus: Corpus, output: Path, size: TrainingSize, seed: int) -> PretrainRun:
    """Learn on from all training audio, without labels, as the configuration of the checkpoint says: its masks, the
    weights of its losses, the Gumbel temperature at which it ended."""
    updates = size.pretraining_updates
    return PretrainRun(
        model=ModelSection(checkpoint=str(checkpoint(CHECKPOINT))),
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
            save_every=max(1, updates // 2),
            keep_last=1,
        ),
        guards=GuardSection(stalled=False),  # which counts over more updates than there are
    )


def finetuning_run(corpus: Corpus, start: Path | None, output: Path, size: TrainingSize, seed: int) -> FinetuneRun:
    """Learn to spell from the labelled part. Recordings with a letter that no other has are left out, and listed.

    `start` is the folder of a checkpoint, whose convolutions are held, as in the paper. Without one, everything begins
    with random weights and is trained.
    """
    if start is None:
        model = FinetuneModelSection(preset="base", config=same_shape() | _FINETUNING | {"feature_grad_mult": 1.0})
    else:
        model = FinetuneModelSection(checkpoint=str(start), config=_FINETUNING | {"feature_grad_mult": 0.0})
    updates = size.finetuning_updates
    return FinetuneRun(
        model=model,
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
        tuning=TuningSection(freeze_updates=0, keep_features="memory"),
        optimizer=FinetuneOptimizerSection(learning_rate=size.finetuning_rate),
        schedule=FinetuneScheduleSection(),
        run=FinetuneRunSection(
            output=str(output),
            updates=updates,
            seed=seed,
            attention="eager",  # on clips of seconds a third faster on a CPU than the fused kernels
            log_every=max(1, updates // 20),
            evaluate_every=max(1, updates // 3),
            save_every=max(1, updates // 3),
            keep_last=1,
        ),
    )


def same_shape() -> dict[str, Any]:
    """What a fresh model needs to be of the checkpoint's shape."""
    config = Wav2Vec2Config.from_pretrained(checkpoint(CHECKPOINT))
    return {name: list(value) if isinstance(value := getattr(config, name), tuple) else value for name in _SHAPE}


def expected_minutes(size: TrainingSize) -> float:
    """How long a quickstart of that size will take, from a few steps of the model on noise."""
    pretraining = size.pretraining_updates * _CONTRASTIVE * size.pretraining_seconds / size.finetuning_seconds
    updates = pretraining + size.finetuning_updates * (1 + _HELD) + _REST
    return updates * _UPDATE * seconds_of_a_step(size.finetuning_seconds) / 60


def seconds_of_a_step(seconds: float) -> float:
    """The median of forward and backward passes over so many seconds of audio, all weights trained."""
    config = presets.base(**same_shape() | _FINETUNING | {"feature_grad_mult": 1.0, "vocab_size": 32})
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
