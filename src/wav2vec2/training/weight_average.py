"""An exponential moving average of the weights that are trained, beside them.

    average <- average + (1 - d) (weights - average),   d = min(decay, (1 + n) / (10 + n)) with update n, from 0

The average is what is evaluated and saved as the model; training itself never sees it. d rises with the updates because
the average begins as the untrained weights: they are left behind within a few updates, and later the average reaches
back over a ninth of the run until it reaches as far as `decay` says. (Dividing by 1 - decay ** n instead would weigh
all updates of a short run alike, those at its start too.) It follows from the update alone, so no count can be lost.

Why not `torch.optim.swa_utils.AveragedModel`: it copies the whole model, with what is frozen; sharded modules cannot be
copied (pytorch issue 149138); it asks the device for its count at every update; and it cannot leave out an update of
which the device alone knows yet that it was skipped.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of `parameters`, those of `model` that are trained, by their names. What is frozen has none; and of
    no parameters at all, it does nothing."""

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        #: The averages by the names of their parameters, and in pieces where these are.
        self.tensors: dict[str, Tensor] = {name: one.detach().clone() for name, one in parameters.items()}
        self._model = model
        self._parameters = dict(parameters)

    @torch.no_grad()
    def follow(self, update: int, taken: Tensor) -> None:
        """Move towards the weights after an update, or stay if it was not `taken` (), which only the device knows."""
        if not self.tensors:
            return
        weight = taken.float() * (1.0 - min(self.decay, (1.0 + update) / (10.0 + update)))
        averages, now = _own_pieces(self.tensors), _own_pieces(self._parameters)
        torch._foreach_lerp_(averages, now, [weight] * len(now))

    @contextmanager
    def in_the_model(self) -> Iterator[None]:
        """Inside, the model computes with the average. Afterwards it has its weights again, bit by bit."""
        self._change_places()
        try:
            yield
        finally:
            self._change_places()

    @torch.no_grad()
    def _change_places(self) -> None:
        if not self.tensors:
            return
        for module in self._model.modules():
            if (reshard := getattr(module, "reshard", None)) is not None:
                reshard()  # FSDP2 may still hold the weights of its last forward pass, put together
        for name, parameter in self._parameters.items():
            before = parameter.detach().clone()
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(before)


def _own_pieces(tensors: Mapping[str, Any]) -> list[Tensor]:
    """What this process holds of each tensor."""
    return [one.detach().to_local() if hasattr(one, "to_local") else one.detach() for one in tensors.values()]
