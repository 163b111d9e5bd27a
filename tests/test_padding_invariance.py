"""A clip's result never depends on what it is batched with, nor on what stands in its padding."""

from typing import Any

import pytest
import torch
from fast_cases import fast_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_checkpoints import RATE, noise, processor, talkative_model
from small_models import ARCHITECTURES, CALM, small_config, waveforms
from stock_twins import assert_same, twins
from torch import Tensor

from wav2vec2 import (
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
)

#: Each head, and those of its outputs that belong to a clip or to a frame.
HEADS: dict[Any, tuple[str, ...]] = {
    Wav2Vec2Model: ("last_hidden_state", "extract_features"),
    Wav2Vec2ForPreTraining: ("projected_states", "projected_quantized_states"),
    Wav2Vec2ForCTC: ("logits",),
    Wav2Vec2ForSequenceClassification: ("logits",),
    Wav2Vec2ForAudioFrameClassification: ("logits",),
    Wav2Vec2ForXVector: ("logits", "embeddings"),
}

#: Nothing, one sample, just under the receptive field and on it, and clips of 3 to 25 frames.
LENGTHS = [300, 1000, 0, 8123, 399, 1, 5000, 400]

#: Heads that can stand on the convolutional adapter, and the widths it can have.
ADAPTERS: list[dict[str, Any]] = [
    {"add_adapter": True},
    {"add_adapter": True, "output_hidden_size": 20, "num_adapter_layers": 2},
    {"add_adapter": True, "adapter_kernel_size": 5, "adapter_stride": 3, "num_adapter_layers": 1},
]


def build(head: Any, architecture: str = "base", **overrides: Any) -> Any:
    """A small model in evaluation mode, the same at every call."""
    attention = overrides.pop("attention", "sdpa")
    torch.manual_seed(0)
    config = small_config(architecture, **(CALM | overrides))
    config._attn_implementation = attention
    return head(config).eval()


def arguments_for(model: Any, values: Tensor) -> dict[str, Any]:
    """Pretraining gets an empty mask, so that it compares every frame as it is; no other head needs anything."""
    if not isinstance(model, Wav2Vec2ForPreTraining):
        return {}
    frames = max(model._get_feat_extract_output_lengths(values.shape[1]), 0)
    shape = (values.shape[0], frames)
    return {
        "mask_time_indices": torch.zeros(shape, dtype=torch.bool),
        "sampled_negative_indices": torch.arange(shape[0])[:, None, None] * frames
        + torch.zeros(*shape, 2, dtype=torch.long),
    }


def results(model: Any, values: Tensor, mask: Tensor | None, lengths: list[int]) -> list[dict[str, Tensor]]:
    """What the model says of each clip: its valid frames of every output. All outputs are finite, padding included."""
    values = values.to(next(model.parameters()).dtype)
    with torch.no_grad():
        outputs = model(values, attention_mask=mask, **arguments_for(model, values))
    names = HEADS[type(model)]
    assert all(bool(outputs[name].isfinite().all()) for name in names)
    per_clip = []
    for row, length in enumerate(lengths):
        said = {}
        for name in names:
            on_features = name == "extract_features"
            frames = model._get_feat_extract_output_lengths(length, add_adapter=False if on_features else None)
            said[name] = outputs[name][row, :frames] if outputs[name].dim() == 3 else outputs[name][row]
        per_clip.append(said)
    return per_clip


def assert_batch_equals_singles(model: Any, tolerance: float) -> None:
    values, mask = waveforms(LENGTHS)
    batch = results(model, values, mask, LENGTHS)
    for row, length in enumerate(LENGTHS):
        (single,) = results(model, values[row : row + 1, :length], None, [length])
        for name, expected in single.items():
            assert batch[row][name].shape == expected.shape
            torch.testing.assert_close(batch[row][name], expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "base", "mms"))
@pytest.mark.parametrize("head", HEADS)
def test_a_batch_equals_its_clips(head: Any, architecture: str) -> None:
    """In float32 as promised, in float64 to rounding: the small difference is rounding and nothing else."""
    model = build(head, architecture)
    assert_batch_equals_singles(model, 1e-4)
    assert_batch_equals_singles(model.double(), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS, ids=["same_width", "narrow", "wide_kernel"])
@pytest.mark.parametrize("head", [Wav2Vec2Model, Wav2Vec2ForCTC])
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_a_batch_equals_its_clips_after_the_adapter(head: Any, architecture: str, adapter: dict[str, Any]) -> None:
    model = build(head, architecture, **adapter)
    assert_batch_equals_singles(model, 1e-4)
    assert_batch_equals_singles(model.double(), 1e-9)


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("head", [head for head in HEADS if head is not Wav2Vec2ForPreTraining])
def test_a_batch_equals_its_clips_in_training(head: Any, architecture: str) -> None:
    """With everything random switched off, training computes what evaluation does, for batches too.

    Pretraining is left out: there the choice of codes is random, so the order of draws is that of the batch.
    """
    model = build(head, architecture, apply_spec_augment=False)
    values, mask = waveforms(LENGTHS)
    evaluated = results(model, values, mask, LENGTHS)
    trained = results(model.train(), values, mask, LENGTHS)
    torch.testing.assert_close(trained, evaluated, atol=1e-5, rtol=0)
    assert_batch_equals_singles(model, 1e-4)


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_every_layer_of_a_batch_equals_those_of_its_clips(architecture: str) -> None:
    model = build(Wav2Vec2Model, architecture)
    values, mask = waveforms(LENGTHS)
    with torch.no_grad():
        batch = model(values, attention_mask=mask, output_hidden_states=True).hidden_states
        for row, length in enumerate(LENGTHS):
            frames = model._get_feat_extract_output_lengths(length)
            single = model(values[row : row + 1, :length], output_hidden_states=True).hidden_states
            assert len(single) == len(batch) == model.config.num_hidden_layers + 1
            for ours, theirs in zip(batch, single, strict=True):
                torch.testing.assert_close(ours[row, :frames], theirs[0], atol=1e-4, rtol=0)


def test_weighted_layers_of_a_batch_equal_those_of_its_clips() -> None:
    assert_batch_equals_singles(build(Wav2Vec2ForSequenceClassification, use_weighted_layer_sum=True), 1e-4)


def test_the_contrastive_loss_of_a_batch_is_the_sum_over_its_clips() -> None:
    """Losses are sums over masked frames, so parts add up; the diversity loss alone looks at the batch as one."""
    model = build(Wav2Vec2ForPreTraining).double()
    lengths = [8000, 4000, 100]
    values, mask = waveforms(lengths)
    frames = [model._get_feat_extract_output_lengths(length) for length in lengths]
    masked = torch.zeros(3, frames[0], dtype=torch.bool)
    masked[0, 3:9], masked[1, 2:7] = True, True
    generator = torch.Generator().manual_seed(0)
    distractors = torch.randint(2, 7, (3, frames[0], 10), generator=generator)
    numbered = distractors + torch.arange(3)[:, None, None] * frames[0]
    with torch.no_grad():
        whole = model(values.double(), mask, masked, numbered)
        parts = [
            model(
                values[row : row + 1, :length].double(),
                mask_time_indices=masked[row : row + 1, : frames[row]],
                sampled_negative_indices=distractors[row : row + 1, : frames[row]],
            )
            for row, length in enumerate(lengths)
        ]
    total = torch.stack([part.contrastive_loss for part in parts]).sum()
    assert float(whole.contrastive_loss) > 1
    torch.testing.assert_close(whole.contrastive_loss, total, atol=1e-9, rtol=0)
    assert float(parts[2].contrastive_loss) == 0  # 100 samples hold no frame


def whole_rows(logits: Tensor) -> list[str]:
    """As users decode: rows of a batch as they are."""
    decoded: list[str] = processor().batch_decode(logits.argmax(-1))
    return decoded


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_decodes_to_the_text_of_its_clips(architecture: str) -> None:
    """Through `batch_decode`, which knows no lengths. The model writes letters into padding if it is left alone."""
    model = talkative_model(architecture)
    clips = [noise(seconds, seed) for seed, seconds in enumerate((2.0, 0.5, 0.01, 1.3))]
    inputs = processor()(clips, sampling_rate=RATE, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        alone = [
            whole_rows(model(values[None, : int(mask.sum())]).logits)[0]
            for values, mask in zip(inputs["input_values"], inputs["attention_mask"], strict=True)
        ]
        unchanged = model.train()(**inputs).logits
    assert whole_rows(logits) == alone == whole_rows(logits.half())
    assert alone[2] == "" and min(len(alone[row]) for row in (0, 1, 3)) > 3
    assert whole_rows(unchanged) != alone


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("overrides", [{}, {"pad_token_id": 7}, ADAPTERS[1]], ids=["", "another_blank", "adapter"])
def test_frames_beyond_a_clip_are_certain_blanks(overrides: dict[str, Any], dtype: torch.dtype) -> None:
    """Finite, and by argmax and softmax nothing but blank, after a cast to half precision too."""
    model = build(Wav2Vec2ForCTC, **overrides).to(dtype)
    values, mask = waveforms(LENGTHS)
    with torch.no_grad():
        logits = model(values.to(dtype), attention_mask=mask).logits
    assert logits.dtype == dtype
    certain = torch.zeros(model.config.vocab_size)
    certain[model.config.pad_token_id] = 1
    for row, length in enumerate(model._get_feat_extract_output_lengths(mask.sum(1)).tolist()):
        for beyond in (logits[row, length:], logits[row, length:].half(), logits[row, length:].bfloat16()):
            assert bool(beyond.isfinite().all())
            assert torch.equal(beyond.softmax(-1), certain.expand_as(beyond).to(beyond.dtype))
        assert length == 0 or float(logits[row, :length].abs().max()) < 100


def test_the_loss_does_not_see_the_blanks_beyond_a_clip() -> None:
    """In evaluation too, loss and gradients are those of the model's own logits."""
    values, mask = waveforms([8123, 5000])
    labels = torch.tensor([[3, 4], [5, 6]])
    model = build(Wav2Vec2ForCTC, apply_spec_augment=False)
    evaluated = gradients(model, input_values=values, attention_mask=mask, labels=labels)
    trained = gradients(model.train(), input_values=values, attention_mask=mask, labels=labels)
    assert float(evaluated["lm_head.bias"].abs().max()) > 0
    torch.testing.assert_close(evaluated, trained, atol=1e-6, rtol=1e-5)


CONTENTS = {
    "noise": lambda size: torch.randn(size, generator=torch.Generator().manual_seed(5)),
    "huge": lambda size: torch.full((size,), 3e38),
    "not_a_number": lambda size: torch.full((size,), float("nan")),
    "infinite": lambda size: torch.full((size,), float("inf")),
}


def with_padding(values: Tensor, mask: Tensor, content: str) -> Tensor:
    filled = values.clone()
    filled[mask == 0] = CONTENTS[content](int((mask == 0).sum()))
    return filled


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "base", "mms"))
def test_what_stands_in_the_padding_changes_nothing(architecture: str, content: str) -> None:
    model = build(Wav2Vec2Model, architecture)
    values, mask = waveforms(LENGTHS)
    clean = results(model, values, mask, LENGTHS)
    filled = results(model, with_padding(values, mask, content), mask, LENGTHS)
    torch.testing.assert_close(filled, clean, atol=0, rtol=0)


def gradients(model: Any, **inputs: Any) -> dict[str, Tensor]:
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("architecture", fast_cases(["base", "large_lv60k"], "base"))
def test_what_stands_in_the_padding_changes_no_gradient(architecture: str, content: str) -> None:
    ctc = build(Wav2Vec2ForCTC, architecture, apply_spec_augment=False).train()
    pretraining = build(Wav2Vec2ForPreTraining, architecture, feature_penalty_weight=1.0).train()
    values, mask = waveforms(LENGTHS)
    labels = torch.randint(1, 32, (len(LENGTHS), 3), generator=torch.Generator().manual_seed(0))
    filled = with_padding(values, mask, content)
    for model in (ctc, pretraining):
        expected, found = (
            gradients(
                model,
                input_values=x,
                attention_mask=mask,
                **({"labels": labels} if model is ctc else {"generator": torch.Generator().manual_seed(0)}),
            )
            for x in (values, filled)
        )
        assert any(bool(gradient.abs().sum() > 0) for gradient in expected.values())
        assert all(bool(gradient.isfinite().all()) for gradient in found.values())
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "base", "mms"))
@pytest.mark.parametrize("head", HEADS)
def test_eager_and_fused_attention_agree(head: Any, architecture: str) -> None:
    values, mask = waveforms(LENGTHS)
    eager, fused = (
        results(build(head, architecture, attention=attention), values, mask, LENGTHS)
        for attention in ("eager", "sdpa")
    )
    torch.testing.assert_close(eager, fused, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_no_length_up_to_800_samples_fails(architecture: str) -> None:
    """Alone, without a mask: as many frames as the arithmetic says, and numbers in them."""
    model = build(Wav2Vec2Model, architecture)
    values, _ = waveforms([800])
    for length in range(801):
        with torch.no_grad():
            state = model(values[:, :length]).last_hidden_state
        expected = 0 if length < 400 else 1 if length < 720 else 2
        assert state.shape == (1, expected, 48)
        assert bool(state.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 800), min_size=1, max_size=4), training=st.booleans())
def test_no_batch_of_short_clips_fails(head: Any, lengths: list[int], training: bool) -> None:
    """Whatever the lengths, also when no clip has a single frame, with a mask and without, in training too."""
    model = build(head).train(training)
    values, mask = waveforms(lengths)
    for given_mask in (mask, None):
        outputs = model(values, attention_mask=given_mask)
        for name in HEADS[head]:
            assert outputs[name].shape[0] == len(lengths)
            assert bool(outputs[name].isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("head", [Wav2Vec2Model, Wav2Vec2ForCTC])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 800), min_size=1, max_size=4))
def test_no_batch_of_short_clips_fails_in_the_adapter(head: Any, lengths: list[int]) -> None:
    values, mask = waveforms(lengths)
    results(build(head, add_adapter=True), values, mask, lengths)
    results(build(head, add_adapter=True), values, None, [values.shape[1]] * len(lengths))


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("head", HEADS)
def test_padding_on_the_left_is_as_padding_on_the_right(head: Any, architecture: str) -> None:
    """The frames of a clip come first, as if its padding did not."""
    model = build(head, architecture)
    values, mask = waveforms(LENGTHS)
    expected = results(model, values, mask, LENGTHS)
    moved = torch.stack([row.roll(values.shape[1] - length) for row, length in zip(values, LENGTHS, strict=True)])
    found = results(model, moved, mask.flip(1), LENGTHS)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("head", HEADS)
def test_samples_that_a_mask_leaves_out_are_not_there(head: Any) -> None:
    """A clip with holes is the clip without the samples in them, whatever they hold."""
    model = build(head)
    values, _ = waveforms([4000, 4000])
    mask = (torch.rand(2, 4000, generator=torch.Generator().manual_seed(0)) < 0.8).long()
    values[mask == 0] = float("nan")
    lengths = mask.sum(1).tolist()
    expected = [results(model, values[row][mask[row] == 1][None], None, [lengths[row]])[0] for row in range(2)]
    torch.testing.assert_close(results(model, values, mask, lengths), expected, atol=1e-5, rtol=0)


def test_such_masks_count_as_in_stock_when_asked() -> None:
    """With `padding_invariant_norm=False` the real samples are counted, and as many taken from the left."""
    stock, ours = twins("Wav2Vec2Model", own_fields={"padding_invariant_norm": False})
    values, mask = waveforms([6000, 4000])
    with torch.no_grad():
        theirs = stock(values.double(), attention_mask=mask.flip(1)).last_hidden_state
        found = ours(values.double(), attention_mask=mask.flip(1)).last_hidden_state
    assert_same(found, theirs, 1e-9)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", [(1000, 2, 3), (1000,), ()])
def test_what_is_no_batch_of_waveforms_is_refused(head: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"input_values has shape .*: must be \(batch, samples\)"):
        build(head)(torch.zeros(shape))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", [(2, 1999), (1, 2000), (2, 6), (2000,)])
def test_a_mask_of_another_shape_is_refused(head: Any, shape: tuple[int, ...]) -> None:
    values, _ = waveforms([2000, 2000])
    with pytest.raises(ValueError, match=r"attention_mask has shape .*: must be that of input_values, \(2, 2000\)"):
        build(head)(values, attention_mask=torch.ones(shape, dtype=torch.long))
