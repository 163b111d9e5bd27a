"""What one process holds of BASE under DDP and divided over processes (FSDP2), on CPUs, in the wrappers of a run.

    python benchmarks/sharded_memory.py

Each process makes the model as a run does, and takes one update in two parts of 2 s of noise, in fp32 with recomputed
activations. "held" are the bytes of weights, gradients and optimizer state in the process that has most. "At most" is
the most memory that was a process's own and no other's (Linux), less what it had before: until the model is divided
("begins"), and until the update is done; of the first process, and of the one that has most among the others.
"""

import os
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from socket import socket
from typing import Any

import torch

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.configuration import presets
from wav2vec2.training.model_making import make_model
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.sharding import held_bytes
from wav2vec2.training.starting import make_accelerator, prepare

GIB = 2**30


def private_bytes() -> int:
    """Of this process alone."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private"))


def most_while(work: Callable[[], None]) -> int:
    """The most private memory while something is done, looked at twenty times a second."""
    found, over = [private_bytes()], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            found.append(private_bytes())

    watching = threading.Thread(target=look)
    watching.start()
    work()
    over.set()
    watching.join()
    return max([*found, private_bytes()])


def bytes_of(tensor: Any) -> int:
    """What this process has of a tensor, which may be in pieces."""
    return int((tensor.to_local() if hasattr(tensor, "to_local") else tensor).nbytes)


def work_of(rank: int, processes: int, shards: int, port: int, answers: Any) -> None:
    """One update of one process."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "1"}
    torch.set_num_threads(1)
    asked = [
        "data.train.0.path=none",
        "model.config.layerdrop=0",
        "run.gradient_checkpointing=true",
        f"run.shard_over={shards}",
    ]
    run = read_run(PretrainRun, "base_960h", asked)
    accelerator = make_accelerator("fp32", shards)
    before, held = private_bytes(), 0
    made: Any = None

    def begin() -> None:
        nonlocal made
        model, _, _ = make_model(Wav2Vec2ForPreTraining, run.model, None)
        made = prepare(accelerator, model.train(), run)

    def update() -> None:
        nonlocal held
        wrapped, optimizer = made
        accelerator.gradient_accumulation_steps = 2
        for part in range(2):
            with accelerator.accumulate(wrapped):
                output = wrapped(torch.randn(1, 32000, generator=torch.Generator().manual_seed(part)))
                accelerator.backward(output.loss / output.num_masked)
        optimizer.step()
        bare = accelerator.unwrap_model(wrapped)
        states = [value for one in optimizer.optimizer.state.values() for value in one.values()]
        gradients = [one.grad for one in bare.parameters() if one.grad is not None]
        held = sum(map(bytes_of, [*bare.parameters(), *gradients, *states]))

    at_first = most_while(begin)
    later = most_while(update)
    answers.put((rank, held, at_first - before, max(at_first, later) - before))
    accelerator.wait_for_everyone()
    torch.distributed.destroy_process_group()


def measure(processes: int, shards: int) -> list[int]:
    """The most that any of so many processes held; had while it began, the first and the others; and had in all."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = get_context("fork")
    answers = context.Queue()
    arguments = [(rank, processes, shards, port, answers) for rank in range(processes)]
    started = [context.Process(target=work_of, args=one) for one in arguments]
    for process in started:
        process.start()
    (_, *first), *others = sorted(answers.get() for _ in started)
    for process in started:
        process.join()
    _, held, begun, most = map(max, zip(*others, strict=True))
    return [max(first[0], held), first[1], begun, first[2], most]


def main() -> None:
    """The table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    with torch.device("meta"):
        model = Wav2Vec2ForPreTraining(presets.base())
    print(
        "| processes | | held, GiB | computed, GiB | begins at most: the first | the others | at most: the first "
        "| the others |\n|---|---|---|---|---|---|---|---|"
    )
    for processes in parser.parse_args().processes:
        for name, shards in (("DDP", 1), ("FSDP2", processes)):
            held, *most = measure(processes, shards)
            computed = held_bytes(model, shards)[0]
            columns = " | ".join(f"{one / GIB:.2f}" for one in most)
            print(f"| {processes} | {name} | {held / GIB:.3f} | {computed / GIB:.3f} | {columns} |", flush=True)


if __name__ == "__main__":
    main()
