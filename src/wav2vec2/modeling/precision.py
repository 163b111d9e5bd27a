"""Numbers of 32 and of 16 bits: where the wide ones are needed, and whether the narrow ones are faster.

Softmaxes, cosines and losses need 32 bits whatever the model's dtype. bfloat16 is slower than float32 on a processor
without instructions for it, which is measured and said here.
"""

import platform
import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

#: Products of matrices of this size take milliseconds, and without instructions for them a few tenths of a second.
_SIZE = 512

#: So many products are timed in each precision, and the quickest counts: others may use the processor too.
_PRODUCTS = 3


def full_precision(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is that."""
    return x if x.dtype == torch.float64 else x.float()


def in_full_precision(x: Tensor) -> AbstractContextManager[None]:
    """A context in which autocast lowers no precision on the device of x. Where it is not on there is nothing to do, so
    that an exported graph has nothing of it: ONNX has no such thing."""
    device = x.device.type
    lowers = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if lowers else nullcontext()


def on_gpu(x: Tensor) -> bool:
    """Whether x lies on a GPU (CUDA or ROCm), where products of matrices are so fast that all else is arranged around
    them."""
    return x.device.type == "cuda"


def product_dtype(x: Tensor) -> torch.dtype:
    """What matrix products with x are computed in: autocast's type where that is on, else x's own."""
    device = x.device.type
    available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)
    if available and torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def has_bfloat16_instructions() -> bool:
    """Whether this processor multiplies in bfloat16 itself (x86: AVX512-BF16 or AMX). Without, torch computes in
    float32 between conversions, or number by number."""
    if not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def told_if_slow(device: torch.device) -> str | None:
    """What to tell somebody who chose bfloat16 on this device; None where it is no slower than float32."""
    if device.type != "cpu" or has_bfloat16_instructions():
        return None
    slowdown = bfloat16_slowdown()
    if slowdown < 1:
        return None
    return (
        f"this processor has no instructions for bfloat16: a matrix product takes {slowdown:.1f} times as long as in "
        "float32 (measured just now)"
    )


def bfloat16_slowdown() -> float:
    """How many times as long as in float32 a matrix product takes in bfloat16, measured on this processor now: the
    quickest product of each, after one that may have to prepare itself."""

    def seconds(dtype: torch.dtype) -> float:
        left, right = (torch.ones(_SIZE, _SIZE, dtype=dtype) for _ in range(2))
        torch.matmul(left, right)
        taken = []
        for _ in range(_PRODUCTS):
            begun = time.perf_counter()
            torch.matmul(left, right)
            taken.append(time.perf_counter() - begun)
        return min(taken)

    return seconds(torch.bfloat16) / seconds(torch.float32)
