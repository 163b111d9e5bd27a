"""The host waits for the device once in an update, and copies run beside what the device computes."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from device_waits import DeviceWaits
from pretraining_runs import recipe, write_clips
from small_models import CALM, recompute_activations, small_config
from torch.optim import optimizer as optimizers

from wav2vec2 import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
)
from wav2vec2.training import device_copies, starting
from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.micro_batches import Batch
from wav2vec2.training.device_copies import CopiedAhead, ToHost
from wav2vec2.training.model_making import make_extractor, make_model
from wav2vec2.training.optimization import make_optimizer, set_learning_rate
from wav2vec2.training.run_output import held_output
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import OptimizerSection, PretrainRun
from wav2vec2.training.tasks.classification_task import ClipLabelTask, FrameLabelTask, SpeakerTask
from wav2vec2.training.tasks.ctc_task import CTCTask
from wav2vec2.training.tasks.pretraining_task import PretrainingTask
from wav2vec2.training.tasks.task import inputs_of
from wav2vec2.training.update_step import Updater

#: All that is random, and everything that is computed only if it is asked for.
EVERYTHING: dict[str, Any] = {
    "hidden_dropout": 0.1, "attention_dropout": 0.1, "feat_proj_dropout": 0.1, "layerdrop": 0.5,
    "mask_feature_prob": 0.5, "feature_penalty_weight": 1.0, "feature_grad_mult": 0.1, "use_weighted_layer_sum": True,
}  # fmt: skip


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Accelerator]]:
    """Makes an Accelerator of the device that `device_waits` counts on. torch's fused optimizer is told that it can
    work there: nothing is computed."""
    real = getattr(optimizers, "_get_fused_kernels_supported_devices")  # noqa: B009 (torch does not export it)
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [*real(), "meta"])

    def made(precision: str = "fp32") -> Accelerator:
        accelerator = starting.make_accelerator(precision)
        accelerator.state.device = torch.device("meta")
        monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
        return accelerator

    yield made
    AcceleratorState._reset_state()  # a real device for what comes after


def clip(samples: int, seed: int, transcript: str) -> LoadedClip:
    values = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    return LoadedClip(f"clip {seed}", values, seed, transcript, transcript[:1])


def updater_of(accelerator: Accelerator, task: Any, model: Any) -> Updater:
    model.to("meta")
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, OptimizerSection(learning_rate=1e-3)))
    return Updater(accelerator, wrapped, optimizer, task, seed=1, clip_norm=1.0)


def tokenizer(folder: Path) -> Wav2Vec2CTCTokenizer:
    path = folder / "vocab.json"
    path.write_text('{"<pad>": 0, "|": 1, "a": 2, "b": 3, "<unk>": 4}', encoding="utf-8")
    return Wav2Vec2CTCTokenizer(str(path))


def waits_of(updater: Updater, divisions: list[list[LoadedClip]]) -> list[tuple[str, str]]:
    """Of an update in so many parts, after one that made the optimizer's state."""
    parts = [inputs_of(updater.task, clips) for clips in divisions]
    with DeviceWaits():
        updater(0, parts, [0.0, 1.0])()
    with DeviceWaits() as waits:
        set_learning_rate(updater.optimizer, 2e-3)
        updater(1, parts, [0.0, 1.0])()
    return waits.seen


CLIPS = [clip(4000 + 1500 * n, n, text) for n, text in enumerate(["ab", "ba", "b", "a", "bab"])]
TASKS: dict[str, tuple[Any, Any]] = {
    "pretraining": (PretrainingTask, Wav2Vec2ForPreTraining),
    "clip labels": (ClipLabelTask, Wav2Vec2ForSequenceClassification),
    "frame labels": (FrameLabelTask, Wav2Vec2ForAudioFrameClassification),
    "speakers": (SpeakerTask, Wav2Vec2ForXVector),
    "ctc": (CTCTask, Wav2Vec2ForCTC),
    "ctc, recurrent": (CTCTask, Wav2Vec2ForCTC),
}


@pytest.mark.parametrize("division", [[CLIPS], [CLIPS[:1], CLIPS[1:4], CLIPS[4:]]], ids=["whole", "three parts"])
@pytest.mark.parametrize("name", TASKS)
def test_an_update_waits_once(name: str, division: Any, on_device: Any, tmp_path: Path) -> None:
    """However many parts it has. torch's CTC loss alone wants to know on the host how long its inputs are, in every
    forward and backward pass."""
    kind, head = TASKS[name]
    ctc_head = "recurrent" if name == "ctc, recurrent" else "linear"
    config = small_config(**EVERYTHING, num_labels=2, vocab_size=5, ctc_head=ctc_head)
    rest: dict[str, Any] = {"seed": 1}
    if kind is CTCTask:
        rest["tokenizer"] = tokenizer(tmp_path)
    elif name != "pretraining":
        rest["labels"] = ["a", "b"]
    if name == "frame labels":
        division = [[replace(one, transcript="0-0.2 a; 0.2-0.3 b") for one in part] for part in division]
    updater = updater_of(on_device(), kind(config, Wav2Vec2FeatureExtractor(), **rest), head(config))
    seen = waits_of(updater, division)
    losses = [what for what, _ in seen if what == "torch's CTC loss"]
    assert len(losses) == (2 * len(division) if kind is CTCTask else 0)
    assert len(seen) - len(losses) == 1, seen


@pytest.mark.parametrize("ema", [None, 0.999])
def test_the_loop_waits_once(
    ema: float | None, on_device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record, guards, lists of clips, the count of operations and an average of the weights ask the device for nothing
    more; a line of the log may, for its sums over processes."""
    audio = write_clips(tmp_path / "clips", [0.5, 0.6, 0.7, 0.8])
    changes: dict[str, Any] = {
        "run__updates": 100,
        "run__log_every": 3,
        "run__ema": ema,
        "data__seconds_per_batch": 2.0,
        "model__config": EVERYTHING,
    }
    run = from_dict(PretrainRun, recipe(tmp_path / "run", audio, **changes))
    monkeypatch.setattr(starting, "matmul_peak", lambda *_: 1e9)
    monkeypatch.setattr(starting, "hardware", lambda *_: "a device")
    data, accelerator = TrainingData(run.data, run.run.seed), on_device()
    model = make_model(Wav2Vec2ForPreTraining, run.model, None)[0].to("meta")
    extractor, _ = make_extractor(run.model, run.data.normalize)
    task = PretrainingTask(model.config, extractor, 1)
    with (
        held_output(run, accelerator, resume=True) as output,
        starting.started(run, accelerator, output, model, task, data, [extractor]) as loop,
    ):
        ahead = CopiedAhead(loop.updates(), accelerator.device)
        with DeviceWaits():
            loop.take(ahead, False)
        with DeviceWaits() as waits:
            loop.take(ahead, False)
    assert len(waits.seen) == 1, waits.seen
    assert loop.state.update == 2


def test_what_waits_is_counted() -> None:
    """The counter can tell: every way in which Python asks a tensor for what it holds."""
    values = torch.ones(3, device="meta")
    ways: list[Callable[[], Any]] = [
        lambda: float(values.sum()),
        lambda: bool((values > 0).any()),
        lambda: values.tolist(),
        lambda: values.cpu(),
        lambda: values.to("cpu", non_blocking=True),
        lambda: values[values > 0],
        lambda: values.nonzero(),
        lambda: torch.tensor([1.0], device="meta"),
        lambda: torch.ones(3).to("meta"),
        lambda: values.copy_(torch.ones(3)),
    ]
    for number, way in enumerate(ways):
        with DeviceWaits() as waits:
            try:
                way()
            except (NotImplementedError, RuntimeError):  # nobody can say how many there are
                assert number in (2, 5, 6)
        assert len(waits.seen) == 1, (number, waits.seen)
    with DeviceWaits() as waits:
        torch.where(values > 0, values, 0.0).add_(torch.ones(3).to("meta", non_blocking=True)).fill_(2.0)
    assert waits.seen == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_torch_says_the_same_on_a_gpu() -> None:
    """torch's own look-out for the host waiting finds nothing in an update: the one wait is for an event, which it does
    not count."""
    accelerator = starting.make_accelerator("bf16")
    config = small_config(**EVERYTHING)
    task = PretrainingTask(config, Wav2Vec2FeatureExtractor(), 1)
    model = Wav2Vec2ForPreTraining(config)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, OptimizerSection(learning_rate=1e-3)))
    updater = Updater(accelerator, wrapped, optimizer, task, 1, 1.0)
    parts = [inputs_of(task, CLIPS[:2]), inputs_of(task, CLIPS[2:])]
    updater(0, parts, [1.0])()
    with warnings.catch_warnings():  # that it may not see every way to wait
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        result = updater(1, parts, [1.0])()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result.messages == [1.0] and np.isfinite(result.gradient_norm)


# --- copies beside computing ---------------------------------------------------------------------------------------


class Streams:
    """Stands in for `torch.cuda`: writes down what is said to which stream. Copies are made on the CPU."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.now = "computing"

    def Stream(self, device: Any) -> Any:  # noqa: N802
        return "beside"

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.now = self.now, stream or self.now
        yield
        self.now = before

    def current_stream(self, device: Any) -> Any:
        def wait(other: Any) -> None:
            self.said.append(f"{self.now} waits for {other}")

        return SimpleNamespace(wait_stream=wait)


def batches(update: int, parts: int) -> list[Batch]:
    values = [{"input_values": torch.full((2, 3), 10.0 * update + part)} for part in range(parts)]
    return [Batch(update, part, parts, inputs, [], 0.0) for part, inputs in enumerate(values)]


def test_the_next_inputs_are_copied_while_the_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stream of their own, all of them before the computing one waits for it; and nothing is mixed up."""
    streams = Streams()
    monkeypatch.setattr(torch, "cuda", streams)

    def copied(x: torch.Tensor, device: torch.device) -> torch.Tensor:
        streams.said.append(f"copy {float(x[0, 0]):g} {streams.now}")
        return x

    monkeypatch.setattr(device_copies, "to_device", copied)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, _: streams.said.append(f"keep {float(x[0, 0]):g}"))
    ahead = CopiedAhead(iter([batches(0, 1), batches(1, 2)]), torch.device("cuda"))
    ahead.next()
    streams.said.append("queue update 0")
    ahead.prepare()
    streams.said.append("wait for update 0")
    ahead.prepare()  # again: nothing
    found = ahead.next()
    assert [float(one["input_values"][0, 0]) for one in found.inputs] == [10.0, 11.0]
    assert [part.update for part in found.parts] == [1, 1]
    first, then = ["copy 0 beside", "computing waits for beside", "keep 0"], ["copy 10 beside", "copy 11 beside"]
    last = ["wait for update 0", "computing waits for beside", "keep 10", "keep 11"]
    assert streams.said == [*first, "queue update 0", *then, *last]


def test_an_error_of_fetching_comes_with_its_update() -> None:
    """What was computed before it counts: it may be saved."""

    def updates() -> Iterator[list[Batch]]:
        yield batches(0, 1)
        raise OSError("the disk is gone")

    ahead = CopiedAhead(updates(), torch.device("cpu"))
    assert len(ahead.next().inputs) == 1
    ahead.prepare()
    with pytest.raises(OSError, match="the disk is gone"):
        ahead.next()


def test_on_a_cpu_nothing_is_copied() -> None:
    parts = batches(0, 2)
    found = CopiedAhead(iter([parts]), torch.device("cpu")).next()
    assert all(
        one["input_values"].data_ptr() == part.inputs["input_values"].data_ptr()
        for one, part in zip(found.inputs, parts, strict=True)
    )
    assert ToHost(torch.arange(3.0)).read().tolist() == [0.0, 1.0, 2.0]


# --- what an update computes once ----------------------------------------------------------------------------------


class Casts(torch.utils._python_dispatch.TorchDispatchMode):
    """How many tensors of 32 bits become such of 16, and of how many numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") is torch.bfloat16:
            self.numbers.append(args[0].numel())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_weights_are_cast_once_in_an_update(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each part, nor again where activations are computed again; what comes out is the same bit by bit."""
    config = small_config(**CALM)
    task = PretrainingTask(config, Wav2Vec2FeatureExtractor(), 1)
    parts = [inputs_of(task, CLIPS[n : n + 1]) for n in (2, 2, 2)]
    for once in (True, False):
        accelerator = starting.make_accelerator("bf16")
        torch.manual_seed(0)
        model = Wav2Vec2ForPreTraining(config)
        if checkpointing:
            recompute_activations(model, use_reentrant=False)
        wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, OptimizerSection(learning_rate=1e-3)))
        updater = Updater(accelerator, wrapped, optimizer, task, 1, None)
        if not once:
            monkeypatch.setattr(updater, "weights_cast_once", nullcontext)
        with Casts() as casts:
            updater(0, parts)()
        projections = 4 * config.num_hidden_layers  # of attention: no activation has so many numbers
        passes = 1 if once else len(parts) * (2 if checkpointing else 1)
        assert casts.numbers.count(config.hidden_size**2) == projections * passes
        if once:
            expected = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
