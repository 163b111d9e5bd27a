"""In bfloat16 convolutions are those in float32 within rounding, values and gradients, on every processor."""

import pytest
import torch
from torch import Tensor

from wav2vec2.modeling.convolution import convolve


def results(x: Tensor, weight: Tensor, groups: int, stride: int) -> list[Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    output = convolve(x, weight, None, stride, groups)
    output.float().square().sum().backward()
    assert x.grad is not None and weight.grad is not None
    return [one.detach().float() for one in (output, x.grad, weight.grad)]


@pytest.mark.parametrize("width", [1, 2, 12, 15, 16, 24])
@pytest.mark.parametrize("kernel", [3, 16, 64])
def test_16_bits_give_the_convolution(width: int, kernel: int) -> None:
    """On processors with AMX, torch's own are noise where an output sees few channels."""
    generator = torch.Generator().manual_seed(0)
    for groups, stride in ((1, 1), (2, 1), (2, 2), (16, 1)):
        x = torch.randn(2, width * groups, 120, generator=generator).bfloat16()
        weight = torch.randn(width * groups, width, kernel, generator=generator).bfloat16()
        narrow, wide = results(x, weight, groups, stride), results(x.float(), weight.float(), groups, stride)
        for one, other in zip(narrow, wide, strict=True):
            assert (one - other).norm() < 0.01 * other.norm()


def test_autocast_gives_it_too() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 24, 100, generator=generator), torch.randn(24, 12, 16, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = convolve(x, weight, torch.ones(24), groups=2)
    assert narrow.dtype == torch.bfloat16
    wide = convolve(x, weight, torch.ones(24), groups=2)
    assert (narrow.float() - wide).norm() < 0.01 * wide.norm()
