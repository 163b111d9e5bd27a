"""Pretraining: a run as `wav2vec2 pretrain` and `examples/pretrain.py` start it."""

from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedType

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.for_pretraining import Wav2Vec2ForPreTraining
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import make_extractor, make_model
from wav2vec2.training.run_output import StartError
from wav2vec2.training.saving.checkpoint_folders import update_of
from wav2vec2.training.saving.checkpoints import TRAINING_WEIGHTS, Saveable
from wav2vec2.training.settings.recipes import check_run
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.starting import opened, started
from wav2vec2.training.tasks.pretraining_task import PretrainingTask
from wav2vec2.training.tasks.task import Task
from wav2vec2.training.tasks.warm_start import WarmStartedTask, WarmStartModel, WithoutHead


def pretrain(run: PretrainRun, resume: bool = True) -> Path:
    """Pretrain until `run.run.updates` updates are done, from the newest whole checkpoint if there is one; the folder
    of the results."""
    check_run(run)
    with opened(run, resume, lambda _: TrainingData(run.data, run.run.seed)) as (accelerator, output, data):
        warms_up = in_warm_start(run, output.newest)
        kind = WarmStartModel if warms_up else Wav2Vec2ForPreTraining
        model, _, about_model = make_model(kind, run.model, run.run.attention)
        if run.centred_codebooks:
            model.quantizer.centre_entries()
        extractor, about_input = make_extractor(run.model, run.data.normalize)
        if warms_up:
            about_model = [*about_model, warm_start_note(run, model.config, accelerator)]
        task, beside = task_of(run, model.config, extractor)
        notes = [*about_input, *about_model]
        with started(run, accelerator, output, model, task, data, [extractor, *beside], notes) as loop:
            loop.train()
    return Path(run.run.output)


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
