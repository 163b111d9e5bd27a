"""Kernels for GPUs, in Triton, which comes with PyTorch there: how they are made, and whether they can be built.

With TRITON_INTERPRET=1 in the environment before the first import, Triton runs the same code on a CPU, slowly.
"""

# Triton takes kernels without types.
# mypy: allow-untyped-defs

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

#: Triton's language, None where Triton is not installed.
tl: Any = import_module("triton.language") if find_spec("triton") is not None else None

#: Arguments of kernels whose values make no new variants of them, which take seconds to compile.
_NUMBERS = {"steps", "batch", "kept", "size", "width", "delimiter", "ngrams", "words", "order", "states"}


def kernel(function: Any) -> Any:
    """A function for the device, if Triton is here."""
    if tl is None:
        return function
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return import_module("triton").jit(function, do_not_specialize=[name for name in names if name in _NUMBERS])


@cache
def usable(device: torch.device) -> bool:
    """Whether kernels run on this device; said once where they should, but cannot be built (without a C compiler)."""
    if tl is None or device.type != "cuda":
        return False
    number = torch.zeros(1, device=device)
    try:
        _try[(1,)](number)
    except Exception as error:  # whatever a compiler may say
        warnings.warn(f"decoding is slower on {device} than it could be: Triton fails with {error!r}", stacklevel=2)
        return False
    return True


@kernel
def _try(number):
    """Do the least that shows that kernels are built and run."""
    tl.store(number, 1.0)
