"""Operations against torch's own counter; the meter against sums by hand; peaks against what was really done."""

import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_models import CALM, small_config
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from wav2vec2 import Wav2Vec2Config, Wav2Vec2ForPreTraining, Wav2Vec2Model
from wav2vec2.baselines import Wav2VecForPreTraining
from wav2vec2.baselines import presets as ancestors
from wav2vec2.configuration import presets
from wav2vec2.training.progress import throughput
from wav2vec2.training.progress.throughput import (
    Meter,
    frame_operations,
    matmul_peak,
    peak_memory,
    prediction_operations,
    update_operations,
)


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("samples", [4000, 32000])
def test_operations_are_those_that_torch_counts(architecture: str, samples: int) -> None:
    # The first convolution's fused norm has products of its own, which are not counted: they are few in real sizes.
    config = small_config(architecture, **CALM, attn_implementation="eager", padding_invariant_norm=False)
    model = Wav2Vec2Model(config).eval()
    with FlopCounterMode(display=False) as counter:  # it does not know the product that is used without gradients
        model(torch.randn(1, samples))
    # The positional convolution makes one frame more than it keeps.
    assert sum(frame_operations(config, samples)) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("samples", [4000, 32000])
def test_operations_of_wav2vec_2019_are_those_that_torch_counts(samples: int) -> None:
    config = ancestors.wav2vec_tiny(context_dim=(32, 32, 48, 16))
    model = Wav2VecForPreTraining(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, samples))
    skips = (
        2 * int(model._get_feat_extract_output_lengths(samples)) * (64 * 32 + 32 * 48 + 48 * 16)
    )  # are few in real sizes
    assert prediction_operations(config, samples) == pytest.approx(counter.get_total_flops() - skips, rel=0.01)


def test_a_step_of_base_has_the_operations_of_its_published_shape() -> None:
    """A second of BASE: convolutions 7 x 512, 49 frames, 12 layers of 768; forward and backward."""
    convolutions, length, channels = 0, 16000, 1
    for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True):
        length = (length - kernel) // stride + 1
        convolutions += 2 * length * 512 * channels * kernel
        channels = 512
    layers = 12 * 2 * 49 * (4 * 768**2 + 2 * 768 * 3072 + 2 * 49 * 768)
    rest = 2 * 49 * (512 * 768 + 128 * 768 * 768 // 16)
    whole = update_operations(presets.base(layerdrop=0.0), [16000, 16000])
    assert whole == 2 * 3 * (convolutions + layers + rest)
    frozen = update_operations(presets.base(layerdrop=0.5), [16000], trains_convolutions=False)
    assert frozen == convolutions + 3 * (layers + rest) / 2


def conv_backward_operations(
    grad_out: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, wanted: list[bool], **_: Any,
) -> int:  # fmt: skip
    """Of each gradient as many as forward: torch's own formula takes the groups of a convolution for one."""
    return int(conv_flop_count(x, weight, grad_out, transposed)) * (wanted[0] + wanted[1])


@pytest.mark.parametrize(("preset", "tolerance"), [("tiny", 0.04), ("base", 0.02), ("large_lv60k", 0.02)])
def test_a_training_step_has_the_operations_that_torch_counts(preset: str, tolerance: float) -> None:
    """Forward and backward of pretraining in real sizes, without computing them; heads and loss, which are not counted,
    are what the tolerance is for."""
    config = getattr(presets, preset)(layerdrop=0.0)
    config._attn_implementation = "eager"  # products, for the counter to see
    with torch.device("meta"):
        model = Wav2Vec2ForPreTraining(config).train()
    clips = torch.zeros(2, 160_000, device="meta")
    formula = {torch.ops.aten.convolution_backward: conv_backward_operations}
    with FlopCounterMode(display=False, custom_mapping=formula) as counter:
        model(clips, clip_seeds=torch.zeros(2, dtype=torch.long, device="meta")).loss.backward()
    assert update_operations(config, [160_000] * 2) == pytest.approx(counter.get_total_flops(), rel=tolerance)


def test_a_clip_without_a_frame_costs_nothing() -> None:
    assert update_operations(Wav2Vec2Config(), [0]) == 0


def test_the_peak_is_a_rate_that_a_product_really_reaches() -> None:
    peak = matmul_peak(torch.float32, seconds=0.05)
    left = torch.randn(2048, 2048)
    start = time.perf_counter()
    torch.matmul(left, left)
    rate = 2 * 2048**3 / (time.perf_counter() - start)
    assert 0.1 < rate / peak < 10  # other programs may be running


def test_the_peak_is_not_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first product of each size loads a library or chooses a kernel: that is no arithmetic, and no reason to
    measure a small product. By a clock of a device that is as fast as a large accelerator."""
    now, seen = [0.0], list[int]()

    def product(left: torch.Tensor, right: torch.Tensor) -> None:
        size = len(left)
        now[0] += 2 * size**3 / 785e12 + (0 if size in seen else 0.5)
        seen.append(size)

    monkeypatch.setattr(torch, "randn", lambda rows, columns, device: torch.empty(rows, 1))
    monkeypatch.setattr(torch, "matmul", product)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert matmul_peak(torch.float32, seconds=0.01) == pytest.approx(785e12)
    assert max(seen) == 2048


class Device:
    """A GPU's queue, and the host's clock: work begins when it is given or when the device gets there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.done = 0.0
        monkeypatch.setattr(torch.cuda, "Event", partial(Event, self))
        monkeypatch.setattr(throughput, "wait_for", self.wait)

    def give(self, seconds: float) -> None:
        self.now += 20e-6
        self.done = max(self.done, self.now) + seconds

    def wait(self, *_: Any) -> None:
        self.now = max(self.now, self.done) + 5e-3  # however late the host learns of it


class Event:
    """`torch.cuda.Event` on such a device."""

    def __init__(self, device: Device, enable_timing: bool) -> None:
        assert enable_timing
        self.device = device

    def record(self) -> None:
        self.at = max(self.device.now, self.device.done)

    def elapsed_time(self, end: "Event") -> float:
        return 1000 * (end.at - self.at)


def test_the_peak_is_by_the_clock_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that learns late that the device is done makes it no slower."""
    device = Device(monkeypatch)
    monkeypatch.setattr(torch, "randn", lambda rows, columns, device: torch.empty(rows, 1))
    monkeypatch.setattr(torch, "matmul", lambda left, right: device.give(2 * len(left) ** 3 / 785e12))
    assert matmul_peak(torch.float32, "cuda", seconds=0.1) == pytest.approx(785e12, rel=0.005)


def test_waiting_while_the_device_computes_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3 s for a batch, during which the device had still 5 to compute, nothing; of the next 4 s, two."""
    device = Device(monkeypatch)
    meter = Meter(device="cuda", clock=lambda: device.now)
    monkeypatch.setattr(throughput, "peak_memory", lambda _: 0)
    device.give(5.0)
    with meter.waiting():
        device.now += 3.0
    with meter.waiting():
        device.now += 4.0
    device.give(1.0)
    device.now = 10.0 - 5e-3
    figures = meter.figures()
    assert figures["wall_seconds"] == pytest.approx(10.0)
    assert figures["data_wait_share"] == pytest.approx(0.2, abs=1e-4)


@pytest.mark.slow
def test_peak_memory_grows_by_what_is_held() -> None:
    before = peak_memory()
    assert before > 2**20
    held = torch.ones(before // 4 + 2**24)  # more than has ever been held, in bytes, at once
    after = peak_memory()
    assert after - before >= 2**25
    del held
    assert peak_memory() == pytest.approx(after, rel=0.01)  # the kernel counts in batches


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_adds_up_and_starts_anew() -> None:
    clock = Clock()
    meter = Meter(peak=1000.0, clock=clock)
    for _ in range(4):
        with meter.waiting():
            clock.now += 0.5
        meter.add(2500.0, audio_seconds=20.0)
        clock.now += 1.5
    with meter.paused():
        clock.now += 60.0
    figures = meter.figures()
    assert figures.pop("peak_memory_gib") == pytest.approx(peak_memory() / 2**30)
    rates = {"audio_seconds_per_second": 10.0, "peak_fraction": 1.25}
    assert figures == rates | {"wall_seconds": 8.0, "data_wait_share": 0.25}
    clock.now += 10.0
    meter.add(5000.0)
    again = meter.figures()
    assert [again[name] for name in ("wall_seconds", "data_wait_share", "peak_fraction")] == [10.0, 0.0, 0.5]


def test_shares_are_means_over_processes() -> None:
    """Two processes: the other one does as many operations, and never waits."""
    clock = Clock()
    meter = Meter(peak=100.0, clock=clock)
    with meter.waiting():
        clock.now += 1.0
    meter.add(200.0)
    clock.now += 3.0
    figures = meter.figures(lambda mine: [a + b for a, b in zip(mine, [200.0, 0.0, 1.0], strict=True)])
    assert figures["data_wait_share"] == 0.125
    assert figures["peak_fraction"] == 0.5


def test_a_meter_that_saw_nothing_divides_by_nothing() -> None:
    figures = Meter(clock=Clock()).figures()
    assert figures["data_wait_share"] == 0.0
    assert "peak_fraction" not in figures


@pytest.mark.parametrize(("held", "parts", "proposed"), [(9, 7, 1750), (30, 7, 750), (60, 7, None), (9, 1, None)])
def test_a_gpu_that_is_nearly_empty_is_told_of(
    held: int, parts: int, proposed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In multiples of what a micro-batch took, no more than an update has, within seven tenths of the memory."""
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: held * 2**30)
    properties = SimpleNamespace(total_memory=139 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    told = throughput.larger_batches(torch.device("cuda"), 250.0, parts)
    assert told is None if proposed is None else told is not None and f"data.seconds_per_batch={proposed} " in told
    assert throughput.larger_batches(torch.device("cpu"), 250.0, parts) is None
