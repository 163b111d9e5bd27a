"""Parts of `on_accelerator.py`: the device's own speeds, training steps beside stock's, one step kernel by kernel."""

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import finetuning_step
import numpy as np
import torch
from accelerator_rows import Bench, Row, beside, figure, kernel
from pretraining_loop import updater_of
from pretraining_step import Setting, build, interleave, step_operations, timed, whole_step
from torch import Tensor

from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.progress.throughput import update_operations
from wav2vec2.training.settings.run_config import DataSection, ModelSection, PretrainRun, RunSection
from wav2vec2.training.starting import make_accelerator, prepare
from wav2vec2.training.tasks.task import inputs_of
from wav2vec2.training.transformers_trainer import CTCCollator


def machine(bench: Bench) -> Iterator[Row]:
    """The product that all shares are shares of, and how fast memory is copied."""
    size = 256 if bench.quick else 8192
    left, right = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    rounds = 3 if bench.quick else 30  # as many go before them: a device that was idle is slow at first
    product = interleave({"product": lambda: left @ right}, rounds, bench.device, rounds)["product"]
    bench.product = 2 * size**3 / product
    yield figure(f"product of two {size} x {size} bf16 matrices", bench.product / 1e12, "TFLOP/s")
    source = torch.randn(2**14 if bench.quick else 2**30, device=bench.device)
    target = torch.empty_like(source)
    copying = interleave({"copy": lambda: target.copy_(source)}, rounds, bench.device, rounds)["copy"]
    yield figure("copy within its memory, bytes read and written", 2 * source.nbytes / copying / 1e12, "TB/s")


def base(bench: Bench) -> Iterator[Row]:
    """The pretraining step of base; also with four times as many clips, for which the host does the same."""
    setting = base_setting(bench)
    yield from pretraining_steps(bench, setting)
    many = Setting(**vars(setting) | {"batch": 4 * setting.batch})
    model = build("ours", many)
    step = {"ours": whole_step("ours", model, many, torch.bfloat16)}
    yield step_beside(bench, many, described(many, False), step, {"ours": model})


def large(bench: Bench) -> Iterator[Row]:
    """The pretraining step of large_lv60k."""
    yield from pretraining_steps(bench, large_setting(bench))


def base_setting(bench: Bench) -> Setting:
    """Clips as long as base_960h crops them."""
    if bench.quick:
        return Setting(preset="tiny", batch=2, seconds=0.5, device=bench.device, seed=0)
    return Setting(preset="base", batch=16, seconds=15.6, device=bench.device, seed=0)


def large_setting(bench: Bench) -> Setting:
    """Half as many clips."""
    if bench.quick:
        return Setting(preset="tiny", batch=1, seconds=0.5, device=bench.device, seed=0)
    return Setting(preset="large_lv60k", batch=8, seconds=15.6, device=bench.device, seed=0)


def pretraining_steps(bench: Bench, setting: Setting) -> Iterator[Row]:
    """Forward and backward under bf16 autocast beside stock's, nothing padded and some of it padded."""
    models = {side: build(side, setting) for side in ("stock", "ours")}
    for padded in (False, True):
        mask = some_padded(setting) if padded else None
        steps = {side: whole_step(side, model, setting, torch.bfloat16, mask) for side, model in models.items()}
        yield step_beside(bench, setting, described(setting, padded), steps, models)


def step_beside(
    bench: Bench, setting: Setting, what: str, steps: dict[str, Callable[[], Any]], models: dict[str, Any]
) -> Row:
    """Steps of the pretraining, one after the other in every round."""
    seconds = interleave(steps, bench.rounds, bench.device, bench.warm_up)
    share = bench.share(step_operations(setting), seconds["ours"])
    memory = {side: peak_of(step, models[side], bench.device) for side, step in steps.items()}
    return beside(what, seconds, audio=setting.batch * setting.seconds, share=share, memory=memory)


def described(setting: Setting, padded: bool) -> str:
    """What is done, in words."""
    work = f"pretraining step, {setting.preset}, {setting.batch} x {setting.seconds} s"
    return f"{work}, every second clip a fifth shorter" if padded else work


def some_padded(setting: Setting) -> Tensor:
    """An attention mask (batch, samples) with which every second clip is a fifth shorter."""
    mask = torch.ones(setting.batch, setting.samples, dtype=torch.long, device=setting.device)
    mask[1::2, -(setting.samples // 5) :] = 0
    return mask


def peak_of(step: Callable[[], Any], model: torch.nn.Module, device: str) -> float | None:
    """GiB that a device holds at most in a step of this model, if no other model were there; None of a CPU."""
    if device != "cuda":
        return None
    weights = sum(one.nbytes for one in [*model.parameters(), *model.buffers()])
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before + weights) / 2**30


def update(bench: Bench) -> Iterator[Row]:
    """What the loop does once an update's batches are there: all parts, the norm of the gradient, the optimizer."""
    setting = base_setting(bench)
    updater = updater_of(setting, "bf16")
    generator = np.random.default_rng(0)
    parts = []
    for part in range(2 if bench.quick else 6):
        noise = generator.standard_normal((setting.batch, setting.samples)).astype(np.float32)
        clips = [LoadedClip(f"{part}-{n}", samples, 100 * part + n) for n, samples in enumerate(noise)]
        parts.append(inputs_of(updater.task, clips))
    numbers = count()
    updates = {"ours": lambda: updater(next(numbers), parts)}
    seconds = interleave(updates, bench.rounds, bench.device, bench.warm_up)
    operations = len(parts) * step_operations(setting)
    yield beside(
        f"whole update of {len(parts)} parts, {setting.preset}, each {setting.batch} x {setting.seconds} s",
        seconds,
        audio=len(parts) * setting.batch * setting.seconds,
        share=bench.share(operations, seconds["ours"]),
    )


def ctc(bench: Bench) -> Iterator[Row]:
    """A fine-tuning step of base, its convolutions frozen."""
    size: dict[str, Any] = {"preset": "base", "batch": 16, "seconds": 10.0}
    if bench.quick:
        size = {"preset": "tiny", "batch": 2, "seconds": 0.5}
    setting = finetuning_step.Setting(**size, seed=0, rounds=bench.rounds, attention=None)
    examples = [{"audio": clip.samples, "text": clip.transcript} for clip in setting.clips()]
    batch = CTCCollator(finetuning_step.processor())(examples)
    values, labels = (batch[name].to(bench.device) for name in ("input_values", "labels"))
    built = dict(zip(("ours", "stock"), finetuning_step.models(setting), strict=True))
    models = {side: model.to(bench.device).train() for side, model in built.items()}

    def step_of(model: Any) -> Callable[[], None]:
        def step() -> None:
            with torch.autocast(bench.device, dtype=torch.bfloat16):
                loss = model(values, labels=labels).loss
            loss.backward()
            model.zero_grad(set_to_none=True)

        return step

    steps = {side: step_of(model) for side, model in models.items()}
    seconds = interleave(steps, bench.rounds, bench.device, bench.warm_up)
    operations = update_operations(setting.config(), [values.shape[1]] * len(values), trains_convolutions=False)
    yield beside(
        f"CTC step, {setting.preset}, {setting.batch} x {setting.seconds} s, convolutions frozen",
        seconds,
        audio=setting.batch * setting.seconds,
        share=bench.share(operations, seconds["ours"]),
        memory={side: peak_of(step, models[side], bench.device) for side, step in steps.items()},
    )


def compiled_base(bench: Bench) -> Iterator[Row]:
    """The pretraining step of base as `run.compile=true` makes it."""
    yield from compiled_steps(bench, base_setting(bench))


def compiled_large(bench: Bench) -> Iterator[Row]:
    """The same of large_lv60k."""
    yield from compiled_steps(bench, large_setting(bench))


def compiled_steps(bench: Bench, setting: Setting) -> Iterator[Row]:
    """The first call of a shape and then of a padded one, in which compilers work, and what a step takes after it."""
    models = {side: build(side, setting) for side in ("stock", "ours")}
    models["ours not compiled"] = copy.deepcopy(models["ours"])
    compile_as_in_training(models["ours"])
    eagerly = torch.compiler.set_stance("force_eager") if bench.quick else contextlib.nullcontext()
    with eagerly:  # a try compiles nothing
        for padded in (False, True):
            mask = some_padded(setting) if padded else None
            steps = {
                side: whole_step(side.partition(" ")[0], model, setting, torch.bfloat16, mask)
                for side, model in models.items()
            }
            what = f"{described(setting, padded)}, compiled"
            yield figure(f"first call: {what}", timed(steps["ours"], bench.device), "s")
            yield step_beside(bench, setting, what, steps, models)


def compile_as_in_training(model: Any) -> None:
    """Let the training's own preparation compile the model, whatever it does for that."""
    run = PretrainRun(
        model=ModelSection(preset="base"), data=DataSection(), run=RunSection(precision="bf16", compile=True)
    )
    prepare(make_accelerator("bf16"), model, run)


def profile(bench: Bench) -> Iterator[Row]:
    """Which kernels a pretraining step of base consists of."""
    setting = base_setting(bench)
    step = whole_step("ours", build("ours", setting), setting, torch.bfloat16)
    taken = interleave({"step": step}, bench.rounds, bench.device, bench.warm_up)["step"]
    activities = [torch.profiler.ProfilerActivity.CPU]
    if bench.device == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        timed(step, bench.device)
    kernels = sorted(kernels_of(profiler, bench.device), key=lambda row: row[2], reverse=True)
    busy = sum(seconds for _, _, seconds in kernels)
    yield figure("one step, no profiler", 1000 * taken, "ms")
    yield figure("its kernels together", 1000 * busy, "ms")
    yield figure("kernels started", sum(calls for _, calls, _ in kernels))
    for name, calls, seconds in kernels:
        yield kernel(name, calls, seconds, seconds / busy)


def kernels_of(profiler: torch.profiler.profile, device: str) -> Iterator[tuple[str, int, float]]:
    """Short name, calls and seconds of each kernel, of a CPU of each operator without those that it calls."""
    for event in profiler.key_averages():
        if device == "cuda" and event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False):
            yield short_name(event.key), event.count, event.self_device_time_total / 1e6
        elif device != "cuda":
            yield event.key, event.count, event.self_cpu_time_total / 1e6


def short_name(name: str) -> str:
    """A kernel's name without what all of them have; `|` would end a table's cell.

    >>> short_name("void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl(at::Te)>(int)")
    'vectorized_elementwise_kernel<4, GeluCUDAKernelImpl(at::Te)>(int)'
    """
    bare = re.sub(r"^void |at::native::|\(anonymous namespace\)::|std::|c10::", "", name)
    return bare.replace("|", "/").replace("`", "'")[:110]
