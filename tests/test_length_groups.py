"""Without a gradient a padded batch runs in groups of like length: the same outputs, hardly any padding computed."""

from itertools import combinations
from typing import Any
from unittest import mock

import pytest
import torch
from fast_cases import fast_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ARCHITECTURES, CALM, HEADS, small_config, waveforms
from stock_twins import LENGTHS as STOCK_LENGTHS
from stock_twins import VARIANTS, assert_same, batch, twins
from torch import Tensor

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2ForSequenceClassification, Wav2Vec2Model
from wav2vec2.modeling import length_groups
from wav2vec2.modeling.length_groups import GroupCost, cheapest_ends

#: Nothing, one sample, just under the receptive field and on it; 3 to 25 frames, two of them twice.
LENGTHS = [300, 1000, 0, 8123, 5000, 399, 1, 8123, 5000, 400, 4999]

ADAPTERS: dict[str, dict[str, Any]] = {
    "no_adapter": {},
    "adapter": {"add_adapter": True, "output_hidden_size": 20, "num_adapter_layers": 2},
    "adapter_without_overlap": {"add_adapter": True, "adapter_stride": 3, "num_adapter_layers": 1},
}

#: Groups that cost nothing: every length is one.
FREE = GroupCost(at_least=0.0, each=1e-6)


def build(head: Any, architecture: str = "base", **overrides: Any) -> Any:
    torch.manual_seed(0)
    return head(small_config(architecture, **(CALM | {"attn_implementation": "sdpa"} | overrides))).eval()


def first_layer_calls(model: Any, inputs: dict[str, Any], gradient: bool) -> tuple[Any, list[tuple[int, int]]]:
    """What the model says, and the (clips, frames) that its first Transformer layer was called with."""
    shapes: list[tuple[int, int]] = []
    body = getattr(model, "wav2vec2", model)
    layer = body.encoder.layers[0]
    handle = layer.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape[:2])))
    with torch.set_grad_enabled(gradient):
        output = model(**inputs)
    handle.remove()
    return output, shapes


def flattened(output: Any) -> dict[str, Tensor]:
    """Every tensor of an output, by field and layer."""
    found = {}
    for name, value in output.items():
        for number, tensor in enumerate(value if isinstance(value, tuple) else (value,)):
            found[f"{name} {number}"] = tensor.detach()
    return found


def assert_equal_at_real_frames(model: Any, found: Any, expected: Any, lengths: list[int], tolerance: float) -> None:
    """Equal shapes and dtypes everywhere, equal values at all real frames, zeros (or a head's own) beyond."""
    cut, whole = flattened(found), flattened(expected)
    assert cut.keys() == whole.keys() and len(cut) > 0
    for name, theirs in whole.items():
        ours = cut[name]
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name
        assert bool(ours.isfinite().all()), name
        of_body = name.startswith(("last_hidden_state", "hidden_states", "attentions", "extract_features"))
        for row, length in enumerate(lengths):
            behind = name.startswith(("last_hidden_state", "logits"))
            frames = model._get_feat_extract_output_lengths(length, add_adapter=None if behind else False)
            own, other = ours[row], theirs[row]
            if name.startswith("attentions"):
                own, other = own[:, :frames], other[:, :frames]
            elif theirs.dim() == 3:
                assert not (of_body and own[frames:].any()), name
                own, other = own[:frames], other[:frames]
            torch.testing.assert_close(own, other, atol=tolerance, rtol=tolerance, msg=name)


@pytest.mark.parametrize("adapter", fast_cases(ADAPTERS, "no_adapter", "adapter"))
@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "base", "mms"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_groups_give_what_the_whole_batch_gives(
    architecture: str, adapter: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer and every attention weight too. With a gradient the same batch is computed as one."""
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    model = build(Wav2Vec2Model, architecture, **ADAPTERS[adapter]).to(dtype)
    values, mask = waveforms(LENGTHS)
    inputs: dict[str, Any] = {"input_values": values.to(dtype), "attention_mask": mask}
    for wanted in ({}, {"output_hidden_states": True, "output_attentions": True}):
        expected, once = first_layer_calls(model, inputs | wanted, gradient=True)
        found, calls = first_layer_calls(model, inputs | wanted, gradient=False)
        assert once == [(11, 25)]
        assert calls == [(5, 1), (1, 2), (1, 15), (2, 15), (2, 25)]
        assert_equal_at_real_frames(model, found, expected, LENGTHS, 1e-5 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("head", [head for head in HEADS if head is not Wav2Vec2Model])
def test_every_head_profits(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretraining too, where it is asked for features and has no mask."""
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    model = build(head)
    values, mask = waveforms(LENGTHS)
    inputs: dict[str, Any] = {"input_values": values, "attention_mask": mask, "output_hidden_states": True}
    expected, _ = first_layer_calls(model, inputs, gradient=True)
    found, calls = first_layer_calls(model, inputs, gradient=False)
    assert len(calls) == 5
    if head is Wav2Vec2ForPreTraining:
        for own, other, length in zip(found.projected_states, expected.projected_states, LENGTHS, strict=True):
            frames = model._get_feat_extract_output_lengths(length)
            torch.testing.assert_close(own[:frames], other[:frames], atol=1e-5, rtol=0)
    else:
        assert_equal_at_real_frames(model, found, expected, LENGTHS, 1e-5)


def test_a_weighted_sum_of_layers_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    model = build(Wav2Vec2ForSequenceClassification, use_weighted_layer_sum=True)
    values, mask = waveforms(LENGTHS)
    expected = model(values, mask).logits.detach()
    with torch.inference_mode():
        torch.testing.assert_close(model(values, mask).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", fast_cases(VARIANTS, "base", "large_lv60k"))
def test_real_frames_are_stocks(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch, where padding does not count in stock either; of each clip alone where it does."""
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    stock, ours = twins("Wav2Vec2Model", variant)
    values, mask = batch()
    inputs = {"input_values": values, "attention_mask": mask, "output_hidden_states": True}
    found, calls = first_layer_calls(ours, inputs, gradient=False)
    assert calls == [(1, 7), (1, 12), (1, 18)]
    for row, length in enumerate(STOCK_LENGTHS):
        with torch.no_grad():
            alone = stock(values[row : row + 1, :length], output_hidden_states=True)
        for own, other in zip(found.hidden_states, alone.hidden_states, strict=True):
            assert_same(own[row, : other.shape[1]], other[0], 1e-9)
        theirs = alone.last_hidden_state[0]
        assert_same(found.last_hidden_state[row, : len(theirs)], theirs, 1e-9)


@pytest.mark.parametrize(
    "lengths",
    [[4000], [4000, 4000], [8000, 4000, 0], [0, 0], [300, 0, 100], [399, 400], [4000, 4001, 4002]],
    ids=lambda lengths: "-".join(map(str, lengths)),
)
@pytest.mark.parametrize("wider", [0, 700])
@pytest.mark.parametrize("cost", [FREE, GroupCost(at_least=100.0, each=1.0)], ids=["apart", "together"])
def test_any_batch(lengths: list[int], wider: int, cost: GroupCost, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip, clips of one length, of none, and batches that are wider than their longest clip."""
    monkeypatch.setattr(length_groups, "_ON_CPU", cost)
    values, mask = (torch.nn.functional.pad(x, (0, wider)) for x in waveforms(lengths))
    for architecture, adapter in (("base", {}), ("large_lv60k", {}), ("base", ADAPTERS["adapter"])):
        model = build(Wav2Vec2Model, architecture, **adapter)
        inputs = {
            "input_values": values,
            "attention_mask": mask,
            "output_hidden_states": True,
            "output_attentions": True,
        }
        expected, _ = first_layer_calls(model, inputs, gradient=True)
        found, _ = first_layer_calls(model, inputs, gradient=False)
        assert_equal_at_real_frames(model, found, expected, lengths, 1e-5)


@pytest.mark.parametrize("left", [False, True], ids=["holes", "left"])
def test_padding_may_stand_anywhere(left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    model = build(Wav2Vec2Model, "large_lv60k")
    values, mask = waveforms([8000, 3000, 5000])
    if left:
        values, mask = values.flip(1), mask.flip(1)
    else:
        mask = mask * (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.8).long()
        values = values.masked_fill(mask == 0, float("nan"))
    inputs = {"input_values": values, "attention_mask": mask}
    expected, _ = first_layer_calls(model, inputs, gradient=True)
    found, calls = first_layer_calls(model, inputs, gradient=False)
    assert len(calls) == 3
    assert_equal_at_real_frames(model, found, expected, mask.sum(1).tolist(), 1e-5)


def test_bfloat16_differs_by_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are no further from float32 than the whole batch is."""
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    values, mask = waveforms([16000, 9000, 4000])
    exact = build(Wav2Vec2ForCTC, "large_lv60k")(values, mask).logits.detach()
    rough = build(Wav2Vec2ForCTC, "large_lv60k").bfloat16()
    inputs = {"input_values": values.bfloat16(), "attention_mask": mask}
    whole, cut = (first_layer_calls(rough, inputs, gradient)[0].logits for gradient in (True, False))
    real = torch.arange(exact.shape[1]) < rough._get_feat_extract_output_lengths(mask.sum(1))[:, None]
    assert cut.dtype == torch.bfloat16
    far = [(logits.detach().float() - exact)[real].abs().max().item() for logits in (whole, cut)]
    assert 0 < far[1] < 1.5 * far[0]


def test_hardly_any_padding_is_computed() -> None:
    """16 unsorted clips of 1 to 20 s: frames of the first layer, all calls together, against real frames."""
    model = build(Wav2Vec2ForCTC, conv_dim=(4,) * 7, num_hidden_layers=1)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).tolist()
    values, mask = waveforms([16_000 + 19 * 16_000 * place // 15 for place in order])
    inputs = {"input_values": values, "attention_mask": mask}
    _, calls = first_layer_calls(model, inputs, gradient=False)
    _, once = first_layer_calls(model, inputs, gradient=True)
    real = int(model._get_feat_extract_output_lengths(mask.sum(1)).sum())
    assert sum(clips * frames for clips, frames in calls) <= 1.1 * real
    assert sum(clips * frames for clips, frames in once) > 1.8 * real


def test_few_large_groups_on_an_accelerator() -> None:
    """64 clips of 1 to 20 s: no group is small for the device, and padding stays under a fifth of the audio."""
    seconds = sorted(1 + 19 * place / 63 for place in range(64))
    ends = cheapest_ends(seconds, length_groups._ON_ACCELERATOR)
    begins = [0, *ends[:-1]]
    computed = [(end - begin) * seconds[end - 1] for begin, end in zip(begins, ends, strict=True)]
    assert 3 <= len(ends) <= 10
    assert min(computed) >= 0.8 * length_groups._ON_ACCELERATOR.at_least
    assert sum(computed) <= 1.2 * sum(seconds)
    assert cheapest_ends([3.0, 10.0], length_groups._ON_ACCELERATOR) == [2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.025, 30), min_size=1, max_size=7),
    st.floats(0, 60),
    st.floats(1e-3, 10),
)
def test_no_other_cut_is_cheaper(seconds: list[float], at_least: float, each: float) -> None:
    """Of all ways to cut, tried one after the other."""
    seconds = sorted(seconds)

    def price(ends: tuple[int, ...]) -> float:
        begins = (0, *ends[:-1])
        held = [(end - begin) * seconds[end - 1] for begin, end in zip(begins, ends, strict=True)]
        return sum(max(audio, at_least) + each for audio in held)

    cuts = range(1, len(seconds))
    every = [(*inner, len(seconds)) for count in range(len(seconds)) for inner in combinations(cuts, count)]
    found = cheapest_ends(seconds, GroupCost(at_least, each))
    assert price(tuple(found)) == pytest.approx(min(map(price, every)))


def test_what_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, a gradient, masked frames, several processes, padding that counts as in stock; no mask at all."""
    monkeypatch.setattr(length_groups, "_ON_CPU", FREE)
    values, mask = waveforms([8000, 4000])
    inputs: dict[str, Any] = {"input_values": values, "attention_mask": mask}
    model, whole = build(Wav2Vec2Model, apply_spec_augment=False), [(2, 24)]
    assert first_layer_calls(model, inputs, gradient=False)[1] == [(1, 12), (1, 24)]
    assert first_layer_calls(model, inputs, gradient=True)[1] == whole
    masked = {"mask_time_indices": torch.zeros(2, 24, dtype=torch.bool)}
    assert first_layer_calls(model, inputs | masked, gradient=False)[1] == whole
    assert first_layer_calls(model, {"input_values": values}, gradient=False)[1] == whole
    with (
        mock.patch.object(torch.distributed, "is_initialized", return_value=True),
        mock.patch.object(torch.distributed, "get_world_size", return_value=2),
    ):
        assert first_layer_calls(model, inputs, gradient=False)[1] == whole
    assert first_layer_calls(model.train(), inputs, gradient=False)[1] == whole
    for architecture in ("base", "large_lv60k"):
        as_stock = build(Wav2Vec2Model, architecture, padding_invariant_norm=False)
        assert first_layer_calls(as_stock, inputs, gradient=False)[1] == whole


def test_nothing_is_asked_where_there_are_no_values() -> None:
    model = build(Wav2Vec2Model).to("meta")
    values, mask = (x.to("meta") for x in waveforms([8000, 4000]))
    with torch.no_grad():
        assert model(values, attention_mask=mask).last_hidden_state.shape == (2, 24, 48)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*is deprecated:DeprecationWarning")
def test_a_traced_model_is_no_model_of_the_lengths_it_was_traced_with() -> None:
    """The trace of a batch of two lengths gives what the model gives for two others."""
    model = build(Wav2Vec2ForCTC, "large_lv60k").requires_grad_(False)
    with torch.no_grad():
        traced = torch.jit.trace(lambda x, m: model(x, m).logits, waveforms([16000, 5000]), check_trace=False)
        for lengths in ([16000, 5000], [5000, 16000]):
            values, mask = waveforms(lengths)
            torch.testing.assert_close(traced(values, mask), model(values, mask).logits, atol=1e-5, rtol=0)
