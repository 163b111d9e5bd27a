"""Folders with small checkpoints, in every format that exists, and an ear for what loading says."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from stock_twins import batch, own_config, real_logits, scatter_weights
from torch import Tensor

import wav2vec2

#: The two tensors of the positional convolution, as stock Transformers writes them today.
POSITIONAL = "encoder.pos_conv_embed.conv."
GAIN = f"{POSITIONAL}parametrizations.weight.original0"
DIRECTION = f"{POSITIONAL}parametrizations.weight.original1"

Tensors = dict[str, Tensor]


def small_model(head: str = "Wav2Vec2ForCTC", variant: str = "base", **overrides: Any) -> Any:
    """A model of ours whose every parameter is off its initial value."""
    torch.manual_seed(0)
    return scatter_weights(getattr(wav2vec2, head)(own_config(variant, **overrides)).eval())


def write(folder: Path, model: Any, change: Callable[[Tensors], object] | None = None) -> Path:
    """Save the model, with its tensors changed on the way."""
    model.save_pretrained(folder)
    if change is not None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def write_bin(folder: Path, model: Any) -> Path:
    """Save the model as `pytorch_model.bin`, as before safetensors."""
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def write_shards(folder: Path, model: Any, size: str = "20KB") -> list[Path]:
    """Save the model in several files with an index; give the files."""
    model.save_pretrained(folder, max_shard_size=size)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2 and (folder / "model.safetensors.index.json").exists()
    return shards


def drop(*names: str) -> Callable[[Tensors], object]:
    """A change that takes tensors away."""

    def change(tensors: Tensors) -> None:
        for name in names:
            del tensors[name]

    return change


def old_names(tensors: Tensors) -> None:
    """`weight_g` and `weight_v`: before torch 2.1."""
    for new, old in (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    ):
        tensors[f"wav2vec2.{POSITIONAL}{old}"] = tensors.pop(f"wav2vec2.{POSITIONAL}{new}")


def logits(model: Any) -> Tensor:
    """What the model, ours or stock's, makes of the frames of three clips."""
    values, mask = batch(torch.float32)
    assert mask is not None
    with torch.no_grad():
        output: Tensor = model(values.to(model.device), attention_mask=mask).logits
    return output.float()[real_logits(model, mask)]


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect every warning that is logged by this package, by Transformers or by what they use."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.name}: {record.getMessage()}")

    ear = Ear(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("transformers", "wav2vec2", "accelerate", "safetensors", "torch")]
    for logger in loggers:
        logger.addHandler(ear)
    try:
        yield heard
    finally:
        for logger in loggers:
            logger.removeHandler(ear)
