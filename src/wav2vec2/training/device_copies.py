"""Copies between the host and an accelerator that neither of them waits for.

A host that waits has nothing queued when the device is done, and the device stands still until it has. So the inputs of
the next update are copied while the device computes this one, and figures are read once in an update, when they are
there. On a CPU there is nothing to copy, and all of it is done at once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec2.training.data.batch_loading import Batch
from wav2vec2.training.tasks.task import Inputs


class UpdateInputs(NamedTuple):
    """The `parts` of an update as they are on the host, and the `inputs` of each on the device."""

    parts: list[Batch]
    inputs: list[Inputs]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device, in the order of what is queued there. The host does not wait: what it copies from is
    memory that the device reads by itself, and that is not used again before it has."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device, non_blocking=True)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


class ToHost:
    """A tensor of the device on its way to the host. What is queued on the device later is not waited for."""

    def __init__(self, tensor: Tensor) -> None:
        self.arrived: torch.cuda.Event | None = None
        self.tensor = tensor.to("cpu", non_blocking=tensor.is_cuda)  # of CUDA, into memory that it writes by itself
        if tensor.is_cuda:
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def read(self) -> Tensor:
        """What it is, once it is there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.tensor


class CopiedAhead:
    """One update's inputs after another, on the device; those of the next are copied beside what it computes.

    `prepare` fetches the parts of the next update and begins to copy them; `next` gives them, and fetches them if that
    has not been done. An error of fetching is raised when the update is asked for: what was computed before it counts.
    """

    def __init__(self, updates: Iterator[list[Batch]], device: torch.device) -> None:
        self.updates, self.device = updates, device
        self.beside = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: UpdateInputs | Exception | None = None

    def prepare(self) -> None:
        """Fetch an update's parts and begin to copy them, unless that has been done."""
        self._next = self._next or self._fetched()

    def next(self) -> UpdateInputs:
        """The inputs of the next update. What is queued on the device from now on comes after their copies."""
        found, self._next = self._next or self._fetched(), None
        if isinstance(found, Exception):
            raise found
        if self.beside is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_stream(self.beside)
            for tensor in _tensors(found.inputs):
                tensor.record_stream(computing)  # or their memory could be given away while it computes with them
        return found

    def _fetched(self) -> UpdateInputs | Exception:
        try:
            with torch.cuda.stream(self.beside):  # of None: nothing
                parts = next(self.updates)  # which may compute something itself
                return UpdateInputs(parts, [moved(part.inputs, self.device) for part in parts])
        except Exception as error:
            return error


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The tensors of a part on the device."""
    return {name: to_device(tensor, device) for name, tensor in inputs.items()}


def _tensors(inputs: Sequence[Inputs]) -> Iterator[Tensor]:
    return (tensor for part in inputs for tensor in part.values())
