"""With the same weights, the model and its heads give what stock Transformers gives, and the same gradients."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from fast_cases import fast_cases
from small_models import CALM
from stock_twins import (
    TOLERANCE,
    VARIANTS,
    assert_same,
    assert_same_gradients,
    batch,
    norm_over_padding,
    own_config,
    real_logits,
    stock_config,
    twins,
)
from torch import Tensor
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

import wav2vec2
from wav2vec2.modeling.span_masking import draw_time_mask

everywhere = pytest.mark.parametrize("variant", fast_cases(VARIANTS, "base", "large_lv60k", "strided_adapter"))
both_precisions = pytest.mark.parametrize(
    "dtype", fast_cases([torch.float64, torch.float32], torch.float64), ids=["float64", "float32"]
)
both_attentions = pytest.mark.parametrize("attention", ["eager", "sdpa"])
with_and_without_mask = pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])


def weigh(*tensors: Tensor) -> Tensor:
    """A scalar that depends on every entry in its own way, so that no error in a gradient cancels."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype) for t in tensors]
    return torch.stack([(t * w).sum() for t, w in zip(tensors, weights, strict=True)]).sum()


@everywhere
@both_precisions
@both_attentions
@with_and_without_mask
def test_every_layer_is_stocks(variant: str, dtype: torch.dtype, attention: str, masked: bool) -> None:
    """Convolutions, every layer, the output, and the attention weights where there are some; padding included, which is
    computed where a gradient may be asked for (`test_length_groups.py` compares what is computed without)."""
    stock, ours = twins("Wav2Vec2Model", variant, dtype, attention, norm_over_padding(variant, masked))
    values, mask = batch(dtype, masked)
    wanted = {"output_hidden_states": True, "output_attentions": attention == "eager"}
    theirs, found = stock(values, attention_mask=mask, **wanted), ours(values, attention_mask=mask, **wanted)
    tolerance = TOLERANCE[dtype]
    assert_same(found.extract_features, theirs.extract_features, tolerance, "extract_features")
    assert len(found.hidden_states) == len(theirs.hidden_states) == stock.config.num_hidden_layers + 1
    for index, (own, other) in enumerate(zip(found.hidden_states, theirs.hidden_states, strict=True)):
        assert_same(own, other, tolerance, f"hidden state {index}")
    assert_same(found.last_hidden_state, theirs.last_hidden_state, tolerance, "last_hidden_state")
    if attention == "eager":
        assert len(found.attentions) == len(theirs.attentions) == stock.config.num_hidden_layers
        for index, (own, other) in enumerate(zip(found.attentions, theirs.attentions, strict=True)):
            assert_same(own, other, tolerance, f"attention {index}")


@everywhere
@both_precisions
@both_attentions
@with_and_without_mask
def test_every_gradient_is_stocks(variant: str, dtype: torch.dtype, attention: str, masked: bool) -> None:
    """Through the whole model in training mode, from both of its outputs."""
    fields = norm_over_padding(variant, masked)
    no_chance = CALM | {"apply_spec_augment": False}
    stock, ours = twins("Wav2Vec2Model", variant, dtype, attention, fields, **no_chance)
    values, mask = batch(dtype, masked)
    for model in (stock.train(), ours.train()):
        outputs = model(values, attention_mask=mask)
        weigh(outputs.last_hidden_state, outputs.extract_features).backward()
    assert_same_gradients(ours, stock)


@pytest.mark.parametrize("variant", ["base", "base_conv_bias", "strided_adapter"])
def test_padding_counts_as_in_stock_when_asked(variant: str) -> None:
    """With `padding_invariant_norm=False` even noise in the padding does to a result what it does to stock's."""
    stock, ours = twins("Wav2Vec2Model", variant, own_fields={"padding_invariant_norm": False})
    values, mask = batch()
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(2), dtype=values.dtype)
    with torch.no_grad():
        quiet = ours(values, attention_mask=mask).last_hidden_state
        found = ours(noise, attention_mask=mask).last_hidden_state
        assert_same(found, stock(noise, attention_mask=mask).last_hidden_state, 1e-9)
    assert (found - quiet).abs().max() > 1e-3  # it does something


def test_attention_weights_are_given_whatever_attends() -> None:
    """Stock's sdpa leaves them out without a word; here that pass runs eager, and is eager's bit for bit."""
    stock, ours = twins("Wav2Vec2Model", attention="sdpa")
    _, eager = twins("Wav2Vec2Model", attention="eager")
    values, mask = batch()
    with torch.no_grad():
        assert not stock(values, output_attentions=True).attentions
        found = ours(values, mask, output_attentions=True)
        expected = eager(values, mask, output_attentions=True)
    assert len(found.attentions) == 3 and mask is not None
    real = ours._get_feature_vector_attention_mask(18, mask)
    for own, other in zip(found.attentions, expected.attentions, strict=True):
        assert torch.equal(own, other)
        assert_same(own.sum(-1), real[:, None].expand(-1, 4, -1).double(), 1e-9)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


def test_x_vectors_in_a_batch_are_those_of_single_clips() -> None:
    """Stock counts the frames behind dilated layers as if they had no dilation, so its pooling takes in padding."""
    stock, ours = twins("Wav2Vec2ForXVector", "large_lv60k")
    values, mask = batch()
    assert mask is not None
    lengths = mask.sum(1).tolist()
    with torch.no_grad():
        alone = torch.cat([ours(values[i : i + 1, :length]).embeddings for i, length in enumerate(lengths)])
        of_stock = torch.cat([stock(values[i : i + 1, :length]).embeddings for i, length in enumerate(lengths)])
        assert_same(alone, of_stock, 1e-9, "single clips")
        assert_same(ours(values, attention_mask=mask).embeddings, alone, 1e-9, "batch")
        stray = (stock(values, attention_mask=mask).embeddings - alone).abs().amax(1) / alone.abs().amax(1)
    assert stray[0] < 1e-9  # the longest clip has no padding
    assert (stray[1:] > 1e-3).all()


def test_x_vector_gradients_under_a_mask_are_those_of_single_clips() -> None:
    """The loss of a batch is the mean over its clips: so are its gradients, parameter by parameter."""
    _, ours = twins("Wav2Vec2ForXVector", "large_lv60k", num_labels=2)
    values, mask = batch()
    assert mask is not None
    speakers = torch.tensor([1, 0, 1])
    ours(values, attention_mask=mask, labels=speakers).loss.backward()
    together = {name: p.grad for name, p in ours.named_parameters()}
    ours.zero_grad()
    for i, length in enumerate(mask.sum(1).tolist()):
        (ours(values[i : i + 1, :length], labels=speakers[i : i + 1]).loss / 3).backward()
    largest = max(p.grad.abs().max().item() for p in ours.parameters())
    for name, parameter in ours.named_parameters():
        assert together[name] is not None
        assert (together[name] - parameter.grad).abs().max().item() <= 1e-9 * largest, name


@everywhere
def test_a_given_mask_of_frames_is_applied_as_in_stock(variant: str) -> None:
    """The mask embedding takes the place of the same frames, and has the same gradient."""
    stock, ours = twins("Wav2Vec2Model", variant)
    values, _ = batch(masked=False)
    frames = torch.rand(3, 18, generator=torch.Generator().manual_seed(3)) < 0.4
    for model in (stock, ours):
        weigh(model(values, mask_time_indices=frames).last_hidden_state).backward()
    assert ours.masked_spec_embed.grad.abs().max() > 0
    assert_same_gradients(ours, stock)


@pytest.mark.parametrize("head", ["Wav2Vec2Model", "Wav2Vec2ForCTC", "Wav2Vec2ForXVector"])
def test_tuples_have_stocks_order(head: str) -> None:
    """`return_dict=False` gives stock's tensors at stock's places; what only ours has comes behind them."""
    stock, ours = twins(head, attention="eager")
    values, _ = batch(masked=False)
    wanted = {"return_dict": False, "output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        theirs, found = stock(values, **wanted), ours(values, **wanted)
    assert len(theirs) > 2
    for own, other in zip(found[: len(theirs)], theirs, strict=True):
        for one, another in zip(_flat(own), _flat(other), strict=True):
            assert_same(one, another, 1e-9)


def _flat(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("lengths", [[1], [399, 400, 401], list(range(320, 16000, 777))])
def test_frames_are_counted_as_in_stock(lengths: list[int]) -> None:
    """The same number of frames, except that ours never counts fewer than none."""
    for variant in ("base", "strided_adapter"):
        stock, ours = twins("Wav2Vec2Model", variant)
        samples = torch.tensor(lengths)
        theirs = stock._get_feat_extract_output_lengths(samples)
        assert ours._get_feat_extract_output_lengths(samples).tolist() == theirs.clamp(min=0).tolist()
        assert [ours._get_feat_extract_output_lengths(s) for s in lengths] == theirs.clamp(min=0).tolist()


def test_a_configuration_of_stocks_makes_our_model() -> None:
    """The classes take stock's own configuration object and compute the same from it."""
    config = stock_config("mms", attn_implementation="eager")
    ours = wav2vec2.Wav2Vec2ForCTC(config).eval()
    stock = transformers.Wav2Vec2ForCTC(config).eval()
    ours.load_state_dict(stock.state_dict())
    values, mask = batch(torch.float32)
    assert mask is not None
    assert type(ours.config) is wav2vec2.Wav2Vec2Config and ours.config._attn_implementation == "eager"
    with torch.no_grad():
        real = real_logits(ours, mask)
        assert_same(ours(values, mask).logits[real], stock(values, mask).logits[real], 1e-5)


UNUSUAL: dict[str, dict[str, Any]] = {
    "empty_adapter": {"add_adapter": True, "num_adapter_layers": 0},
    "empty_adapter_of_another_width": {"add_adapter": True, "num_adapter_layers": 0, "output_hidden_size": 20},
    "no_layer": {"num_hidden_layers": 0},
    "no_epsilon": {"layer_norm_eps": 0.0},
    "language_adapters_without_a_place": {"adapter_attn_dim": 6},
    "no_padding_token": {"pad_token_id": -1},
}


@pytest.mark.parametrize("overrides", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_only_unusual_works_as_in_stock(overrides: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The same tensors by the same names, and the same output; what stock leaves out without a word is told."""
    caplog.set_level("WARNING", logger="wav2vec2")
    stock, ours = twins("Wav2Vec2Model", **overrides)
    values, _ = batch(masked=False)
    with torch.no_grad():
        assert_same(ours(values).last_hidden_state, stock(values).last_hidden_state, 1e-9)
    told = [record for record in caplog.records if "no language adapters" in record.getMessage()]
    assert len(told) == ("adapter_attn_dim" in overrides)


def test_a_share_of_masked_frames_above_one_is_as_one() -> None:
    """There are never more spans than fit side by side, here as in stock."""
    masks = []
    for probability in (1.0, 1.2):
        _, model = twins("Wav2Vec2Model", mask_time_prob=probability)
        masks.append(draw_time_mask(model.config, torch.full((20,), 300), 300, torch.Generator().manual_seed(0)))
        np.random.seed(0)
        of_stock = [_compute_mask_indices((1, 300), probability, 3).mean() for _ in range(20)]
        assert float(masks[-1].double().mean()) == pytest.approx(np.mean(of_stock), abs=0.02)
    assert torch.equal(masks[0], masks[1])


def test_every_field_of_stocks_configuration_exists_with_its_default() -> None:
    """Names and defaults are stock's."""
    theirs, found = transformers.Wav2Vec2Config().to_dict(), wav2vec2.Wav2Vec2Config().to_dict()
    assert {name: found[name] for name in theirs} == theirs
    assert own_config().to_dict().items() >= stock_config().to_dict().items()
