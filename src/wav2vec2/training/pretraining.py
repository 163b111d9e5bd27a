"""Pretraining: a run as `wav2vec2 pretrain` and `examples/pretrain.py` start it."""

from pathlib import Path

from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import make_extractor, make_model
from wav2vec2.training.settings.recipes import check_run
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.starting import opened, started
from wav2vec2.training.tasks.pretraining_task import PretrainingTask


def pretrain(run: PretrainRun, resume: bool = True) -> Path:
    """Pretrain until `run.run.updates` updates are done, from the newest whole checkpoint if there is one; the folder
    of the results."""
    check_run(run)
    with opened(run, resume, lambda _: TrainingData(run.data, run.run.seed)) as (accelerator, output, data):
        model, _, about_model = make_model(Wav2Vec2ForPreTraining, run.model, run.run.attention)
        extractor, about_input = make_extractor(run.model, run.data.normalize)
        task = PretrainingTask(model.config, extractor, run.run.seed, run.run.diversity_over == "update")
        notes = [*about_input, *about_model]
        with started(run, accelerator, output, model, task, data, [extractor], notes) as loop:
            loop.train()
    return Path(run.run.output)
