"""Pretraining: a run as `wav2vec2 pretrain` and `examples/pretrain.py` start it."""

from pathlib import Path

from accelerate.utils import set_seed

from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import make_extractor, make_model, notes_on
from wav2vec2.training.settings.recipes import check_run
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.starting import main_first, make_accelerator, require_what_is_named, started
from wav2vec2.training.tasks.pretraining_task import PretrainingTask


def pretrain(run: PretrainRun, resume: bool = True) -> Path:
    """Pretrain until `run.run.updates` updates are done, from the newest whole checkpoint if there is one; the folder
    of the results."""
    check_run(run)
    accelerator = make_accelerator(run.run.precision)
    set_seed(run.run.seed)
    data = main_first(accelerator, lambda: read_data(run))  # the main process reads the durations for all
    model, _ = make_model(Wav2Vec2ForPreTraining, run.model, run.run.attention)
    extractor, about_input = make_extractor(run.model, run.data.normalize)
    task = PretrainingTask(model.config, extractor, run.run.seed, run.run.diversity_over == "update")
    notes = [*about_input, *notes_on(run.model, model.config)]
    with started(run, accelerator, model, task, data, [extractor], resume, notes) as loop:
        loop.train()
    return Path(run.run.output)


def read_data(run: PretrainRun) -> TrainingData:
    """The data, after what takes no time to see is seen."""
    require_what_is_named(run)
    return TrainingData(run.data, run.run.seed)
