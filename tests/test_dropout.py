"""Dropout and attention with dropout: the right share, the right scale, one mask for both directions."""

import copy
import math
from typing import Any

import pytest
import torch
from small_models import CALM, recompute_activations, small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2Model
from wav2vec2.modeling.attention import Wav2Vec2Attention, mask_for
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.dropout_attention import dropout_attention, keeping_weights_is_faster

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def dropped(x: Tensor, p: float, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    output: Tensor = Dropout(p)(x)
    return output


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("p", [0.001, 0.05, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_share_and_scale(p: float) -> None:
    """What is kept is divided by exactly the probability of keeping, so the expectation is the input.

    That probability may differ from 1 - p by a rounding to 16 bits, and the share that is kept follows it.
    """
    count = 1_000_000
    output = dropped(torch.ones(count, dtype=torch.float64), p)
    (scale,) = set(output[output != 0].tolist())
    keeping = 1 / scale
    assert keeping == pytest.approx(1 - p, abs=2**-17 + 1e-12)
    error = math.sqrt(keeping * (1 - keeping) / count)
    assert float((output != 0).double().mean()) == pytest.approx(keeping, abs=5 * error)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_are_dropped_independently(p: float) -> None:
    """Both of two elements are kept as often as the product says, up to eight places apart and across rows."""
    keep = dropped(torch.ones(1000, 1000), p) != 0
    flat = keep.flatten()
    expected = (1 - p) ** 2
    error = math.sqrt(expected * (1 - expected) / 1e6)
    for distance in (1, 2, 3, 4, 5, 8, 1000):
        both = (flat[distance:] & flat[:-distance]).double().mean()
        assert float(both) == pytest.approx(expected, abs=5 * error)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 4, 5), (0, 4)])
def test_any_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Each element is zero, or itself times the scale; the input stays as it was."""
    x = noise(*shape).to(dtype)
    before = x.clone()
    output = dropped(x, 0.5)
    assert (output.shape, output.dtype) == (x.shape, dtype)
    assert bool(((output == 0) | (output == 2 * x)).all())
    assert torch.equal(x, before)


def test_a_transposed_input_is_no_different() -> None:
    """Positions are counted, not places in memory."""
    x = noise(6, 50)
    assert torch.equal(dropped(x.T.contiguous(), 0.3), dropped(x.T, 0.3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_has_the_mask_of_the_forward_pass(dtype: torch.dtype) -> None:
    x = noise(40, 30).to(dtype).requires_grad_()
    output = dropped(x, 0.25)
    incoming = noise(40, 30, seed=1).to(dtype)
    (gradient,) = torch.autograd.grad(output, x, incoming)
    keep = output.detach() != 0
    assert 0 < int((~keep).sum()) < keep.numel()
    expected = torch.where(keep, incoming.double() / 0.75, 0.0)
    torch.testing.assert_close(gradient.double(), expected, atol=1e-12, rtol=4 * torch.finfo(dtype).eps)


def test_the_gradient_of_a_sum_is_the_mask() -> None:
    """A gradient that is one number spread out, as a sum sends it."""
    x = noise(40, 30).requires_grad_()
    output = dropped(x, 0.25)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(gradient, (output.detach() != 0).double() / 0.75, atol=1e-12, rtol=0)


def test_nothing_happens_in_evaluation_or_at_zero_and_all_is_dropped_at_one() -> None:
    x = noise(20)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(dropped(x, 0.0), x)
    assert torch.equal(dropped(x, 1.0), torch.zeros(20, dtype=torch.float64))


def test_the_seed_of_torch_decides() -> None:
    """The same seed gives the same mask, another one another; and two draws in a row differ."""
    x = torch.ones(1000)
    assert torch.equal(dropped(x, 0.5), dropped(x, 0.5))
    assert not torch.equal(dropped(x, 0.5), dropped(x, 0.5, seed=1))
    module = Dropout(0.5)
    assert not torch.equal(module(x), module(x))


BATCH, HEADS, FRAMES, SIZE, SCALE = 3, 2, 11, 6, 0.4
REAL = torch.tensor([11, 7, 1])


def visible_keys(padded: bool) -> Tensor | None:
    """(B, 1, T, T): keys that lie in the clip."""
    if not padded:
        return None
    return (torch.arange(FRAMES) < REAL[:, None])[:, None, None, :].expand(-1, 1, FRAMES, FRAMES)


def inputs() -> list[Tensor]:
    return [noise(BATCH, HEADS, FRAMES, SIZE, seed=seed).requires_grad_() for seed in range(3)]


def softmax_attention(query: Tensor, key: Tensor, visible: Tensor | None) -> Tensor:
    scores = query @ key.transpose(-2, -1) * SCALE
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    return scores.softmax(-1)


def keep_mask(query: Tensor, key: Tensor, visible: Tensor | None, p: float) -> Tensor:
    """Which weights are kept under seed 0: with the identity as values the output is the weights themselves."""
    torch.manual_seed(0)
    identity = torch.eye(FRAMES, dtype=torch.float64).expand(BATCH, HEADS, FRAMES, FRAMES)
    return dropout_attention(query, key, identity, visible, SCALE, p) != 0


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("p", [0.0625, 0.5])
def test_attention_with_dropout_equals_the_slow_one(p: float, padded: bool) -> None:
    """Softmax, mask, product, with autograd's own gradients; padding is neither seen nor given a gradient."""
    query, key, value = inputs()
    visible = visible_keys(padded)
    keep = keep_mask(query, key, visible, p)
    expected = (softmax_attention(query, key, visible) * keep / (1 - p)) @ value
    torch.manual_seed(0)
    found = dropout_attention(query, key, value, visible, SCALE, p)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    incoming = noise(BATCH, HEADS, FRAMES, SIZE, seed=9)
    found_gradients = torch.autograd.grad(found, (query, key, value), incoming)
    expected_gradients = torch.autograd.grad(expected, (query, key, value), incoming)
    torch.testing.assert_close(found_gradients, expected_gradients, atol=1e-12, rtol=1e-10)
    if padded:
        assert float(found_gradients[2][2, :, 1:].abs().sum()) == 0


@pytest.mark.parametrize("padded", [False, True])
def test_attention_without_dropout_equals_the_slow_one(padded: bool) -> None:
    """With p = 0 nothing is drawn, and outputs and gradients are softmax attention's."""
    query, key, value = inputs()
    visible = visible_keys(padded)
    before = torch.get_rng_state()
    found = dropout_attention(query, key, value, visible, SCALE, 0.0)
    assert torch.equal(torch.get_rng_state(), before)
    expected = softmax_attention(query, key, visible) @ value
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    incoming = noise(BATCH, HEADS, FRAMES, SIZE, seed=9)
    found_gradients = torch.autograd.grad(found, (query, key, value), incoming)
    expected_gradients = torch.autograd.grad(expected, (query, key, value), incoming)
    torch.testing.assert_close(found_gradients, expected_gradients, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "frames", "trained", "kept"),
    [
        (torch.bfloat16, 100, True, True),
        (torch.float16, 1024, True, True),
        (torch.bfloat16, 1025, True, False),
        (torch.float32, 100, True, False),
        (torch.bfloat16, 100, False, False),
    ],
)
def test_weights_are_kept_where_that_is_faster(dtype: torch.dtype, frames: int, trained: bool, kept: bool) -> None:
    """Without dropout: in 16 bits, for short clips, in training. With dropout: always, but if all is dropped."""
    query = torch.zeros(1, 1, frames, 2, dtype=dtype).requires_grad_(trained)
    assert keeping_weights_is_faster(query, 0.0) is kept
    assert keeping_weights_is_faster(query, 0.1)
    assert not keeping_weights_is_faster(query, 1.0)
    with torch.no_grad():
        assert not keeping_weights_is_faster(query, 0.0)


@pytest.mark.parametrize("lengths", [None, [12, 5]])
def test_training_in_bfloat16_on_short_clips_has_the_gradients_of_spelled_out_attention(
    lengths: list[int] | None,
) -> None:
    """A module in bfloat16, whose weights are kept, beside the same in float64 by the plain steps."""
    torch.manual_seed(0)
    config = small_config(attention_dropout=0.0)
    module = Wav2Vec2Attention(config).bfloat16().train()
    exact = copy.deepcopy(module).double()
    x = noise(2, 12, 48).bfloat16()
    real = None if lengths is None else torch.arange(12) < torch.tensor(lengths)[:, None]
    found, weights = module(x, mask_for("sdpa", config, x, real), "sdpa")
    assert weights is None and "DropoutAttention" in graph_of(found)
    expected = exact(x.double(), mask_for("eager", config, x.double(), real), "eager")[0]
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=2e-2)
    found.square().sum().backward()
    expected.square().sum().backward()
    for (name, mine), reference in zip(module.named_parameters(), exact.parameters(), strict=True):
        assert mine.grad is not None and reference.grad is not None
        scale = float(reference.grad.abs().max())
        if name != "k_proj.bias":  # whose gradient is zero but for rounding
            assert float((mine.grad.double() - reference.grad).abs().max()) < 0.03 * scale, name


def graph_of(x: Tensor) -> str:
    """The names of all steps that backward would take."""
    names, waiting, seen = [], [x.grad_fn], set()
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen:
            seen.add(step)
            names.append(step.name())
            waiting.extend(before for before, _ in step.next_functions)
    return " ".join(names)


@pytest.mark.slow
def test_gradients_of_attention_are_those_of_finite_differences() -> None:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        torch.manual_seed(0)
        return dropout_attention(query, key, value, visible_keys(padded=True), SCALE, 0.25)

    assert torch.autograd.gradcheck(attend, [x.detach()[:, :1].requires_grad_() for x in inputs()])


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_weights_are_dropped_in_the_right_share(p: float) -> None:
    query, key = (noise(8, 4, 100, 8, seed=seed) for seed in (0, 1))
    identity = torch.eye(100, dtype=torch.float64).expand(8, 4, 100, 100)
    torch.manual_seed(0)
    share = float((dropout_attention(query, key, identity, None, 0.3, p) != 0).double().mean())
    assert share == pytest.approx(1 - p, abs=2**-17 + 5 * math.sqrt(p * (1 - p) / 320_000))


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("lengths", [None, [12, 5]])
def test_attention_has_the_expectation_of_evaluation(implementation: str, lengths: list[int] | None) -> None:
    """Whichever way it is computed: the mean over many draws is what evaluation gives, and single draws differ."""
    torch.manual_seed(0)
    config = small_config(attention_dropout=0.3)
    module = Wav2Vec2Attention(config).double()
    x = noise(2, 12, 48)
    real = None if lengths is None else torch.arange(12) < torch.tensor(lengths)[:, None]
    mask = mask_for(implementation, config, x, real)
    with torch.no_grad():
        expected = module.eval()(x, mask, implementation)[0]
        draws = torch.stack([module.train()(x, mask, implementation)[0] for _ in range(2000)])
    deviation = draws.std(0)
    assert float(deviation.min()) > 0
    assert float(((draws.mean(0) - expected) / deviation).abs().max()) < 5 / math.sqrt(2000)


def train_step(checkpointing: bool | None, architecture: str, seed: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients with every kind of dropout. `checkpointing` is `use_reentrant`, None for none."""
    torch.manual_seed(0)
    rates: dict[str, Any] = {name: 0.2 for name in CALM if name != "layerdrop"}
    model = Wav2Vec2ForCTC(small_config(architecture, **rates, layerdrop=0.4)).train()
    if checkpointing is not None:
        recompute_activations(model, use_reentrant=checkpointing)
    model.set_update(1)
    values, mask = waveforms([8000, 5000])
    torch.manual_seed(seed)
    loss = model(values, mask, labels=torch.tensor([[3, 4], [5, 5]])).loss
    loss.backward()
    return loss.detach(), {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_drops_the_same_twice(use_reentrant: bool, architecture: str) -> None:
    """Loss and gradients with recomputation are those without it, as the masks are drawn again from the same state."""
    loss, gradients = train_step(None, architecture)
    again, recomputed = train_step(use_reentrant, architecture)
    assert torch.equal(loss, again)
    assert set(gradients) == set(recomputed)
    torch.testing.assert_close(recomputed, gradients, atol=1e-6, rtol=1e-5)
    other, _ = train_step(None, architecture, seed=4)
    assert not torch.equal(loss, other)


@pytest.mark.parametrize(
    "place",
    ["hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"],
)
def test_every_rate_of_the_configuration_has_an_effect(place: str) -> None:
    """In training, and there alone."""
    torch.manual_seed(0)
    model = Wav2Vec2Model(small_config(**(CALM | {place: 0.5, "apply_spec_augment": False})))
    values, _ = waveforms([8000])
    with torch.no_grad():
        first, second = (model.train()(values).last_hidden_state for _ in range(2))
        third, fourth = (model.eval()(values).last_hidden_state for _ in range(2))
    assert float((first - second).abs().max()) > 1e-3
    assert torch.equal(third, fourth)


def test_the_rate_before_the_ctc_head_has_an_effect() -> None:
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(**(CALM | {"final_dropout": 0.5, "apply_spec_augment": False}))).train()
    values, _ = waveforms([8000])
    assert float((model(values).logits - model(values).logits).abs().max().detach()) > 1e-3


def gradient_penalty(attention: str, rate: float) -> dict[str, Tensor]:
    """Gradients of the square of the gradient with respect to the waveform: a second derivative."""
    torch.manual_seed(0)
    rates: dict[str, Any] = {name: rate for name in CALM if name != "layerdrop"}
    model = Wav2Vec2Model(small_config(**(CALM | rates), apply_spec_augment=False)).double().train()
    model.set_attn_implementation(attention)
    values = waveforms([3000])[0].double().requires_grad_()
    state = model(values).last_hidden_state
    (gradient,) = torch.autograd.grad((state * noise(*state.shape)).sum(), values, create_graph=True)
    gradient.square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_second_derivatives_go_through_dropout() -> None:
    """At a rate that is rounded to nothing, they are those of a model without dropout."""
    expected, found = gradient_penalty("eager", 0.0), gradient_penalty("eager", 1e-12)
    assert float(expected["encoder.layers.0.attention.q_proj.weight"].abs().max()) > 1e-6
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_a_second_derivative_of_attention_with_dropout_is_refused() -> None:
    """Rather than silently another number."""
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient_penalty("sdpa", 1e-12)
