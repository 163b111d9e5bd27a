"""One update: the same weights come out, whatever its batch was cut into.

Every part's loss is a sum over the items that count (masked frames, labels). The number of these in the whole update,
over all parts and processes, is known before the first backward pass and is the one normaliser. Wrappers that average
gradients over processes, and Accelerate that averages over parts, are multiplied back.

An accelerator is given a whole update, its optimizer step included, before the host asks for a single number of it:
what follows from numbers within an update (the normaliser, clipping, whether the step is taken) is decided there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from wav2vec2.training.device_copies import moved, to_device
from wav2vec2.training.non_finite import first_non_finite, first_non_finite_gradient
from wav2vec2.training.settings.random_seeds import seed_everything
from wav2vec2.training.sums_over_processes import NumbersOnTheirWay, add, over_processes, summed
from wav2vec2.training.tasks.task import Inputs, Sums, Task
from wav2vec2.training.weight_average import WeightAverage

#: Beside the sums of a task, what comes to the host with them.
_NORM, _MESSAGES = "gradient norm", "messages"


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
        average: WeightAverage | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.model = model
        self.bare = accelerator.unwrap_model(model, keep_torch_compile=False)
        self.optimizer = optimizer
        self.task = task
        self.seed = seed
        self.clip_norm = clip_norm
        self.average = average or WeightAverage(self.bare, {}, 0.0)
        self._last: tuple[int, Sequence[Inputs], Any] | None = None

    def __call__(
        self, update: int, parts: Sequence[Inputs], messages: Sequence[float] = ()
    ) -> Callable[[], UpdateResult]:
        """Take the update's parts of this process. `messages` are summed over processes along the way.

        What comes back gives the result, and waits for the device until the figures are there. Ask for it before the
        next update; the device computes meanwhile.
        """
        seed_everything(self.seed, update, self.accelerator.process_index)
        if not self.model.training:  # which is what an evaluation leaves behind
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.begin(self.bare, update)
        parts = [moved(part, self.accelerator.device) for part in parts]
        counts, heard = self.exchange(parts, messages)
        with self.accelerator.autocast():
            whole = self.task.whole_update(self.bare, parts, counts, self.reduce)
        sums = summed(self.accelerator, self.backward(parts, counts[0].clamp(min=1), whole))
        self._last = update, parts, whole
        norm = self.gradient_norm()
        numbers = NumbersOnTheirWay(sums | {_NORM: norm, _MESSAGES: heard})
        self.task.before_step(self.bare)
        finite = sums["loss"].isfinite() & norm.isfinite()
        self.step(finite)
        self.average.follow(update, finite)
        return partial(self.result, update, numbers)

    def result(self, update: int, numbers: NumbersOnTheirWay) -> UpdateResult:
        """What the update gave, once the device has got so far."""
        sums = numbers.read()
        norm, messages = sums.pop(_NORM), sums.pop(_MESSAGES)
        skipped = not (math.isfinite(sums["loss"]) and math.isfinite(norm))
        skipped = skipped or self.accelerator.optimizer_step_was_skipped
        if skipped:
            self.task.begin(self.bare, update)  # the model counts updates that were taken
        return UpdateResult(sums, norm, messages, skipped)

    def step(self, finite: Tensor) -> None:
        """Change the weights, or leave them as they are if loss or gradient are not `finite` ().

        The optimizer in one pass over memory takes that from the device. fp16's scaler looks for itself, and for
        another scale. For any other optimizer the host has to wait and see.
        """
        optimizer: Any = self.optimizer.optimizer
        if self.accelerator.scaler is None and getattr(optimizer, "defaults", {}).get("fused"):
            optimizer.found_inf = (~finite).float()
        elif self.accelerator.scaler is None and not bool(finite):
            return
        self.optimizer.step()

    def start_afresh(self) -> None:
        """Let the optimizer forget: its averages are of the gradients of another loss than the one that comes now."""
        self.optimizer.optimizer.state.clear()

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

    def exchange(self, parts: Sequence[Inputs], messages: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Counts and messages, summed over parts and processes, on the device."""
        counts = torch.stack([self.task.counts(part) for part in parts]).sum(0)
        said = to_device(torch.tensor(messages, dtype=torch.float32), self.accelerator.device)
        together = over_processes(self.accelerator, torch.cat([counts, said]))
        return together[: len(counts)], together[len(counts) :]

    def backward(self, parts: Sequence[Inputs], items: Tensor, whole: Any) -> Sums:
        """Accumulate the gradient of the update's loss per item."""
        accelerator = self.accelerator
        accelerator.gradient_accumulation_steps, accelerator.step = len(parts), 0
        averaged = accelerator.num_processes
        if accelerator.distributed_type != DistributedType.DEEPSPEED:  # which leaves the parts alone
            averaged *= len(parts)
        sums: Sums = {}
        with self.weights_cast_once():
            for part in parts:
                with accelerator.accumulate(self.model):
                    output = self.task.part(self.model, part, whole)
                    accelerator.backward(output.loss * (averaged / items))
                sums = add(sums, output.sums)
        return sums

    @contextmanager
    def weights_cast_once(self) -> Iterator[None]:
        """Inside, weights that autocast has once turned into 16 bits stay so: the parts of an update share them.

        Autocast forgets them at the end of its outermost context, so there is one around those of the parts' forward
        passes. Nothing else is computed in it. Weights in pieces, which are put together for each pass, would stay
        whole, so they are left alone.
        """
        accelerator = self.accelerator
        in_pieces = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        if in_pieces or not accelerator.native_amp:
            yield
        else:
            with accelerator.autocast(), torch.autocast(accelerator.device.type, enabled=False):
                yield

    def gradient_norm(self) -> Tensor:
        """Of all parameters together (), before it is clipped where that is asked for.

        A gradient that is not finite is left as it is, so that its origin can be found.
        """
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:  # which clips by itself
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip_norm or math.inf)
            norm = torch.as_tensor(0.0 if norm is None else norm)  # None before its first step
            return to_device(norm, self.accelerator.device)
        self.accelerator.unscale_gradients()
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        total: Any = get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        if self.clip_norm is not None:
            clip_grads_with_norm_(trained, self.clip_norm, total.where(total.isfinite(), 0.0))  # of 0: nothing to clip
        norm = total.full_tensor() if hasattr(total, "full_tensor") else total
        return norm
