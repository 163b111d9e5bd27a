"""Sums over the parts of an update and over the processes of a run."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from wav2vec2.training.device_copies import ToHost
from wav2vec2.training.tasks.task import Sums


def add(total: Sums, part: Mapping[str, Tensor]) -> Sums:
    """Two records of sums as one: the values of each name are added. An empty total takes over the part."""
    return {key: total[key] + part[key] for key in part} if total else dict(part)


def over_processes(accelerator: Accelerator, tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if accelerator.num_processes == 1:
        return tensor
    summed: Tensor = accelerator.reduce(tensor, reduction="sum")
    return summed


def summed(accelerator: Accelerator, sums: Sums) -> Sums:
    """Sums over all processes, in one exchange; they stay on the device."""
    names = sorted(sums)
    together = over_processes(accelerator, torch.cat([sums[name].reshape(-1) for name in names]))
    pieces = together.split([sums[name].numel() for name in names])
    return {name: piece.view(sums[name].shape) for name, piece in zip(names, pieces, strict=True)}


class NumbersOnTheirWay:
    """Tensors of the device that become Python numbers and lists, with one wait for the device, when they are read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.flat = ToHost(torch.cat([tensor.reshape(-1) for tensor in tensors.values()]))

    def read(self) -> dict[str, Any]:
        """What they are, by their names."""
        pieces = self.flat.read().split([shape.numel() for shape in self.shapes.values()])
        return {
            name: piece.view(shape).tolist() for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


def as_numbers(accelerator: Accelerator, sums: Sums) -> dict[str, Any]:
    """Sums over all processes as Python numbers, now."""
    return NumbersOnTheirWay(summed(accelerator, sums)).read()


def add_numbers(total: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The same for Python numbers, and for lists of numbers within lists."""
    return total | {key: _plus(total[key], more[key]) if key in total else more[key] for key in more}


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, list):
        return [_plus(a, b) for a, b in zip(left, right, strict=True)]
    return left + right
