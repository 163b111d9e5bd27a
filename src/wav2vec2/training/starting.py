"""From the description of a run to a job that is ready to go: device, precision, wrappers, what was done before."""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import typer
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, broadcast_object_list

from wav2vec2.modeling.precision import has_bfloat16_instructions
from wav2vec2.training.announcing import facts_of, sentences, warnings_of
from wav2vec2.training.data.bad_files import BadFiles
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.guards import Guards
from wav2vec2.training.loop import Job, Loop
from wav2vec2.training.optimization import make_optimizer
from wav2vec2.training.progress.throughput import Meter, matmul_peak
from wav2vec2.training.progress.training_log import TrainingLog
from wav2vec2.training.run_record import changes, write_run
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.output_lock import take_output
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun
from wav2vec2.training.tasks.task import Task
from wav2vec2.training.update_step import Updater

T = TypeVar("T")

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float16}


class StartError(ValueError):
    """A run that cannot be started, and what would be right."""

    #: Every process of a run raises it, so one of them is enough to say it.
    on_all_processes = True


def main_first(accelerator: Any, work: Callable[[], T]) -> T:
    """The work of each process, the main one's before that of the others, which find what it has kept.

    If it fails there, it fails on all, and the main process's error is the one that says why: the others would tell of
    a connection that was lost.
    """
    if accelerator.num_processes == 1:
        return work()
    failure: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            done = work()
        except Exception as error:
            broadcast_object_list([f"{type(error).__name__}: {error}"])
            raise
        broadcast_object_list(failure)
        return done
    broadcast_object_list(failure)
    if failure[0] is not None:
        raise StartError(f"the main process could not start: {failure[0]}")
    return work()


def has_fast_bf16() -> bool:
    """Whether products in bf16 are faster than in fp32 on what will be trained on."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    return has_bfloat16_instructions()


def make_accelerator(precision: str) -> Accelerator:
    """Accelerate as `accelerate launch` configured it (DDP, FSDP2, DeepSpeed), with the run's precision.

    Where there is no accelerator, Accelerate takes the processes of `torchrun` for so many runs of their own unless it
    is told that they are to compute on CPUs. Runs that do not know of each other would write into the same folder.
    """
    if precision == "auto":
        precision = "bf16" if has_fast_bf16() else "fp32"
    wrapper = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    AcceleratorState._reset_state()  # or a second run in the same process could have no other precision than the first
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = launched > 1 and not torch.accelerator.is_available()
    accelerator = Accelerator(mixed_precision=_PRECISIONS[precision], cpu=on_cpu, kwargs_handlers=[wrapper])
    if launched > 1 and accelerator.num_processes != launched:
        raise StartError(
            f"{launched} processes were launched (WORLD_SIZE), but Accelerate sees {accelerator.num_processes}: each "
            "would train by itself and write into the same folder. Start them by torchrun or accelerate launch"
        )
    return accelerator


def prepare(accelerator: Any, model: Any, run: PretrainRun | FinetuneRun) -> tuple[Any, Any]:
    """Model and optimizer in whatever wrappers the launch asks for."""
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise StartError("FSDP version 1 flattens parameters, and no checkpoint could name them: set fsdp_version: 2")
    if run.run.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # which wants to be told, though it sees no loader
        accelerator.state.deepspeed_plugin.deepspeed_config.setdefault("train_micro_batch_size_per_gpu", 1)
    optimizer = make_optimizer(model, run.optimizer)
    with warnings.catch_warnings():  # of a name that Accelerate hands on to DDP
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        wrapped, optimizer = accelerator.prepare(model, optimizer)
    if accelerator.is_fsdp2 and hasattr(model, "choice_probabilities"):
        torch.distributed.fsdp.register_fsdp_forward_method(wrapped, "choice_probabilities")
    if run.run.compile:
        accelerator.unwrap_model(wrapped).compile(dynamic=True)
    return wrapped, optimizer


def start(
    run: PretrainRun | FinetuneRun,
    accelerator: Any,
    model: Any,
    task: Task,
    data: TrainingData,
    saved_beside: Sequence[Any],
    resume: bool = True,
    notes: Sequence[str] = (),
) -> Path:
    """Train from wherever the output folder stands, and leave the finished model in its folder `model`. `notes` are
    said before the first update."""
    output, main = Path(run.run.output), accelerator.is_main_process
    checkpoints = Checkpoints(output / "checkpoints", run.run.keep_last, run.run.keep_best)
    held, newest = enter_output(accelerator, checkpoints, resume)
    peak = matmul_peak(_DTYPES[accelerator.mixed_precision], accelerator.device)
    facts = facts_of(run, accelerator, model, data, peak)
    wrapped, optimizer = prepare(accelerator, model, run)
    state = TrainingState()
    if newest is not None:
        state = checkpoints.restore(newest, accelerator, wrapped, optimizer)
    with held, TrainingLog(output, run.run.trackers, run.run.updates, main=main, begin_at=state.update) as log:
        log.truncate_to(state.log_bytes)
        changed = changes(run, output) if state.update else []
        for line in [*sentences(facts, data, state.update), *notes, *warnings_of(run, accelerator), *changed]:
            log.note(line)
        if main:
            write_run(run, output)
        log.header(facts)
        job = Job(
            run=run,
            accelerator=accelerator,
            task=task,
            updater=Updater(accelerator, wrapped, optimizer, task, run.run.seed, run.optimizer.clip_norm),
            data=data,
            checkpoints=checkpoints,
            log=log,
            guards=make_guards(run, task, accelerator, state),
            bad_files=unreadable(run, data, output, main),
            dropped=BadFiles(output / "dropped.tsv", most=1.0),
            meter=Meter(peak, accelerator.device),
            saved_beside=saved_beside,
        )
        Loop(job, state).train()
    if main:
        finish(run, checkpoints, output, state)
    accelerator.wait_for_everyone()
    return output


def enter_output(accelerator: Any, checkpoints: Checkpoints, resume: bool) -> tuple[Any, Path | None]:
    """Hold the output folder, and say where to go on from, as the main process sees it.

    The checkpoints of another run are not written over. What is wrong is raised on all processes.
    """
    held: Any = None
    found: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            held = take_output(checkpoints.folder.parent)
            found[0] = checkpoints.newest()
        except ValueError as error:
            found[1] = str(error)
    broadcast_object_list(found)
    newest, problem = found
    if newest is not None and not resume:
        problem = f"{checkpoints.folder} holds the checkpoints of a run: resume it, or choose another output"
    if problem is not None:
        raise StartError(problem)
    return held or nullcontext(), newest


def unreadable(run: PretrainRun | FinetuneRun, data: TrainingData, output: Path, main: bool) -> BadFiles:
    """The list of what cannot be read, beginning with files whose headers could not."""
    files = BadFiles(output / "unreadable.tsv", run.data.max_bad_share)
    files.add(data.problems if main else [], data.clips or 0, len(data.problems))
    return files


def finish(run: PretrainRun | FinetuneRun, checkpoints: Checkpoints, output: Path, state: TrainingState) -> None:
    """The finished model and the report, and where they are."""
    if state.update >= run.run.updates:
        publish_model(checkpoints, output / "model")
        typer.echo(f"model: {output / 'model'}", err=True)
    if run.run.report:
        report(output)
    if (output / "unreadable.tsv").is_file():
        typer.echo(f"recordings that could not be read: {output / 'unreadable.tsv'}", err=True)


def report(output: Path) -> None:
    """The one-page report, where matplotlib is there to draw it."""
    from wav2vec2.training.progress.report import write_report

    try:
        typer.echo(f"report: {write_report(output)[0]}", err=True)
    except ImportError as error:
        typer.echo(f"no report: {error}", err=True)


def make_guards(run: PretrainRun | FinetuneRun, task: Task, accelerator: Any, state: TrainingState) -> Guards:
    """Guards with what the task says of itself, and with what they had counted."""
    guards = Guards(
        run.guards,
        num_groups=task.num_groups,
        chance=task.chance,
        warmup_updates=round(run.schedule.warmup * run.run.updates),
        gradient_scaler=accelerator.scaler is not None,
    )
    if state.guards:
        guards.load_state_dict(state.guards)
    return guards


def publish_model(checkpoints: Checkpoints, target: Path) -> None:
    """The best checkpoint, or without evaluations the last, as a model folder without the state of training."""
    source = checkpoints.best() or checkpoints.newest()
    if source is None:
        return
    fresh = target.with_name(f".{target.name}-being-written")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("training_state"))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
