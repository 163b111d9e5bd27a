"""Where an infinity or a NaN comes from: the first module, in the order of computation, that makes one.

`first_non_finite` runs the forward pass again with hooks. The same pass gives the same numbers, since everything
random in it follows from the clips' seeds and the update.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wav2vec2.training.saving.named_states import without_wrappers


def first_non_finite(model: nn.Module, run_forward: Callable[[], object]) -> str | None:
    """A sentence on what made the first number that is not finite; None if all of them are finite.

    It names, in this order: a parameter or buffer that was so before; an input of the whole model that was so; or the
    innermost module whose inputs are finite and whose output is not. Modules that only pass it on are not named.
    `run_forward` runs the model once; on several processes all of them have to call this.
    """
    weight = _first_weight(model)
    if weight is not None:
        return weight
    search = _Search(name_of={module: without_wrappers(name) for name, module in model.named_modules()})
    handles = [handle for module in search.name_of for handle in search.watch(module)]
    try:
        with torch.no_grad():
            result = run_forward()
    except Exception:  # what is not finite may well be refused further on
        if search.found is None:
            raise
        return search.found
    finally:
        for handle in handles:
            handle.remove()
    if search.found is None and (what := _wrong_in(result)) is not None:
        return f"the loss, after the model: every module's output is finite, the result holds {what}"
    return search.found


def first_non_finite_gradient(model: nn.Module) -> str | None:
    """A sentence on the gradients that are not finite; None if all of them are finite.

    Backward runs from the last module to the first, and everything before the culprit inherits what it made; so the
    last parameter is the one to name.
    """
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    wrong = [(name, what) for name, gradient in gradients if (what := _wrong_in(gradient)) is not None]
    if not wrong:
        return None
    name, what = wrong[-1]
    return (
        f"the gradient of {without_wrappers(name)} holds {what} (of {len(gradients)} gradients "
        f"{len(wrong)} are not finite; this is the one nearest to the loss)"
    )


def _first_weight(model: nn.Module) -> str | None:
    for kind, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            what = _wrong_in(tensor)
            if what is not None:
                return f"the {kind} {without_wrappers(name)} holds {what}, before anything is computed"
    return None


@dataclass
class _Search:
    """Watches a forward pass until the first number that is not finite."""

    name_of: dict[nn.Module, str]
    found: str | None = None
    #: The modules that are being computed, outermost first.
    open: list[nn.Module] = field(default_factory=list)

    def watch(self, module: nn.Module) -> Iterator[RemovableHandle]:
        """Hooks before and after a module."""
        yield module.register_forward_pre_hook(self.before, with_kwargs=True)
        yield module.register_forward_hook(self.after)

    def before(self, module: nn.Module, positional: tuple[object, ...], named: dict[str, object]) -> None:
        """Its inputs: not finite for the first time means that its parent made them so, between two of its parts."""
        what = None if self.found is not None else _wrong_in([*positional, *named.values()], mask_allowed=True)
        if what is not None and self.open:
            parent = self._named(self.open[-1])
            self.found = f"{parent}: it computed {what} on the way to its part {self._named(module)}"
        elif what is not None:
            self.found = f"the input of the model: it holds {what}, before anything is computed"
        self.open.append(module)

    def after(self, module: nn.Module, _: object, output: object) -> None:
        """Its output: not finite for the first time means that the module itself made it so."""
        if self.open and self.open[-1] is module:
            self.open.pop()
        what = None if self.found is not None else _wrong_in(output)
        if what is not None:
            self.found = f"{self._named(module)} ({type(module).__name__}): finite inputs, but its output holds {what}"

    def _named(self, module: nn.Module) -> str:
        return self.name_of[module] or f"the model itself ({type(module).__name__})"


def _wrong_in(values: object, mask_allowed: bool = False) -> str | None:
    """What is not finite in tensors, and in lists, tuples and mappings of them: "3 of 96 values: inf".

    With `mask_allowed`, -inf is: attention masks consist of it.
    """
    for tensor in _tensors(values):
        if not tensor.is_floating_point():
            continue
        wrong = ~tensor.isfinite()
        if mask_allowed:
            wrong &= tensor != float("-inf")
        count = int(wrong.sum())
        if count:
            kinds = "NaN" if bool(tensor[wrong].isnan().any()) else "infinity"
            return f"{kinds} ({count} of {tensor.numel()} values)"
    return None


def _tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values.detach()
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
