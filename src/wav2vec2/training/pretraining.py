"""Pretraining: a run as `wav2vec2 pretrain` and `examples/pretrain.py` start it."""

from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import PreTrainedModel

from wav2vec2.baselines import VQWav2VecConfig, VQWav2VecForPreTraining, Wav2VecConfig, Wav2VecForPreTraining
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import config_of, make_extractor, make_model
from wav2vec2.training.run_output import StartError
from wav2vec2.training.saving.checkpoint_folders import update_of
from wav2vec2.training.saving.checkpoints import TRAINING_WEIGHTS, Saveable
from wav2vec2.training.saving.main_process import on_main_first
from wav2vec2.training.settings.recipes import check_run
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.starting import cannot_start, opened, started
from wav2vec2.training.tasks.future_prediction_task import FuturePredictionTask
from wav2vec2.training.tasks.pretraining_task import PretrainingTask
from wav2vec2.training.tasks.task import Task
from wav2vec2.training.tasks.warm_start import WarmStartedTask, WarmStartModel, WithoutHead


class Learning(NamedTuple):
    """What a run trains: the `model`, the `task`, what makes the folder of a checkpoint complete (`beside`), and what
    is to be said before the first update (`notes`)."""

    model: PreTrainedModel
    task: Task
    beside: list[Saveable]
    notes: list[str]


def pretrain(run: PretrainRun, resume: bool = True) -> Path:
    """Pretrain until `run.run.updates` updates are done, from the newest whole checkpoint if there is one; the folder
    of the results. What is learnt follows from the model: wav2vec 2.0's objective, or that of its ancestors."""
    check_run(run)
    with opened(run, resume, lambda _: TrainingData(run.data, run.run.seed)) as (accelerator, output, data):
        learning = on_main_first(accelerator, lambda: learn(run, accelerator, output.newest), cannot_start)
        model, task, beside, notes = learning
        with started(run, accelerator, output, model, task, data, beside, notes) as loop:
            loop.train()
    return Path(run.run.output)


def learn(run: PretrainRun, accelerator: Accelerator, newest: Path | None) -> Learning:
    """What a run that stands at its `newest` checkpoint trains."""
    if isinstance(config_of(run.model), Wav2VecConfig):
        return learn_as_2019(run)
    return learn_masked_frames(run, accelerator, newest)


def learn_as_2019(run: PretrainRun) -> Learning:
    """wav2vec or vq-wav2vec, and the frames to come."""
    for key, problem in run.problems_of_ancestor():  # of a checkpoint, which settings alone do not know
        raise StartError(f"{key}: {problem}")
    quantizes = isinstance(config_of(run.model), VQWav2VecConfig)
    kind = VQWav2VecForPreTraining if quantizes else Wav2VecForPreTraining
    model, _, about_model = make_model(kind, run.model, None)
    extractor, about_input = make_extractor(run.model, run.data.normalize)
    return Learning(
        model, FuturePredictionTask(model.config, extractor, run.run.seed), [extractor], [*about_input, *about_model]
    )


def learn_masked_frames(run: PretrainRun, accelerator: Accelerator, newest: Path | None) -> Learning:
    """wav2vec 2.0 and its objective, after a warm start if there is one."""
    warms_up = in_warm_start(run, newest)
    kind = WarmStartModel if warms_up else Wav2Vec2ForPreTraining
    model, _, about_model = make_model(kind, run.model, run.run.attention)
    if run.centred_codebooks:
        model.quantizer.centre_entries()
    extractor, about_input = make_extractor(run.model, run.data.normalize)
    if warms_up:
        about_model = [*about_model, warm_start_note(run, model.config, accelerator)]
    task, beside = task_of(run, model.config, extractor)
    return Learning(model, task, [extractor, *beside], [*about_input, *about_model])


def task_of(
    run: PretrainRun, config: Wav2Vec2Config, extractor: Wav2Vec2FeatureExtractor
) -> tuple[Task, list[Saveable]]:
    """What is learnt, and what makes the folder of a checkpoint complete beside the feature extractor."""
    objective = PretrainingTask(config, extractor, run.run.seed, run.run.diversity_over == "update")
    if not run.warm_start.updates:
        return objective, []
    task = WarmStartedTask(objective, run.warm_start.updates)
    return task, [WithoutHead(task)]


def in_warm_start(run: PretrainRun, newest: Path | None) -> bool:
    """Whether a run whose newest checkpoint this is begins within its warm start. There the checkpoint has the head."""
    updates = run.warm_start.updates
    if newest is None:
        return updates > 0
    inside, with_head = (update_of(newest) or 0) < updates, (newest / TRAINING_WEIGHTS).is_file()
    if inside != with_head:
        state = "is in the middle of its warm start" if with_head else "has its warm start behind it"
        raise StartError(f"warm_start.updates={updates}: the run in {newest.parent.parent} {state}; leave it as it was")
    return inside


def warm_start_note(run: PretrainRun, config: Wav2Vec2Config, accelerator: Accelerator) -> str:
    """A sentence on the warm start that begins or goes on; a `StartError` if it cannot."""
    updates = run.warm_start.updates
    if config.feature_grad_mult == 0:
        raise StartError(
            f"warm_start.updates={updates}: it trains the convolutions, which model.config.feature_grad_mult=0 freezes"
        )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise StartError(
            f"warm_start.updates={updates}: does not go with DeepSpeed, whose optimizer cannot be started afresh when "
            "the objective takes over; use DDP or FSDP2"
        )
    return f"warm start: until update {updates:,} the convolutions learn to say log-mel energies, nothing else moves"
