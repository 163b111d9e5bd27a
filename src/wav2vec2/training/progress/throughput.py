"""How fast a run is, and how fast it could be: operations, the machine's own matrix product, memory, time spent.

Shapes: B batch, S samples, T frames, C channels.
"""

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import conv_output_length

#: Size of the square matrices whose product is timed: large enough that nothing but arithmetic counts.
_PEAK_SIZES = {"cpu": 2048, "cuda": 8192}

#: So many products are given to an accelerator at once, so that it never waits for the host.
_QUEUED = 8


def frame_operations(config: Wav2Vec2Config, samples: int) -> tuple[float, float]:
    """Operations (a multiplication and an addition are two) in the products of one clip's forward pass.

    The first number is that of the convolutions, the second that of the Transformer with all its layers. Heads and
    losses are left out: in BASE they are below one percent.
    """
    length, convolutions = encoder_operations(config, samples)
    width, channels = config.hidden_size, config.conv_dim[-1]
    layer = 4 * width * width + 2 * width * config.intermediate_size + 2 * length * width
    positions = width * width // config.num_conv_pos_embedding_groups * config.num_conv_pos_embeddings
    transformer = length * (config.num_hidden_layers * layer + positions + channels * width)
    return convolutions, 2.0 * transformer


def encoder_operations(config: Wav2Vec2Config | Wav2VecConfig, samples: int) -> tuple[int, float]:
    """The frames that the convolutions of an encoder make of a clip, and the operations in their products."""
    length, channels, operations = samples, 1, 0.0
    for dim, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = conv_output_length(length, (kernel,), (stride,))
        operations += 2.0 * length * kernel * channels * dim
        channels = dim
    return length, operations


def prediction_operations(config: Wav2VecConfig, samples: int) -> float:
    """Operations in the products of one clip's forward pass through wav2vec of 2019: encoder, context network, the
    linear maps of its predictions and their comparison with all candidates."""
    frames, operations = encoder_operations(config, samples)
    width, features = config.context_dim[-1], config.conv_dim[-1]
    inputs = (features, *config.context_dim[:-1])
    context = sum(k * n * m for k, n, m in zip(config.context_kernel, inputs, config.context_dim, strict=True))
    predictions = config.num_prediction_steps * features * (width + config.num_negatives + 1)
    return operations + 2.0 * frames * (context + predictions)


def update_operations(
    config: Wav2Vec2Config,
    samples: Iterable[int],
    trains_convolutions: bool = True,
    uses_transformer: bool = True,
    convolved: Iterable[int] | None = None,
) -> float:
    """Operations of the forward and backward passes over clips of so many samples, padding included.

    Backward has two products for every one of forward. A layer that is dropped costs nothing; what gradient
    checkpointing computes twice counts once; convolutions that are not trained have no backward pass. Where their
    output is kept, only clips of `convolved` samples go through them.
    """
    lengths = Counter(samples)
    total = 0.0
    for length, clips in lengths.items():
        total += clips * 3 * (1 - config.layerdrop) * frame_operations(config, length)[1] * uses_transformer
    for length, clips in (lengths if convolved is None else Counter(convolved)).items():
        total += clips * (3 if trains_convolutions else 1) * frame_operations(config, length)[0]
    return total


def matmul_peak(dtype: torch.dtype, device: torch.device | str = "cpu", seconds: float = 1.0) -> float:
    """Operations per second of a large square matrix product, with the threads that are set: the median of about
    `seconds` seconds, of three measurements at least."""
    device = torch.device(device)
    size = 512
    while _product_seconds(size, dtype, device) < seconds / 24 and size < _PEAK_SIZES.get(device.type, 4096):
        size *= 2  # which takes eight times as long; a processor without products in this precision stays small
    taken: list[float] = []
    products = 1 if device.type == "cpu" else _QUEUED
    while len(taken) < 3 or products * sum(taken) < seconds:
        taken.append(_product_seconds(size, dtype, device, products, warm=True))
    return float(2 * size**3 / statistics.median(taken))


def _product_seconds(
    size: int, dtype: torch.dtype, device: torch.device, products: int = 1, warm: bool = False
) -> float:
    """How long one of so many products takes, one after the other. Unless it is `warm`, another one goes before: the
    first of a size may have to load a library and to choose a kernel, for longer than thousands of products take."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    if not warm:
        torch.matmul(left, right)
    wait_for(device)
    start = _moment(device)
    for _ in range(products):
        torch.matmul(left, right)
    if device.type != "cuda":
        wait_for(device)
    end = _moment(device)
    wait_for(device)
    return _seconds_between(start, end) / products


def _moment(device: torch.device, clock: Callable[[], float] | None = None) -> Any:
    """Now. On CUDA, when the device has done what it was given: nobody waits for that, and it is by the device's own
    clock, so what the host does meanwhile takes no time."""
    if device.type != "cuda":
        return (clock or time.perf_counter)()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds_between(start: Any, end: Any) -> float:
    """From one moment to another; on CUDA both must have come."""
    return float(end - start) if isinstance(start, float) else float(start.elapsed_time(end)) / 1000


def wait_for(device: torch.device) -> None:
    """Let an accelerator finish what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak_memory(device: torch.device | str = "cpu") -> int:
    """The most bytes this process has held: allocated on an accelerator, resident otherwise."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")  # unlike getrusage, this starts anew with the program
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        if found is not None:
            return int(found[1]) * 1024
    return _peak_by_getrusage()


def larger_batches(device: torch.device, seconds_per_batch: float, parts: int) -> str | None:
    """What to tell somebody whose updates are cut into more `parts` than a GPU's memory asks for; None if they are not.
    Weights are counted as if they grew with the audio, so what is proposed fits."""
    if device.type != "cuda" or parts < 2:
        return None
    held, there = torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    times = min(int(0.7 * there / held), parts)
    if times < 2:
        return None
    return (
        f"micro-batches of {seconds_per_batch:g} s took {held / 2**30:.0f} of the GPU's {there / 2**30:.0f} GiB: "
        f"data.seconds_per_batch={times * seconds_per_batch:g} would need fewer, and each costs the host the same"
    )


def _peak_by_getrusage() -> int:
    """Where there is no `/proc`; kilobytes, but bytes on macOS; 0 where the system does not say."""
    import sys

    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


class Meter:
    """What the updates between two lines of the log cost: operations, time, waiting, memory.

    >>> now = iter([0.0, 1.0, 2.0, 10.0, 10.0])
    >>> meter = Meter(peak=50.0, clock=lambda: next(now))
    >>> with meter.waiting():
    ...     pass  # for the next batch, from 1 s to 2 s
    >>> meter.add(operations=100.0)
    >>> figures = meter.figures()
    >>> [figures[name] for name in ("wall_seconds", "data_wait_share", "peak_fraction")]
    [10.0, 0.1, 0.2]
    """

    def __init__(
        self,
        peak: float | None = None,
        device: torch.device | str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`peak` is what `matmul_peak` measured on `device`, None if the share of it is of no interest."""
        self.peak, self.device, self._clock = peak, torch.device(device), clock
        self._begin(clock())

    def _begin(self, now: float) -> None:
        self._start = now
        self._waits: list[tuple[Any, Any]] = []
        self._operations = self._audio = 0.0
        self._clips: list[float] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around fetching a batch: the time in here is time without work. On CUDA only what is left of it when the
        device has done what it was given before."""
        start = _moment(self.device, self._clock)
        try:
            yield
        finally:
            self._waits.append((start, _moment(self.device, self._clock)))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around what is computed inside of `waiting`. CUDA does it beside what it was given before, and waits only for
        what is left."""
        start = self._clock()
        try:
            yield
        finally:
            if self.device.type != "cuda":
                self._waits.append((self._clock(), start))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training, such as an evaluation or a checkpoint: the time in here does not count."""
        start = self._clock()
        try:
            yield
        finally:
            self._start += self._clock() - start

    def add(self, operations: float, audio_seconds: float = 0.0) -> None:
        """Count the operations of a batch on this process, and its audio over all of them."""
        self._operations += operations
        self._audio += audio_seconds

    def count(self, clips: int, convolved: int) -> None:
        """Count clips of this process, where the convolutions' output is kept, and those whose output was not."""
        before, kept = self._clips or (0, 0)
        self._clips = [before + clips, kept + clips - convolved]

    def figures(self, sum_over_processes: Callable[[list[float]], list[float]] | None = None) -> dict[str, float]:
        """What the log tells of the cost of the updates since the last line; the meter then starts anew.

        `sum_over_processes` adds a list of numbers up over all processes, so that shares are means over them.
        """
        wait_for(self.device)
        now = self._clock()
        waited = sum(_seconds_between(*wait) for wait in self._waits)
        sums = [self._operations, waited, 1.0, *self._clips]
        if sum_over_processes is not None:
            sums = sum_over_processes(sums)
        operations, waited, processes, *counted = sums
        elapsed = max(now - self._start, 1e-9)
        figures = {
            "wall_seconds": elapsed,
            "audio_seconds_per_second": self._audio / elapsed,
            "data_wait_share": waited / (elapsed * processes),
            "peak_memory_gib": peak_memory(self.device) / 2**30,
        }
        if self.peak:
            figures["peak_fraction"] = operations / (elapsed * self.peak * processes)
        if counted:
            clips, kept = counted
            figures["kept_share"] = kept / max(clips, 1.0)
        self._begin(now)
        return figures
