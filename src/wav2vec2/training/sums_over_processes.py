"""Sums over the parts of an update and over the processes of a run."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

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


def as_numbers(accelerator: Accelerator, sums: Sums) -> dict[str, Any]:
    """Sums over all processes as Python numbers, in one exchange and with one wait for the device."""
    keys = sorted(sums)
    flat = over_processes(accelerator, torch.cat([sums[key].reshape(-1) for key in keys])).cpu()
    numbers, first = {}, 0
    for key in keys:
        size = sums[key].numel()
        numbers[key] = flat[first : first + size].view(sums[key].shape).tolist()
        first += size
    return numbers


def add_numbers(total: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The same for Python numbers, and for lists of numbers within lists."""
    return total | {key: _plus(total[key], more[key]) if key in total else more[key] for key in more}


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, list):
        return [_plus(a, b) for a, b in zip(left, right, strict=True)]
    return left + right
