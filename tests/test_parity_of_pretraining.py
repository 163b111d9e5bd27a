"""Given stock's masks, distractors and noise, pretraining gives stock's losses, codes and gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fast_cases import fast_cases
from small_models import ARCHITECTURES, CALM
from stock_twins import TOLERANCE, assert_same, assert_same_gradients, batch, norm_over_padding, stock_in, twins
from torch import Tensor
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from wav2vec2.modeling import gumbel_quantizer

HEAD = "Wav2Vec2ForPreTraining"
FRAMES, DISTRACTORS = 18, 10
GROUPS, ENTRIES = 2, 8

#: What stock returns too.
SHARED = (
    "loss",
    "contrastive_loss",
    "diversity_loss",
    "codevector_perplexity",
    "projected_states",
    "projected_quantized_states",
)


class Task(NamedTuple):
    """Which frames to predict (B, T), among which distractors (B, T, K), as stock draws them."""

    mask_time_indices: Tensor
    sampled_negative_indices: Tensor


def draw_task(model: Any, mask: Tensor | None) -> Task:
    """Stock's own masks and distractors for the clips of `batch`."""
    np.random.seed(0)
    frames = None if mask is None else model._get_feature_vector_attention_mask(FRAMES, mask)
    masked = _compute_mask_indices((3, FRAMES), 0.6, 3, attention_mask=frames, min_masks=2)
    distractors = _sample_negative_indices((3, FRAMES), DISTRACTORS, mask_time_indices=masked)
    return Task(torch.from_numpy(masked), torch.from_numpy(distractors))


@contextmanager
def same_noise(dtype: torch.dtype) -> Iterator[None]:
    """Both quantizers add the same noise; the rest of `torch.nn.functional.gumbel_softmax` is as torch writes it."""
    shape = (3, FRAMES, GROUPS, ENTRIES)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    noise = -(-drawn.log()).log().to(dtype)

    def ours(like: Tensor, draws: object = None) -> Tensor:
        assert like.shape == shape
        return noise

    def stocks(logits: Tensor, tau: float = 1, hard: bool = False) -> Tensor:
        assert hard
        soft = ((logits + noise.view(-1, ENTRIES)) / tau).softmax(-1)
        return F.one_hot(soft.argmax(-1), ENTRIES).to(soft.dtype) - soft.detach() + soft

    with (
        mock.patch.object(gumbel_quantizer, "gumbel_noise", ours),
        mock.patch.object(F, "gumbel_softmax", stocks),
    ):
        yield


def pretrain(stock: Any, ours: Any, masked: bool) -> tuple[Any, Any]:
    """The outputs of both for the same task, with gradients in place."""
    dtype = next(ours.parameters()).dtype
    values, mask = batch(dtype, masked)
    task = draw_task(stock, mask)._asdict()
    with same_noise(dtype):
        with stock_in(dtype):
            theirs = stock(values, attention_mask=mask, output_hidden_states=True, **task)
        found = ours(values, attention_mask=mask, output_hidden_states=True, **task)
        theirs.loss.backward()
        found.loss.backward()
    assert found.num_masked == task["mask_time_indices"].sum() > 0
    return theirs, found


def assert_same_outputs(found: Any, theirs: Any, tolerance: float) -> None:
    """Everything that stock returns."""
    for name in SHARED:
        assert_same(found[name], theirs[name], tolerance, name)
    for index, (own, other) in enumerate(zip(found.hidden_states, theirs.hidden_states, strict=True)):
        assert_same(own, other, tolerance, f"hidden state {index}")


@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "base", "large_lv60k"))
@pytest.mark.parametrize("dtype", fast_cases([torch.float64, torch.float32], torch.float64), ids=["float64", "float32"])
@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("training", [False, True], ids=["most_likely", "sampled"])
def test_pretraining_is_stocks(architecture: str, dtype: torch.dtype, masked: bool, training: bool) -> None:
    """All losses, the perplexity, both projections and the gradient of every parameter."""
    fields = norm_over_padding(architecture, masked)
    attention = "eager" if training else "sdpa"
    stock, ours = twins(HEAD, architecture, dtype, attention, fields, **CALM)
    theirs, found = pretrain(stock.train(training), ours.train(training), masked)
    assert 0 < found.positive_negative_share < 1  # some distractors are the target itself, and take no part
    assert_same_outputs(found, theirs, TOLERANCE[dtype])
    assert_same_gradients(ours, stock)


@pytest.mark.parametrize("temperature", [0.5, 1.25])  # it is kept in float32, which holds these exactly
def test_the_temperature_is_stocks(temperature: float) -> None:
    """`set_gumbel_temperature` does to the loss and its gradients what it does to stock's."""
    stock, ours = twins(HEAD, **CALM)
    for model in (stock.train(), ours.train()):
        model.set_gumbel_temperature(temperature)
    theirs, found = pretrain(stock, ours, masked=False)
    assert_same_outputs(found, theirs, 1e-9)
    assert_same_gradients(ours, stock)
    stock, unchanged = twins(HEAD, **CALM)
    at_default = pretrain(stock.train(), unchanged.train(), masked=False)[1]
    assert_same(found.loss, at_default.loss, 1e-9)  # it changes the gradients, not the choice
    changed, default = (model.quantizer.weight_proj.weight.grad for model in (ours, unchanged))
    assert (changed - default).abs().max() > 0.01 * default.abs().max()


def collapse(model: Any) -> None:
    """Let one entry of each codebook win everywhere."""
    bias = torch.zeros(GROUPS, ENTRIES)
    bias[:, 3] = 20.0
    with torch.no_grad():
        model.quantizer.weight_proj.weight.mul_(0.1)
        model.quantizer.weight_proj.bias.copy_(bias.flatten())


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("training", [False, True], ids=["most_likely", "sampled"])
def test_a_collapsed_codebook_gives_stocks_loss_and_is_reported(masked: bool, training: bool) -> None:
    """The loss is stock's zero, which looks like success; share and code perplexity tell that it is none."""
    stock, ours = twins(HEAD, "large_lv60k", **CALM)
    for model in (stock.train(training), ours.train(training)):
        collapse(model)
    theirs, found = pretrain(stock, ours, masked)
    assert found.contrastive_loss == theirs.contrastive_loss == 0
    assert found.positive_negative_share == 1 and found.accuracy == 0
    assert_same(found.code_perplexity, torch.ones(GROUPS, dtype=torch.float64), 1e-12)
    for name in ("loss", "diversity_loss", "codevector_perplexity", "projected_quantized_states"):
        assert_same(found[name], theirs[name], 1e-9, name)
    own = dict(ours.named_parameters())
    for name, parameter in stock.named_parameters():
        gradient, expected = own[name].grad, parameter.grad
        if expected is None:  # the most likely code has no gradient, in either
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient is not None and torch.isfinite(gradient).all(), name
            assert_same(gradient, expected, 1e-9, name)


def test_stocks_outputs_come_first_in_a_tuple() -> None:
    """`return_dict=False` gives stock's tensors at stock's places, ours behind them."""
    stock, ours = twins(HEAD)
    values, _ = batch(masked=False)
    task = draw_task(stock, None)._asdict()
    with stock_in(torch.float64), torch.no_grad():
        theirs = stock(values, return_dict=False, **task)
    with torch.no_grad():
        found = ours(values, return_dict=False, **task)
    assert len(theirs) == len(SHARED)
    for own, other in zip(found[: len(theirs)], theirs, strict=True):
        assert_same(own, other, 1e-9)


def test_distractors_from_other_clips_are_refused() -> None:
    """Stock's numbering runs over the whole batch; a number of another clip would be a silent mistake."""
    stock, ours = twins(HEAD)
    values, _ = batch(masked=False)
    task = draw_task(stock, None)
    for shifted in (task.sampled_negative_indices + FRAMES, task.sampled_negative_indices - 1):
        with pytest.raises(ValueError, match="sampled_negative_indices"):
            ours(values, mask_time_indices=task.mask_time_indices, sampled_negative_indices=shifted)
