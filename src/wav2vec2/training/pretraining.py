"""Pretraining: a run as `wav2vec2 pretrain` and `examples/pretrain.py` start it."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from wav2vec2.configuration import presets
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.chosen_checkpoint import checkpoint_config, layout_notes
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.settings.run_config import ModelSection, PretrainRun
from wav2vec2.training.starting import main_first, make_accelerator, start
from wav2vec2.training.tasks.pretraining_task import PretrainingTask
from wav2vec2.training.what_is_named import require_what_is_named


def pretrain(run: PretrainRun, resume: bool = True) -> Path:
    """Pretrain until `run.run.updates` updates are done, from the newest whole checkpoint if there is one."""
    accelerator = make_accelerator(run.run.precision)
    set_seed(run.run.seed)
    data = main_first(accelerator, lambda: read_data(run))  # the main process reads the durations for all
    model = make_model(run.model, run.run.attention)
    extractor = make_feature_extractor(run.model, run.data.normalize)
    task = PretrainingTask(model.config, extractor, run.run.seed, run.run.diversity_over == "update")
    notes = layout_notes(run.model, model.config)
    return start(run, accelerator, model, task, data, [extractor], resume, notes)


def read_data(run: PretrainRun) -> TrainingData:
    """The data, after what takes no time to see is seen."""
    require_what_is_named(run)
    return TrainingData(run.data, run.run.seed)


def make_model(section: ModelSection, attention: str | None) -> Wav2Vec2ForPreTraining:
    """A fresh model of a published size, or a checkpoint to go on from; always in float32. Convolutions that get no
    gradient (`feature_grad_mult` 0) are frozen, and no part of what is trained."""
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if section.checkpoint is not None:
        config = checkpoint_config(section)
        options |= {"config": config, "dtype": torch.float32}
        model: Wav2Vec2ForPreTraining = Wav2Vec2ForPreTraining.from_pretrained(section.checkpoint, **options)
    else:
        config = getattr(presets, section.preset or "")(**section.config)
        model = Wav2Vec2ForPreTraining._from_config(config, **options)
    if config.feature_grad_mult == 0:
        model.freeze_feature_encoder()
    return model


def make_feature_extractor(section: ModelSection, normalize: bool) -> Wav2Vec2FeatureExtractor:
    """What turns samples into inputs, saved with every checkpoint."""
    return Wav2Vec2FeatureExtractor(do_normalize=normalize)
