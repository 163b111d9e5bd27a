"""One update: the same weights come out, whatever its batch was cut into.

Every part's loss is a sum over the items that count (masked frames, labels). The number of these in the whole update,
over all parts and processes, is known before the first backward pass and is the one normaliser. Wrappers that average
gradients over processes, and Accelerate that averages over parts, are multiplied back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from wav2vec2.training.non_finite import first_non_finite, first_non_finite_gradient
from wav2vec2.training.settings.random_seeds import seed_everything
from wav2vec2.training.sums_over_processes import add, as_numbers, over_processes
from wav2vec2.training.tasks.task import Inputs, Sums, Task


@dataclass(frozen=True)
class UpdateResult:
    """What an update gave: sums over its parts, the norm of its gradient, what the processes had to say."""

    #: What the task sums, over all parts and processes.
    sums: dict[str, Any]
    #: The length of the gradient before it was clipped.
    gradient_norm: float
    #: What the processes had to say, summed over them.
    messages: list[float]
    #: Whether loss or gradient were not finite, so that the weights are as before.
    skipped: bool


class Updater:
    """Forward, backward and optimizer step of an update."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: AcceleratedOptimizer,
        task: Task,
        seed: int,
        clip_norm: float | None,
    ) -> None:
        self.accelerator = accelerator
        self.model = model
        self.bare = accelerator.unwrap_model(model, keep_torch_compile=False)
        self.optimizer = optimizer
        self.task = task
        self.seed = seed
        self.clip_norm = clip_norm
        self._last: tuple[int, Sequence[Inputs], Any] | None = None

    def __call__(self, update: int, parts: Sequence[Inputs], messages: Sequence[float] = ()) -> UpdateResult:
        """Take the update's parts of this process. `messages` are summed over processes along the way."""
        seed_everything(self.seed, update, self.accelerator.process_index)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.begin(self.bare, update)
        parts = [self.moved(part) for part in parts]
        counts, heard = self.exchange(parts, messages)
        with self.accelerator.autocast():
            whole = self.task.whole_update(self.bare, parts, counts, self.reduce)
        sums = as_numbers(self.accelerator, self.backward(parts, counts[0].clamp(min=1), whole))
        self._last = update, parts, whole
        norm = self.gradient_norm()
        finite = math.isfinite(sums["loss"]) and math.isfinite(norm)
        if finite or self.accelerator.scaler is not None:  # which looks for itself, and for another scale
            self.task.before_step(self.bare)
            self.optimizer.step()
        return UpdateResult(sums, norm, heard, skipped=not finite or self.accelerator.optimizer_step_was_skipped)

    def culprit(self) -> str | None:
        """Which module or parameter made the last update's loss or gradient something that is no number.

        All processes must call, and all of them learn it: the clip at fault may be on one of them alone.
        """
        if self._last is None:
            return None
        update, parts, whole = self._last
        seed_everything(self.seed, update, self.accelerator.process_index)
        # every part, whatever is found: sharded weights are gathered by all processes together
        found = [first_non_finite(self.bare, partial(self.task.part, self.bare, part, whole)) for part in parts]
        found = gather_object([*found, None])
        return next(filter(None, found), None) or first_non_finite_gradient(self.bare)

    @property
    def reduce(self) -> Any:
        """The sum over processes, or None where there is one."""
        if self.accelerator.num_processes == 1:
            return None
        return lambda tensor: over_processes(self.accelerator, tensor)

    def moved(self, part: Inputs) -> Inputs:
        """To the device, without waiting for it."""
        return {name: tensor.to(self.accelerator.device, non_blocking=True) for name, tensor in part.items()}

    def exchange(self, parts: Sequence[Inputs], messages: Sequence[float]) -> tuple[Tensor, list[float]]:
        """Counts and messages, summed over parts and processes."""
        counts = [sum(column) for column in zip(*(self.task.counts(part) for part in parts), strict=True)]
        together = torch.tensor([*counts, *messages], dtype=torch.float32, device=self.accelerator.device)
        together = over_processes(self.accelerator, together)
        return together[: len(counts)], together[len(counts) :].tolist()

    def backward(self, parts: Sequence[Inputs], items: Tensor, whole: Any) -> Sums:
        """Accumulate the gradient of the update's loss per item."""
        accelerator = self.accelerator
        accelerator.gradient_accumulation_steps, accelerator.step = len(parts), 0
        averaged = accelerator.num_processes
        if accelerator.distributed_type != DistributedType.DEEPSPEED:  # which leaves the parts alone
            averaged *= len(parts)
        sums: Sums = {}
        for part in parts:
            with accelerator.accumulate(self.model):
                output = self.task.part(self.model, part, whole)
                accelerator.backward(output.loss * (averaged / items))
            sums = add(sums, output.sums)
        return sums

    def gradient_norm(self) -> float:
        """Of all parameters together, before it is clipped where that is asked for.

        A gradient that is not finite is left as it is, so that its origin can be found.
        """
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:  # which clips by itself
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip_norm or math.inf)
            return 0.0 if norm is None else float(norm)  # None before its first step
        self.accelerator.unscale_gradients()
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        total: Any = get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
        if self.clip_norm is not None and math.isfinite(norm):
            clip_grads_with_norm_(trained, self.clip_norm, total)
        return norm
