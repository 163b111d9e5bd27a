"""From the description of a run to a loop that is ready to go: device, precision, wrappers, what was done before, and
what the run says of itself before its first update."""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, set_seed
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from wav2vec2.evaluation.provenance import hardware, versions
from wav2vec2.modeling.precision import has_bfloat16_instructions, told_if_slow
from wav2vec2.modeling.transformer_encoder import Wav2Vec2EncoderLayer
from wav2vec2.training.data.bad_files import BadFiles
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.guards import guards_of
from wav2vec2.training.kept_features import keep_features
from wav2vec2.training.loop import Loop
from wav2vec2.training.model_making import require_checkpoint
from wav2vec2.training.optimization import make_optimizer
from wav2vec2.training.progress.throughput import Meter, matmul_peak
from wav2vec2.training.progress.training_log import TrainingLog
from wav2vec2.training.run_output import RunOutput, StartError, held_output
from wav2vec2.training.saving.checkpoints import Saveable
from wav2vec2.training.saving.main_process import on_main_first
from wav2vec2.training.saving.named_states import trained_parameters
from wav2vec2.training.settings.run_config import Run, SupervisedRun, changes, write_run
from wav2vec2.training.sharding import (
    arguments,
    compute_as_undivided,
    divide_on_cpus,
    divided,
    hand_out,
    shards_of,
    told_of_division,
    whole_weights,
)
from wav2vec2.training.tasks.task import Task
from wav2vec2.training.update_step import Updater
from wav2vec2.training.weight_average import WeightAverage

T = TypeVar("T")

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
#: So many graphs of a Transformer layer may be compiled.
_GRAPHS = 32
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float16}


def has_fast_bf16() -> bool:
    """Whether products in bf16 are faster than in fp32 on what will be trained on."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    return has_bfloat16_instructions()


def make_accelerator(precision: str, shard_over: int | None = None) -> Accelerator:
    """Accelerate as `accelerate launch` configured it (DDP, FSDP2, DeepSpeed), or with `shard_over` so many processes
    to a copy of the model (FSDP2), with the run's precision.

    Where there is no accelerator, Accelerate takes the processes of `torchrun` for so many runs of their own unless it
    is told that they are to compute on CPUs. Runs that do not know of each other would write into the same folder.
    """
    if precision == "auto":
        precision = "bf16" if has_fast_bf16() else "fp32"
    wrapper = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    AcceleratorState._reset_state()  # or a second run in the same process could have no other precision than the first
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = launched > 1 and not torch.accelerator.is_available()
    sharding = sharding_of(launched, shard_over)
    later = {name: sharding.pop(name) for name in ("fsdp_plugin", "parallelism_config") if sharding and on_cpu}
    options = {"mixed_precision": _PRECISIONS[precision], "cpu": on_cpu, "kwargs_handlers": [wrapper]}
    accelerator = Accelerator(**options, **sharding)
    if launched > 1 and accelerator.num_processes != launched:
        raise StartError(
            f"{launched} processes were launched (WORLD_SIZE), but Accelerate sees {accelerator.num_processes}: each "
            "would train by itself and write into the same folder. Start them by torchrun or accelerate launch"
        )
    if later:
        divide_on_cpus(accelerator, **later)
    return accelerator


def sharding_of(launched: int, shard_over: int | None) -> dict[str, Any]:
    """What the run says of dividing the model, unless the launch says it."""
    asked = [name for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED") if os.environ.get(name) == "true"]
    if shard_over is not None and asked:
        raise StartError(
            f"run.shard_over={shard_over}: accelerate launch is configured to divide the model as well ({asked[0]}); "
            "set run.shard_over=null, or take that out of its configuration"
        )
    try:
        return arguments(launched, shards_of(launched, shard_over))
    except ValueError as error:
        raise StartError(str(error)) from error


@contextmanager
def opened(run: Run, resume: bool, read: Callable[[RunOutput], T]) -> Iterator[tuple[Accelerator, RunOutput, T]]:
    """What a run computes with, its output folder, which is its own until the context is left, and what `read` gives.

    Every process reads, the main one first, which keeps the durations of the audio for the others. But what a run names
    outside of itself is looked at before hours of audio are looked through: the checkpoint is one, the output folder
    takes files, the implementation of attention is installed.
    """
    accelerator = make_accelerator(run.run.precision, run.run.shard_over)
    set_seed(run.run.seed)

    def look_and_read() -> T:
        require_checkpoint(run.model, with_head=isinstance(run, SupervisedRun))
        if run.run.attention == "flash_attention_2" and not is_flash_attn_2_available():
            raise StartError(
                "run.attention=flash_attention_2: the package flash-attn is not installed, or has no GPU here"
            )
        return read(output)

    with held_output(run, accelerator, resume) as output:
        yield accelerator, output, on_main_first(accelerator, look_and_read, cannot_start)


def cannot_start(error: Exception) -> StartError:
    """What the others tell when the main process fails; else they would tell of a connection that was lost."""
    return StartError(f"the main process could not start: {type(error).__name__}: {error}")


def prepare(accelerator: Accelerator, model: PreTrainedModel, run: Run) -> tuple[nn.Module, AcceleratedOptimizer]:
    """Model and optimizer in whatever wrappers the launch asks for."""
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise StartError("FSDP version 1 flattens parameters, and no checkpoint could name them: set fsdp_version: 2")
    if run.run.ema is not None and accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise StartError("run.ema: DeepSpeed keeps the weights where no average can follow them: use DDP or FSDP2")
    if run.run.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # which wants to be told, though it sees no loader
        accelerator.state.deepspeed_plugin.deepspeed_config.setdefault("train_micro_batch_size_per_gpu", 1)
    if accelerator.is_fsdp2:
        compute_as_undivided(accelerator, model)
    optimizer = make_optimizer(model, run.optimizer)
    whole = whole_weights(accelerator, model) if accelerator.is_fsdp2 else {}
    with warnings.catch_warnings():  # of a name that Accelerate hands on to DDP
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        wrapped, optimizer = accelerator.prepare(model, optimizer)
    if accelerator.is_fsdp2:
        divided(wrapped)
        hand_out(accelerator, whole, wrapped)
    if run.run.compile:
        compile_layers(accelerator.unwrap_model(wrapped))
    return wrapped, optimizer


def average_of(
    run: Run, accelerator: Accelerator, wrapped: nn.Module, optimizer: AcceleratedOptimizer
) -> WeightAverage:
    """The average of the trained weights that the run asks for; of none, if it does not."""
    trained = {} if run.run.ema is None else trained_parameters(accelerator, wrapped, optimizer)
    return WeightAverage(accelerator.unwrap_model(wrapped), trained, run.run.ema or 0.0)


def compile_layers(model: nn.Module) -> None:
    """Compile each Transformer layer by itself, in place: nothing in the model gets another name.

    All layers share their graphs, so that a model of 24 is compiled as fast as one of two. Sizes are free in a graph,
    so a new length of audio makes no new one. What does is a mask where there was none, a single clip, evaluation, and
    a layer that LayerDrop skips: about a dozen in all, more than torch would make before it gives up compiling.
    """
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _GRAPHS)
    for module in model.modules():
        if isinstance(module, Wav2Vec2EncoderLayer):
            module.compile(dynamic=True)


@contextmanager
def started(
    run: Run,
    accelerator: Accelerator,
    output: RunOutput,
    model: PreTrainedModel,
    task: Task,
    data: TrainingData,
    saved_beside: Sequence[Saveable],
    notes: Sequence[str] = (),
) -> Iterator[Loop]:
    """A loop that begins wherever the output folder stands. `notes` are said before the first update."""
    facts = facts_of(run, accelerator, model, data)
    division = told_of_division(model, accelerator.num_processes, run.run.shard_over)
    told, warned = [*sentences(facts, data), *division], warnings_of(run, accelerator)
    wrapped, optimizer = prepare(accelerator, model, run)
    average = average_of(run, accelerator, wrapped, optimizer)
    if output.newest is not None:
        output.state = output.checkpoints.restore(output.newest, accelerator, wrapped, optimizer, average.tensors)
    state = output.state
    with TrainingLog(output.folder, run.run.trackers, run.run.updates, main=output.main, begin_at=state.update) as log:
        log.truncate_to(state.log_bytes)
        changed = [*changes(run, output.folder), *data.notes(state.update, state.position)] if state.update else []
        if output.main:
            write_run(run, output.folder)
        stands = f"going on after update {state.update:,}"
        if state.update >= run.run.updates:
            stands = f"update {state.update:,} is done: nothing is left to train. For more, raise run.updates"
        for line in [*told, *([stands] if state.update else []), *notes, *warned, *changed]:
            log.note(line)
        log.header(facts)
        # the list of what cannot be read begins with the files whose headers could not
        bad_files = BadFiles(output.folder / "unreadable.tsv", run.data.max_bad_share)
        unreadable = data.summary.left_out.get("unreadable", 0) + data.valid_left_out.get("unreadable", 0)
        bad_files.add(data.problems if output.main else [], data.clips or 0, unreadable)
        yield Loop(
            run=run,
            accelerator=accelerator,
            task=task,
            updater=Updater(accelerator, wrapped, optimizer, task, run.run.seed, run.optimizer.clip_norm, average),
            data=data,
            checkpoints=output.checkpoints,
            log=log,
            guards=guards_of(run, task, accelerator.scaler is not None, state.guards),
            bad_files=bad_files,
            dropped=BadFiles(output.folder / "dropped.tsv", most=1.0),
            meter=Meter(facts["matmul_peak_tflops"] * 1e12, accelerator.device),
            saved_beside=saved_beside,
            kept=keep_features(run, accelerator, accelerator.unwrap_model(wrapped), data, log.note),
            state=state,
        )


def facts_of(run: Run, accelerator: Accelerator, model: PreTrainedModel, data: TrainingData) -> dict[str, Any]:
    """All that a figure of this run depends on. No paths and no names of users."""
    hours, seconds = data.hours, run.data.seconds_per_update
    epochs = run.run.updates * seconds / (3600 * hours) if hours else None
    model_name = run.model.preset or _named(str(run.model.checkpoint))
    peak = matmul_peak(_DTYPES[accelerator.mixed_precision], accelerator.device)
    return {
        "recipe": run.origin.recipe,
        "model": model_name,
        "architecture": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "hours": hours,
        "clips": data.clips,
        **({"speeds": data.speeds} if data.speeds else {}),
        "left_out": dict(data.summary.left_out),
        "left_out_of_evaluations": dict(data.valid_left_out),
        "seconds_per_update": seconds,
        "updates": run.run.updates,
        "epochs": epochs,
        "learning_rate": run.optimizer.learning_rate,
        "weights": "as trained" if run.run.ema is None else f"moving average with decay {run.run.ema:g}",
        "seed": run.run.seed,
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision.replace("no", "fp32"),
        "distributed": str(accelerator.distributed_type.value).lower(),
        "hardware": hardware(accelerator.device),
        "matmul_peak_tflops": peak / 1e12,
        "versions": versions(),
        "config": model.config.to_diff_dict(),
    }


def _named(checkpoint: str) -> str:
    """A checkpoint by its name on the Hub; a folder by its last name, which says little if it is `model`."""
    path = Path(checkpoint)
    if not path.exists():
        return checkpoint
    names = path.resolve().parts
    return "/".join(names[-2:] if names[-1] == "model" else names[-1:])


def sentences(facts: dict[str, Any], data: TrainingData) -> list[str]:
    """The facts as one reads them."""
    speeds = " and ".join(f"{speed:g}" for speed in data.speeds)
    epochs = "" if facts["epochs"] is None else f", {facts['epochs']:.1f} times through the data"
    left_out = ", ".join(f"{count} {reason}" for reason, count in data.valid_left_out.items())
    return [
        f"{facts['architecture']}: {facts['parameters'] / 1e6:.1f} M parameters, "
        f"{facts['trained_parameters'] / 1e6:.1f} M of them trained",
        *data.summary.lines(),
        *([f"  copies at speed {speeds} are among the clips"] if speeds else []),
        *([f"  left out of evaluations: {left_out}"] if left_out else []),
        *([f"evaluated and saved: the {facts['weights']}"] if facts["weights"] != "as trained" else []),
        f"{facts['updates']:,} updates of {facts['seconds_per_update']:g} s of audio over {facts['processes']} "
        f"process{'es' if facts['processes'] > 1 else ''}{epochs}",
        f"{facts['precision']} on {facts['hardware']}, matrix products up to {facts['matmul_peak_tflops']:.2f} TFLOP/s",
    ]


def warnings_of(run: Run, accelerator: Accelerator) -> list[str]:
    """What is likely to disappoint."""
    found = []
    recipe, seconds = run.origin.seconds_per_update, run.data.seconds_per_update
    if recipe is not None and seconds < recipe and not math.isclose(seconds, recipe):
        found.append(
            f"warning: data.seconds_per_update={seconds:g} is below the recipe's {recipe:g}. What a model learns "
            "depends on the audio per update (fairseq issue 3869). Memory is not a reason to lower it: "
            "data.seconds_per_batch is what one process holds at once, and the rest is accumulated."
        )
    slow = told_if_slow(accelerator.device) if accelerator.mixed_precision == "bf16" else None
    if slow is not None:
        found.append(f"warning: run.precision=bf16, but {slow}. run.precision=fp32 (or auto) is faster")
    return found
