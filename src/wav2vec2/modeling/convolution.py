"""Convolution over time, in the memory layout in which it is fast.

Shapes: B batch, C channels, T frames, K kernel size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1) -> Tensor:
    """`torch.nn.functional.conv1d`: (B, C_in, T_in) with (C, C_in / groups, K) -> (B, C, T).

    In 16 bits on a CPU the same product runs 1.3 to 1.6 times faster over channels-last memory, which one-dimensional
    convolutions do not offer; so it is a two-dimensional one of height 1 there. Its output keeps that layout, in which
    `transpose(1, 2)` is contiguous: layer norms over channels and the Transformer then copy nothing.
    """
    if weight.shape[1] == 1 or not channels_last_is_faster(x):
        return F.conv1d(x, weight, bias, stride, groups=groups)
    layout = torch.channels_last
    tall = x.unsqueeze(2).contiguous(memory_format=layout)
    kernel = weight.unsqueeze(2).contiguous(memory_format=layout)
    return F.conv2d(tall, kernel, bias, (1, stride), groups=groups).squeeze(2)


def channels_last_is_faster(x: Tensor) -> bool:
    """Whether products with x are in 16 bits on a CPU."""
    if x.device.type != "cpu":
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype in (torch.bfloat16, torch.float16)


class Convolution(nn.Conv1d):
    """`torch.nn.Conv1d` without padding or dilation, through `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T_in) -> (B, C, T)"""
        return convolve(x, self.weight, self.bias, self.stride[0], self.groups)
