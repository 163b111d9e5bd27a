"""`wav2vec2 pretrain` and its like in other processes, as a launcher starts them."""

from typing import Any
from unittest.mock import patch

import torch
from pretraining_runs import signalled_at

from wav2vec2.command_line.app import app
from wav2vec2.training import starting
from wav2vec2.training.update_step import Updater


def command(*arguments: str) -> None:
    """What was typed; ends with its exit code."""
    torch.set_num_threads(1)
    with patch.object(starting, "matmul_peak", lambda *_: 1e9):
        app(list(arguments), prog_name="wav2vec2")


def stopped_command(update: int, number: int, *arguments: str) -> None:
    """The same; at the beginning of an update (counted from 0) it gets a signal."""
    with signalled_at(update, number):
        command(*arguments)


def command_out_of_memory(update: int, *arguments: str) -> None:
    """The same; from an update on there is no memory for what it needs, as the processor's allocator says it."""

    class Greedy(Updater):
        def __call__(self, now: int, *rest: Any) -> Any:
            if now >= update:
                torch.empty(2**62, dtype=torch.uint8)
            return super().__call__(now, *rest)

    with patch.object(starting, "Updater", Greedy):
        command(*arguments)
