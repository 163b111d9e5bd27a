"""Counts how often the host waits for a device, on a machine that has none.

The device is torch's "meta": tensors on it have shapes and no values, so whatever the host asks of them shows. Where it
does, the wait is counted with the line that waits, and the host gets a number that stands in. What a graphics card
does inside of one operation (such as its CTC loss, which copies lengths to and fro) does not show here.
"""

import traceback
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

#: What gives the host a number, or a tensor whose shape depends on values.
_ASKS = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten.item,
    aten._unique, aten._unique2, aten.unique_consecutive, aten.bincount, aten.repeat_interleave,
}  # fmt: skip

#: Functions that make a tensor of what lies in the host's memory: with a device they copy, and wait for the copy.
_MAKERS = {torch.tensor, torch.as_tensor, torch.asarray}


def on_device(value: Any) -> bool:
    """Whether it is a tensor of the device."""
    return isinstance(value, Tensor) and value.device.type == "meta"


class DeviceWaits:
    """Inside, every wait for the device is in `seen`, as (what it was, the line of the package that waits)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._modes = ExitStack()

    def __enter__(self) -> "DeviceWaits":
        self._modes.enter_context(_Operations(self))
        self._modes.enter_context(_Makers(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._modes.close()

    def add(self, what: str) -> None:
        """One more."""
        lines = [frame for frame in traceback.extract_stack() if "/wav2vec2/" in frame.filename]
        where = f"{lines[-1].filename.rsplit('/wav2vec2/')[-1]}:{lines[-1].line}" if lines else "elsewhere"
        self.seen.append((what, where))


class _Operations(TorchDispatchMode):
    """Sees every operation, those of backward too."""

    def __init__(self, waits: DeviceWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in _ASKS and any(map(on_device, args)):
            self.waits.add(str(packet))
            return {torch.bool: True, torch.int64: 1}.get(args[0].dtype, 1.0)
        if packet in (aten._ctc_loss, aten._ctc_loss_backward):
            self.waits.add("torch's CTC loss")
            scores, labels = args[0 if packet is aten._ctc_loss else 1], args[1 if packet is aten._ctc_loss else 2]
            frames, clips = scores.shape[:2]
            losses = scores.new_empty(clips), scores.new_empty(clips, frames, 2 * labels.shape[1] + 1)
            return losses if packet is aten._ctc_loss else torch.empty_like(scores)
        if packet in (aten.index, aten.index_put, aten.index_put_) and _by_choice(args[1]):
            self.waits.add(f"{packet} by a mask")
        if packet is aten._to_copy and "device" in kwargs:
            there, here = on_device(args[0]), torch.device(kwargs["device"]).type == "meta"
            if there and not here:
                self.waits.add("a copy to the host")
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            if here and not there and not kwargs.get("non_blocking"):
                self.waits.add("a copy to the device that is waited for")
        if packet is aten.copy_ and on_device(args[0]) != on_device(args[1]):
            if not on_device(args[0]) or not (len(args) > 2 and args[2]):
                self.waits.add("a copy in place that is waited for")
            return args[0] if on_device(args[0]) else args[0].fill_(1)
        return func(*args, **kwargs)


class _Makers(TorchFunctionMode):
    """Sees `torch.tensor(numbers, device=...)`, which copies below where operations show."""

    def __init__(self, waits: DeviceWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func in _MAKERS and device is not None and torch.device(device).type == "meta" and not on_device(args[0]):
            self.waits.add("numbers of the host as a tensor of the device")
        return func(*args, **kwargs)


def _by_choice(indices: Any) -> bool:
    return any(on_device(one) and one.dtype in (torch.bool, torch.uint8) for one in indices if one is not None)
