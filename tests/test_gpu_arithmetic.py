"""What a GPU computes in another way than a CPU is the same numbers: tried here on the CPU, in float32 to 1e-5, in
bfloat16 with errors no larger than those of the plain way."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import ARCHITECTURES, CALM, small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.modeling import blocked_convolution, convolution, positional_convolution
from wav2vec2.modeling.blocked_convolution import blocked_convolution as convolve_in_blocks

#: Clips, frames, channels, groups, taps: an even and an odd kernel, one longer than the clip, a block and its edges.
SHAPES = [(2, 37, 32, 4, 8), (3, 16, 12, 2, 7), (1, 5, 16, 16, 128), (2, 33, 48, 3, 5), (1, 1, 8, 2, 4)]

LENGTHS = [16000, 9000, 390, 5000]


def by_the_library(x: Tensor, weight: Tensor, groups: int, left: int) -> Tensor:
    """The same convolution, (B, T, C) -> (B, T, C)."""
    padded = F.pad(x.transpose(1, 2), (left, weight.shape[2] - 1 - left))
    return F.conv1d(padded, weight, groups=groups).transpose(1, 2)


def case(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, int]:
    """Input, kernel, a gradient of the output, and the frames of zeros before the clip."""
    batch, frames, channels, groups, taps = shape
    generator = torch.Generator().manual_seed(sum(shape))
    x, weight, gradient = (
        torch.randn(size, dtype=dtype, generator=generator)
        for size in ((batch, frames, channels), (channels, channels // groups, taps), (batch, frames, channels))
    )
    return x.requires_grad_(), weight.requires_grad_(), gradient, taps // 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_in_blocks_is_the_librarys(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """With both gradients; widths that are and are not whole words of 8 bytes are among them."""
    x, weight, gradient, left = case(shape, dtype)
    found = convolve_in_blocks(x, weight, shape[3], left)
    expected = by_the_library(x, weight, shape[3], left)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    for one, other in zip(*(torch.autograd.grad(y, (x, weight), gradient) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def test_a_convolution_in_blocks_has_all_derivatives() -> None:
    x, weight, _, left = case((1, 9, 4, 2, 3), torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: convolve_in_blocks(x, w, 2, left), (x, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: convolve_in_blocks(x, w, 2, left), (x, weight))


def test_a_block_costs_few_needless_operations() -> None:
    """The banded matrix of base: an eighth of its products are with zeros, not most of them."""
    weight = torch.empty(768, 48, 128, device="meta")
    banded = blocked_convolution.banded(weight, groups=16)
    needed = weight.numel() / 16 * blocked_convolution._BLOCK
    assert banded[0].numel() / needed < 1.13


def gradients(model: Any, precision: torch.dtype) -> dict[str, Tensor]:
    """Of a step with the same masks and noise at every call; also its loss."""
    values, mask = waveforms(LENGTHS)
    model.zero_grad()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        loss = model(values, mask, generator=torch.Generator().manual_seed(0)).loss
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the CPU computes as a GPU would."""
    for module in (convolution, positional_convolution):
        monkeypatch.setattr(module, "on_gpu", lambda x: True)


def test_positions_behind_frames_that_are_only_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention in chunks: those of the last frames of a longer stretch, without the others'."""
    convolution = positional_convolution.WeightNormedConvolution(48, groups=4, kernel=16).double()
    for parameter in convolution.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 30, 48, dtype=torch.float64)
    for heard in (0, 1, 8):
        expected = convolution(x)[:, heard:]
        with monkeypatch.context() as patch:
            torch.testing.assert_close(convolution(x, heard), expected)
            patch.setattr(positional_convolution, "on_gpu", lambda x: True)
            patch.setattr(positional_convolution, "product_dtype", lambda x: torch.float64)
            torch.testing.assert_close(convolution(x, heard), expected)


@pytest.mark.parametrize("invariant", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_is_the_same_as_on_a_cpu(architecture: str, invariant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(small_config(architecture, **CALM, padding_invariant_norm=invariant)).train()
    expected = gradients(model, torch.float32)
    as_on_a_gpu(monkeypatch)
    found = gradients(model, torch.float32)
    assert found.keys() == expected.keys()
    largest = {name: float(gradient.abs().max()) for name, gradient in expected.items() if name != "loss"}
    torch.testing.assert_close(found.pop("loss"), expected["loss"], rtol=1e-6, atol=0)
    for name, gradient in found.items():  # that of a bias before a norm is nothing but the rounding of its weight's
        scale = max(largest[name], largest.get(name.replace("bias", "weight"), 0.0), 1e-3)
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_in_16_bits_the_errors_are_those_of_16_bits(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of the first norm are in float32 there, and positions are a product of rounded factors."""
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(small_config(architecture, **CALM)).train()
    exact, plain = gradients(model, torch.float32), gradients(model, torch.bfloat16)
    as_on_a_gpu(monkeypatch)
    found = gradients(model, torch.bfloat16)

    def error(of: dict[str, Tensor], part: str) -> float:
        pairs = [(of[name].double(), exact[name].double()) for name in exact if part in name]
        return sum(float((a - b).norm()) for a, b in pairs) / sum(float(b.norm()) for _, b in pairs)

    for part in ("feature_extractor.conv_layers.0", "feature_extractor.conv_layers.3", "pos_conv_embed", "layers.1."):
        assert error(found, part) < 1.5 * error(plain, part) + 0.01, part
