"""Tensors of a run in parts: every process writes what it holds, and reads what it is to hold, be it as many others.

    training_state/weights/shard-00001-model-00001-of-00001.safetensors    what the first process holds of the weights
    training_state/weights/shard-00002-model-00001-of-00001.safetensors    what the second does
    training_state/optimizer/...                    of the optimizer, as `parameter/entry`
    training_state/average/...                      of the average of the weights, if there is one

It is `torch.distributed.checkpoint`, which cuts anew where the number of processes is another, and writes what several
processes have in common once. Its files are safetensors here: its own format has a pickle beside them, which runs code
when it is read. No process holds more than its part, and no tensor is put together.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import Optimizer

from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.saving.checkpoint_folders import STATE_FOLDER

WEIGHTS, AVERAGE, OPTIMIZER = (f"{STATE_FOLDER}/{name}" for name in ("weights", "average", "optimizer"))

#: Under this key of a file's metadata stands where in its tensor each piece begins.
_PLACES, _OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"

#: What torch calls safetensors' types.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}


class Pieces:
    """What the files of a folder hold of each tensor, by its name. Nothing but their headers is read for that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Of each tensor the files with a piece of it, and where in the tensor that begins.
        self.places: dict[str, list[tuple[Path, tuple[int, ...]]]] = {}
        #: The shapes of the whole tensors, and safetensors' names of their types.
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, str] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                places = json.loads((file.metadata() or {}).get(_PLACES, "{}"))
                for name in file.keys():  # noqa: SIM118
                    piece = file.get_slice(name)
                    start = tuple(places[name][_OFFSETS])
                    end = tuple(first + count for first, count in zip(start, piece.get_shape(), strict=True))
                    before = self.shapes.get(name, end)
                    self.shapes[name] = tuple(map(max, before, end))
                    self.types[name] = piece.get_dtype()
                    self.places.setdefault(name, []).append((path, start))

    def kind(self, name: str) -> str:
        """The precision and the shape of one tensor, in words."""
        return f"{_DTYPES[self.types[name]]} {self.shapes[name]}"

    def bytes_of(self, name: str) -> int:
        """Of one tensor, put together."""
        return math.prod(self.shapes[name]) * getattr(torch, _DTYPES[self.types[name]]).itemsize

    def whole(self, name: str) -> Tensor:
        """One tensor, put together."""
        made: Tensor | None = None
        for path, start in self.places[name]:
            with safe_open(path, "pt") as file:
                piece = file.get_tensor(name)
            if made is None:
                made = torch.empty(self.shapes[name], dtype=piece.dtype)
            made[tuple(slice(first, first + count) for first, count in zip(start, piece.shape, strict=True))] = piece
        assert made is not None
        return made


def write_parts(folder: Path, tensors: Mapping[str, Tensor], process: int) -> list[Path]:
    """Write this process's pieces of the tensors, and give its files, which are on the disk. All processes must call,
    and if one cannot write, all of them raise the `OSError`."""
    if tensors:
        with _plain_errors(OSError):
            writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
            save(dict(tensors), storage_writer=writer)
    return sorted(folder.glob(f"shard-{process + 1:05d}-*"))


def read_parts(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or in pieces, with those of their names. All processes must call."""
    if into:
        with _plain_errors(CheckpointError):
            load(dict(into), storage_reader=HuggingFaceStorageReader(str(folder)))


def optimizer_tensors(trained: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors as `parameter/entry`, in pieces where the parameters are. It must have nothing else."""
    found = {}
    for name, parameter in trained.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"the optimizer's {entry} of {name} is a {type(value).__name__}: it has no part to save"
                )
            found[f"{name}/{entry}"] = value.detach()
    return found


def restore_optimizer(folder: Path, trained: Mapping[str, nn.Parameter], optimizer: Optimizer) -> None:
    """Read what was written of `optimizer_tensors`; learning rates, weight decays and the like stay this run's."""
    stored = Pieces(folder)
    index = {name: number for number, name in enumerate(trained)}
    state: dict[int, dict[str, Tensor]] = {}
    empty: dict[str, Tensor] = {}
    for key, shape in stored.shapes.items():
        name, _, entry = key.rpartition("/")
        if name not in trained:
            raise CheckpointError(f"{folder}: holds the state of {name}, which this run does not train")
        parameter = trained[name]
        like = shape == tuple(parameter.shape)
        empty[key] = torch.zeros_like(parameter.detach()) if like else torch.zeros(shape)
        state.setdefault(index[name], {})[entry] = empty[key]
    read_parts(folder, empty)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@contextmanager
def _plain_errors(kind: Callable[[str], Exception]) -> Iterator[None]:
    """What `torch.distributed.checkpoint` raises on all processes is no `Exception`, and says where each was."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process is as welcome
            yield
    except CheckpointException as failure:
        told = {f"{type(error).__name__}: {error}" for error, _ in failure.failures.values()}
        raise kind("; ".join(sorted(told))) from failure
