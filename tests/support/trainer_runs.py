"""A few updates through `transformers.Trainer`, however their batch is divided; a new process finds them here."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recognition_checkpoints import TOKENS, processor
from small_models import CALM, small_config
from torch.multiprocessing.spawn import spawn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments
from two_processes import PROCESSES, QUICK, free_port

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.training.transformers_trainer import CTCCollator, UpdateCallback

UPDATES, BATCH, RATE, SEED = 5, 8, 0.05, 7


def make_model(**overrides: Any) -> Wav2Vec2ForCTC:
    """No dropout, no masks, but LayerDrop: half of the layers, by the update."""
    torch.manual_seed(0)
    settings = CALM | QUICK | {"mask_time_prob": 0.0, "layerdrop": 0.5, "vocab_size": len(TOKENS)}
    return Wav2Vec2ForCTC(small_config(**(settings | overrides)))


def make_examples(count: int = UPDATES * BATCH) -> list[dict[str, Any]]:
    """Clips of different lengths with one to seven letters."""
    generator = np.random.default_rng(0)
    examples = []
    for number in range(count):
        audio = generator.standard_normal(3200 + 320 * (number * 7 % 11)).astype(np.float32)
        text = "".join(generator.choice(list("abcdefgh"), 1 + number * 5 % 7))
        examples.append({"audio": audio, "text": text})
    return examples


class InOrder(Trainer):  # type: ignore[misc]
    """Takes examples as they come."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return SequentialSampler(make_examples())


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    """Plain SGD, whose steps are as long as the gradient: a loss of the wrong scale shows."""
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "optim": "sgd",
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "max_steps": UPDATES,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "seed": SEED,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**(given | more))


def train(folder: Path, batch: int, accumulation: int) -> dict[str, Any]:
    """Weights and logged losses after the updates."""
    model = make_model()
    trainer = InOrder(
        model=model,
        args=arguments(folder, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation),
        train_dataset=make_examples(),
        data_collator=CTCCollator(processor()),
        callbacks=[UpdateCallback()],
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"losses": losses, "weights": {name: p.detach().clone() for name, p in model.named_parameters()}}


def train_in_two_processes(folder: Path, divisions: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Each division (clips per process and part, parts) over two processes; what the first of them came to."""
    spawn(_enter, (free_port(), folder, divisions), nprocs=PROCESSES)
    return [torch.load(folder / f"{number}.pt") for number in range(len(divisions))]


def _enter(rank: int, port: int, folder: Path, divisions: list[tuple[int, int]]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(PROCESSES)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    os.environ["OMP_NUM_THREADS"] = "1"  # or Accelerate gives each process both cores in the middle of its work
    torch.set_num_threads(1)
    for number, (batch, accumulation) in enumerate(divisions):
        result = train(folder, batch, accumulation)
        if rank == 0:
            torch.save(result, folder / f"{number}.pt")
    torch.distributed.destroy_process_group()
