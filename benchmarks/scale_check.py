"""The simulator's way of adding up an update, checked on this machine: 1, 2, 4 and 8 processes, gloo, few cores.

An update of a fixed number of clips is divided among the processes, each on one thread. One process alone, with all
clips and with an eighth of them, gives what an update costs by itself and what a clip costs; two processes that do
nothing but sum gradients give what a sum costs; n processes that have nothing to do with each other, each with an
eighth of the clips, give how much more a process needs beside others than alone: they share cores, caches and memory.
From these figures follow all others, for n processes:

    processor seconds of a process = (of an update + clips / n * of a clip) * beside n + 2 (n - 1) / n * of a sum
    seconds by the clock           = n * that / min(n, cores)

since processes beyond the cores share them. What is compared is the time of processors, which other programs at work on
the machine change little; seconds by the clock stand beside it where the machine is quiet.
"""

import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.configuration import presets

#: An update: so many clips of so many seconds; a process of eight has two.
CLIPS, SECONDS, RATE = 16, 2.0, 16_000
PROCESSES = (1, 2, 4, 8)

#: Updates that are measured of each run, after one that warms up.
UPDATES = 3


@dataclass(frozen=True)
class Costs:
    """What an update consists of."""

    #: Processor seconds of an update by itself, of a clip in it, and of summing gradients between two processes.
    update: float
    clip: float
    sum: float
    #: How many times what it needs alone a process needs beside others, by the number of processes.
    beside: Mapping[int, float] = field(default_factory=dict)

    def of_process(self, processes: int, clips: int = CLIPS) -> float:
        """Processor seconds of each process for an update of so many clips."""
        passed = 2 * (processes - 1) / processes
        computing = (self.update + clips / processes * self.clip) * self.beside.get(processes, 1.0)
        return computing + passed * self.sum

    def by_the_clock(self, processes: int, cores: int) -> float:
        """Seconds of an update, where nothing else is at work."""
        return processes * self.of_process(processes) / min(processes, cores)


def costs_of(whole: float, eighth: float, sum_of_two: float, beside: Mapping[int, float]) -> Costs:
    """From the processor seconds of an update in one process, with all clips and with an eighth of them."""
    clip = (whole - eighth) / (CLIPS - CLIPS // 8)
    return Costs(eighth - CLIPS // 8 * clip, clip, sum_of_two, beside)


def training(clips: int, processes: int) -> Callable[[int], None]:
    """What a process does for an update of pretraining."""
    torch.manual_seed(0)
    model: Any = Wav2Vec2ForPreTraining(presets.tiny(layerdrop=0.0)).train()
    wrapped = DistributedDataParallel(model) if processes > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    audio = torch.randn(clips, round(SECONDS * RATE))

    def update(number: int) -> None:
        model.set_update(number)
        output = wrapped(audio)
        (output.loss / output.num_masked).backward()
        optimizer.step()
        optimizer.zero_grad()

    return update


def unrelated(clips: int, processes: int) -> Callable[[int], None]:
    """The same for itself, whoever else is at work."""
    return training(clips, 1)


def summing(clips: int, processes: int) -> Callable[[int], None]:
    """Nothing but the sum of as many gradients as that model has."""
    with torch.device("meta"):
        count = sum(one.numel() for one in Wav2Vec2ForPreTraining(presets.tiny()).parameters())
    gradients = torch.ones(count)
    return lambda number: dist.all_reduce(gradients) and None


Work = Callable[[int, int], Callable[[int], None]]


def process(work: Work, clips: int, processes: int, rank: int, port: int, found: "SimpleQueue[Any]") -> None:
    """One of the processes: processor seconds and seconds by the clock of an update, medians."""
    torch.set_num_threads(1)
    if processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=processes)
    update = work(clips, processes)
    update(0)
    if processes > 1:
        dist.barrier()  # or some would be done while others begin
    taken = []
    for number in range(1, UPDATES + 1):
        begun = time.process_time(), time.perf_counter()
        update(number)
        taken.append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    found.put(tuple(map(statistics.median, zip(*taken, strict=True))))
    if processes > 1:
        dist.destroy_process_group()


def measured(work: Work, clips: int, processes: int) -> tuple[float, float]:
    """Processor seconds of a process (the mean) and seconds by the clock of an update with `clips` in each of them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = multiprocessing.get_context("fork")  # everything is imported already
    found = context.SimpleQueue()
    started = [
        context.Process(target=process, args=(work, clips, processes, rank, port, found)) for rank in range(processes)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join()
    if any(one.exitcode for one in started):
        raise RuntimeError(f"a process of {processes} ended with {[one.exitcode for one in started]}")
    figures = [found.get() for _ in started]
    return statistics.mean(one[0] for one in figures), max(one[1] for one in figures)


def check(rounds: int) -> list[str]:
    """The table: each round calibrates anew and predicts its own figures; medians of the rounds."""
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    predicted: dict[int, list[float]] = {number: [] for number in PROCESSES}
    came: dict[int, list[float]] = {number: [] for number in PROCESSES}
    clock: dict[int, list[tuple[float, float]]] = {number: [] for number in PROCESSES}
    beside: list[Mapping[int, float]] = []
    for _ in range(rounds):
        eighth, sum_of_two = measured(training, CLIPS // 8, 1)[0], measured(summing, 0, 2)[0]
        together = {number: measured(unrelated, CLIPS // 8, number)[0] / eighth for number in PROCESSES[1:]}
        figures = {number: measured(training, CLIPS // number, number) for number in PROCESSES}
        costs = costs_of(figures[1][0], eighth, sum_of_two, together)
        beside.append(together)
        for number, (processor, seconds) in figures.items():
            predicted[number].append(costs.of_process(number))
            came[number].append(processor)
            clock[number].append((costs.by_the_clock(number, cores), seconds))
    ratios = [f"{number}: {statistics.median(one[number] for one in beside):.2f}" for number in PROCESSES[1:]]
    return [*lines_of(predicted, came, clock, cores), "", "beside as many that are unrelated, " + ", ".join(ratios)]


def lines_of(
    predicted: dict[int, list[float]],
    came: dict[int, list[float]],
    clock: dict[int, list[tuple[float, float]]],
    cores: int,
) -> list[str]:
    """The table, and how busy the machine was."""
    busy = statistics.median(seconds / processor for (processor, seconds) in clock[1])
    lines = [
        f"updates of {CLIPS} x {SECONDS:g} s, preset tiny, float32, {cores} cores, medians of {len(came[1])} rounds; "
        f"one process alone took {busy:.2f} s by the clock for each of its processor",
        "",
        "| processes | processor seconds of each, predicted | came | ratio, range | by the clock, predicted | came |",
        "|---|---|---|---|---|---|",
    ]
    for number in PROCESSES:
        ratios = [one / other for one, other in zip(came[number], predicted[number], strict=True)]
        by_clock = [statistics.median(column) for column in zip(*clock[number], strict=True)]
        lines.append(
            f"| {number} | {statistics.median(predicted[number]):.3f} | {statistics.median(came[number]):.3f} "
            f"| {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f} "
            f"| {by_clock[0]:.2f} s | {by_clock[1]:.2f} s |"
        )
    return lines
