"""Pairs of a stock model and ours with the same random weights, and what "the same" means for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import transformers
from small_models import ARCHITECTURES, SMALL, small_config, waveforms
from torch import Tensor, nn

import wav2vec2

# Small operations spend their time waiting for each other when several test processes have several threads each.
torch.set_num_threads(1)

#: Largest difference allowed, relative to the largest value of stock's tensor.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
GRADIENT_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

#: Every architecture, and BASE with strided convolutions behind the Transformer.
VARIANTS: dict[str, dict[str, Any]] = ARCHITECTURES | {
    "strided_adapter": {"add_adapter": True, "output_hidden_size": 20},
}

#: Samples of the clips in a batch: 18, 12 and 7 frames.
LENGTHS = [6000, 4000, 2500]

#: Gradients that are zero whatever the data: softmax ignores what is added to all keys of a query, group norm what is
#: added to a whole channel. Only rounding is left of them, in stock as in ours.
CANCELLED_BY_SOFTMAX = "k_proj.bias"
CANCELLED_BY_GROUP_NORM = "conv_layers.0.conv.bias"


def stock_config(variant: str = "base", **overrides: Any) -> transformers.Wav2Vec2Config:
    """Stock's configuration of the same small model."""
    return transformers.Wav2Vec2Config(**(SMALL | VARIANTS[variant] | overrides))


def own_config(variant: str = "base", **overrides: Any) -> wav2vec2.Wav2Vec2Config:
    """Ours."""
    if variant in ARCHITECTURES:
        return small_config(variant, **overrides)
    return small_config("base", **(VARIANTS[variant] | overrides))


def scatter_weights(model: Any, seed: int = 0) -> Any:
    """Move every parameter off its initial value, so that no bias is zero and no norm is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def twins(
    head: str,
    variant: str = "base",
    dtype: torch.dtype = torch.float64,
    attention: str = "sdpa",
    own_fields: dict[str, Any] | None = None,
    **overrides: Any,
) -> tuple[Any, Any]:
    """Stock's model and ours, in evaluation mode, with equal weights. `own_fields` go to our configuration alone."""
    overrides = {"attn_implementation": attention} | overrides
    torch.manual_seed(0)
    stock = scatter_weights(getattr(transformers, head)(stock_config(variant, **overrides)))
    ours = getattr(wav2vec2, head)(own_config(variant, **overrides, **(own_fields or {})))
    ours.load_state_dict(stock.state_dict(), strict=True)
    return stock.eval().to(dtype), ours.eval().to(dtype)


def norm_over_padding(variant: str, masked: bool) -> dict[str, Any]:
    """Stock counts padding where group norm and strided convolutions meet it; we do so only when told."""
    counts = VARIANTS[variant].get("feat_extract_norm") != "layer"
    return {"padding_invariant_norm": False} if masked and counts else {}


def real_logits(model: Any, mask: Tensor) -> Tensor:
    """Which frames (B, T) of a batch are not padding."""
    frames = model._get_feat_extract_output_lengths(mask.shape[1])
    real: Tensor = model._get_feature_vector_attention_mask(frames, mask)
    return real


def batch(dtype: torch.dtype = torch.float64, masked: bool = True) -> tuple[Tensor, Tensor | None]:
    """Three clips: of different lengths with their mask, or all of the longest."""
    values, mask = waveforms(LENGTHS if masked else [LENGTHS[0]] * 3)
    return values.to(dtype), mask if masked else None


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float, what: str = "") -> None:
    """Equal shape and dtype, and no difference above `tolerance` times the largest value."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), what
    difference, scale = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    assert difference <= tolerance * scale, f"{what}: differs by {difference:.2e} at a scale of {scale:.2e}"


def assert_same_gradients(ours: nn.Module, theirs: nn.Module) -> None:
    """The gradient of every parameter, one by one."""
    own = dict(ours.named_parameters())
    dtype = next(iter(own.values())).dtype
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert largest > 0 and own.keys() == {name for name, _ in theirs.named_parameters()}
    for name, parameter in own.items():
        found, tolerance = parameter.grad, GRADIENT_TOLERANCE[dtype]
        if name not in gradients:  # ours joins what a pass did not use with a gradient of zero
            assert found is None or not found.any(), name
        elif found is None:
            raise AssertionError(f"{name} has no gradient")
        elif _cancels(name, ours):
            assert max(found.abs().max(), gradients[name].abs().max()).item() <= tolerance * largest, name
        else:
            assert_same(found, gradients[name], tolerance, name)


def _cancels(name: str, model: Any) -> bool:
    group_norm = model.config.feat_extract_norm == "group"
    return name.endswith(CANCELLED_BY_SOFTMAX) or (group_norm and name.endswith(CANCELLED_BY_GROUP_NORM))


@contextmanager
def stock_in(dtype: torch.dtype) -> Iterator[None]:
    """Stock turns every input of a loss into float32. Inside, with float64, it keeps what it gets."""
    if dtype != torch.float64:
        yield
        return
    log_softmax = F.log_softmax

    def log_softmax_as_given(x: Tensor, dim: int, **_: Any) -> Tensor:
        return log_softmax(x, dim)

    with (
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
        mock.patch.object(F, "log_softmax", log_softmax_as_given),
    ):
        yield
