"""The CTC loss: equal to a sum over all paths, honest about what it leaves out, and additive over parts of a batch."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import CALM, small_config, waveforms
from torch import Tensor
from transformers import Trainer, TrainingArguments

from wav2vec2 import Wav2Vec2Config, Wav2Vec2ForCTC
from wav2vec2.modeling import input_checks
from wav2vec2.modeling.ctc_loss import ctc_loss


def build(architecture: str = "base", **overrides: Any) -> Any:
    """A small model without dropout and masking, in training mode, the same at every call."""
    torch.manual_seed(0)
    return Wav2Vec2ForCTC(small_config(architecture, **(CALM | {"apply_spec_augment": False} | overrides))).train()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collapse(path: tuple[int, ...], blank: int) -> list[int]:
    """What a path spells: repeats merged, then blanks removed."""
    return [token for token, _ in itertools.groupby(path) if token != blank]


def brute_force(logits: Tensor, target: list[int], blank: int) -> float:
    """-log of the summed probability of all V^T paths that spell the target."""
    log_probs = logits.double().log_softmax(-1).tolist()
    frames, tokens = logits.shape
    total = 0.0
    for path in itertools.product(range(tokens), repeat=frames):
        if collapse(path, blank) == target:
            total += math.exp(sum(log_probs[t][token] for t, token in enumerate(path)))
    return -math.log(total) if total > 0 else math.inf


@settings(max_examples=150, deadline=None)
@given(
    frames=st.integers(1, 5),
    target=st.lists(st.integers(0, 1), max_size=4),
    blank=st.integers(0, 2),
    seed=st.integers(0, 2**32),
)
def test_the_loss_equals_a_sum_over_all_paths(frames: int, target: list[int], blank: int, seed: int) -> None:
    """Whichever token is the blank. Where no path spells the target, the utterance is left out and reported."""
    target = [token + (token >= blank) for token in target]  # two letters beside the blank
    logits = torch.randn(1, frames, 3, generator=seeded(seed), dtype=torch.float64)
    labels = torch.tensor([[*target, -100]])
    loss, dropped = ctc_loss(logits, labels, torch.tensor([frames]), blank)
    expected = brute_force(logits[0], target, blank)
    assert dropped.tolist() == [math.isinf(expected)]
    assert float(loss) == pytest.approx(0 if math.isinf(expected) else expected, abs=1e-9)


def random_batch(seed: int = 0, blank: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels, and how many frames and labels each of four utterances has. All of them fit."""
    logits = torch.randn(4, 30, 8, generator=seeded(seed), dtype=torch.float64)
    frames, sizes = torch.tensor([30, 12, 25, 8]), torch.tensor([9, 4, 0, 3])
    labels = torch.full((4, 10), -100)
    letters = [token for token in range(8) if token != blank]
    for row, size in enumerate(sizes.tolist()):
        labels[row, :size] = torch.tensor(letters)[torch.randint(7, (size,), generator=seeded(row))]
    return logits, labels, frames, sizes


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("blank", [0, 5, 7])
def test_the_loss_and_its_gradient_equal_those_of_torch(reduction: str, blank: int) -> None:
    logits, labels, frames, sizes = random_batch(blank=blank)
    logits.requires_grad_()
    loss, dropped = ctc_loss(logits, labels, frames, blank, reduction)
    targets = torch.cat([labels[row, :size] for row, size in enumerate(sizes.tolist())])
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    expected = F.ctc_loss(log_probs, targets, frames, sizes, blank=blank, reduction=reduction)
    assert not dropped.any()
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("filler", ["blank", "minus_hundred", "mixed", "holes"])
def test_padding_is_recognised_in_every_form(filler: str) -> None:
    """The blank or -100 at the end, both, and -100 in between: the same labels, the same loss."""
    logits, labels, frames, _ = random_batch()
    expected = ctc_loss(logits, labels, frames, 0)
    written = labels.clone()
    if filler in ("blank", "mixed"):
        written[labels == -100] = 0
    if filler == "mixed":
        written[:, ::2] = written[:, ::2].where(labels[:, ::2] != -100, -100)
    if filler == "holes":
        written = torch.stack([labels, torch.full_like(labels, -100)], dim=2).flatten(1)
    found = ctc_loss(logits, written, frames, 0)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_labels_may_be_missing_altogether() -> None:
    """No column of labels: every frame is a blank."""
    logits = torch.randn(2, 5, 4, generator=seeded())
    loss, dropped = ctc_loss(logits, torch.zeros(2, 0, dtype=torch.long), torch.tensor([5, 3]), 0)
    blanks = logits.log_softmax(-1)[:, :, 0]
    assert float(loss) == pytest.approx(float(-blanks[0].sum() - blanks[1, :3].sum()), rel=1e-6)
    assert not dropped.any()


#: Labels and frames: too many labels, no room for the blank between repeats, and the same with just enough.
FITS: list[tuple[list[int], int, bool]] = [
    ([1, 2, 3], 2, False),
    ([1, 2, 3], 3, True),
    ([1, 1], 2, False),
    ([1, 1], 3, True),
    ([1, 1, 2, 2, 2], 7, False),
    ([1, 1, 2, 2, 2], 8, True),
    ([1], 0, False),
    ([], 0, True),
    ([], 1, True),
]


@pytest.mark.parametrize(("target", "frames", "fits"), FITS)
def test_an_utterance_that_cannot_fit_is_left_out_and_named(target: list[int], frames: int, fits: bool) -> None:
    """No weight and no gradient for it, the full ones for its neighbour; reported alike in any batch."""
    logits = torch.randn(2, 9, 5, generator=seeded(), dtype=torch.float64, requires_grad=True)
    labels = torch.full((2, 6), -100)
    labels[0, : len(target)], labels[1, :2] = torch.tensor(target, dtype=torch.long), torch.tensor([4, 2])
    loss, dropped = ctc_loss(logits, labels, torch.tensor([frames, 9]), 0)
    alone, alone_dropped = ctc_loss(logits[:1, :frames], labels[:1], torch.tensor([frames]), 0)
    neighbour, _ = ctc_loss(logits[1:], labels[1:], torch.tensor([9]), 0)
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(neighbour, logits)
    assert dropped.tolist() == [not fits, False]
    assert alone_dropped.tolist() == [not fits]
    assert float(neighbour.detach()) > 1
    torch.testing.assert_close(loss, neighbour + alone, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient[1], expected[1], atol=1e-12, rtol=0)
    if frames == 0 or not fits:
        assert float(gradient[0].abs().sum()) == 0
        assert float(alone.detach()) == 0


def test_stock_behaviour_can_be_asked_for() -> None:
    """Without dropping, an impossible utterance costs infinitely much, or nothing with torch's own switch."""
    logits = torch.randn(1, 2, 5, generator=seeded())
    labels, frames = torch.tensor([[1, 2, 3]]), torch.tensor([2])
    kept = ctc_loss(logits, labels, frames, 0, drop_infeasible=False)
    zeroed = ctc_loss(logits, labels, frames, 0, drop_infeasible=False, zero_infinity=True)
    assert (float(kept.loss), float(zeroed.loss)) == (math.inf, 0.0)
    assert kept.dropped.tolist() == zeroed.dropped.tolist() == [False]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_logits_that_are_no_numbers_are_never_hidden(row: int, zero_infinity: bool, poison: float) -> None:
    """One bad logit in a real frame makes the loss NaN, also where the utterance itself is left out."""
    logits, labels, frames, _ = random_batch()
    labels[3] = 1  # ten equal labels in eight frames
    assert ctc_loss(logits, labels, frames, 0).dropped.tolist() == [False, False, False, True]
    logits[row, 2, 3] = poison
    assert math.isnan(float(ctc_loss(logits, labels, frames, 0, zero_infinity=zero_infinity).loss))


def test_what_stands_in_padded_frames_is_not_looked_at() -> None:
    logits, labels, frames, _ = random_batch()
    expected = ctc_loss(logits, labels, frames, 0)
    logits[1, 12:], logits[3, 8:] = float("nan"), float("inf")
    torch.testing.assert_close(ctc_loss(logits, labels, frames, 0), expected, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_is_computed_in_32_bits(dtype: torch.dtype) -> None:
    """The loss of rounded logits, not a rounded loss, also under autocast."""
    logits, labels, frames, _ = random_batch()
    rounded = logits.to(dtype)
    expected = ctc_loss(rounded.float(), labels, frames, 0).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ctc_loss(rounded, labels, frames, 0).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


LENGTHS = [8000, 16000, 3000, 500, 12000, 390, 9000, 5000]
SIZES = [3, 7, 2, 0, 5, 2, 1, 4]


def utterances() -> tuple[Tensor, Tensor, Tensor]:
    """Eight clips of unequal length with unequal numbers of labels; one has no text, one no frame."""
    values, mask = waveforms(LENGTHS)
    labels = torch.full((8, 7), -100)
    for row, size in enumerate(SIZES):
        labels[row, :size] = torch.randint(1, 32, (size,), generator=seeded(row))
    return values, mask, labels


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_the_model_counts_the_real_frames(architecture: str) -> None:
    """Its loss is torch's, of its own logits over the frames that each clip has."""
    model = build(architecture)
    values, mask, labels = utterances()
    output = model(values, mask, labels=labels)
    expected = 0.0
    for row, (length, size) in enumerate(zip(LENGTHS, SIZES, strict=True)):
        frames = model._get_feat_extract_output_lengths(length)
        if frames:
            log_probs = output.logits[row, :frames].detach().log_softmax(-1)  # (T, V)
            counts = (torch.tensor(frames), torch.tensor(size))
            expected += float(F.ctc_loss(log_probs, labels[row, :size], *counts, reduction="sum"))
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert output.dropped.tolist() == [length == 390 for length in LENGTHS]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_an_impossible_utterance_has_no_gradient_in_the_model(reduction: str) -> None:
    """Beside itself a batch gives the gradients that it gives without it, up to the mean's count of utterances."""
    model = build(ctc_loss_reduction=reduction).double()
    values, mask, labels = utterances()
    values = values.double()
    labels[2] = 5  # seven equal labels in nine frames
    found = gradients(model, [slice(0, 3)], (values, mask, labels), None)
    assert model(values, mask, labels=labels).dropped.nonzero().flatten().tolist() == [2, 5]
    expected = gradients(model, [slice(0, 2)], (values, mask, labels), None)
    share = 1.0 if reduction == "sum" else 2 / 3
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient * share, atol=1e-9, rtol=1e-7)


def gradients(
    model: Any, parts: list[slice], data: tuple[Tensor, Tensor, Tensor], num_items: Tensor | int | None
) -> dict[str, Tensor]:
    """Gradients summed over parts of a batch, each run on its own."""
    model.zero_grad()
    values, mask, labels = data
    for part in parts:
        longest = int(mask[part].sum(1).max())
        output = model(values[part, :longest], mask[part, :longest], labels=labels[part], num_items_in_batch=num_items)
        output.loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [[4, 4], [2, 2, 4], [1] * 8], ids=str)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_parts_of_a_batch_add_up_to_it(reduction: str, parts: list[int]) -> None:
    """With the number of labels of the whole update, however it is cut; with a tensor or an integer."""
    model = build(ctc_loss_reduction=reduction).double()
    values, mask, labels = utterances()
    data = values.double(), mask, labels
    whole = gradients(model, [slice(0, 8)], data, sum(SIZES))
    ends = list(itertools.accumulate(parts))
    cuts = [slice(end - size, end) for end, size in zip(ends, parts, strict=True)]
    pieces = gradients(model, cuts, data, torch.tensor(sum(SIZES)))
    assert all(float(gradient.abs().max()) > 0 for name, gradient in whole.items() if name.endswith("weight"))
    torch.testing.assert_close(pieces, whole, atol=1e-12, rtol=1e-9)


def test_the_number_of_items_divides_the_sum() -> None:
    model = build()
    values, mask, labels = utterances()
    plain = model(values, mask, labels=labels).loss
    divided = model(values, mask, labels=labels, num_items_in_batch=24).loss
    assert float(divided.detach()) == pytest.approx(float(plain.detach()) / 24, rel=1e-6)


def train(folder: Path, batch_size: int, accumulation: int) -> tuple[dict[str, Tensor], list[float]]:
    """Three updates of stock's own Trainer over the eight utterances: the weights, and the losses it reports."""
    values, mask, labels = utterances()
    items = [
        {"input_values": v, "attention_mask": m, "labels": u} for v, m, u in zip(values, mask, labels, strict=True)
    ]
    model = build()
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
        max_steps=3, learning_rate=0.1, optim="sgd", lr_scheduler_type="constant", logging_steps=1, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, seed=0,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=items)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, losses


@pytest.mark.slow
def test_trainer_reaches_the_same_weights_with_and_without_accumulation(tmp_path: Path) -> None:
    whole, losses = train(tmp_path / "whole", 8, 1)
    pieces, losses_of_pieces = train(tmp_path / "pieces", 2, 4)
    start = dict(build().named_parameters())
    assert max(float((whole[name] - start[name].detach()).abs().max()) for name in whole) > 1e-3
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-5)
    assert losses_of_pieces == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("blank", [0, 9])
def test_a_blank_among_labels_is_left_out_told_once_and_counted(blank: int, caplog: pytest.LogCaptureFixture) -> None:
    """As in stock, where a letter with the blank's id vanishes from every text without a word."""
    input_checks._told.clear()
    caplog.set_level("WARNING", logger="wav2vec2")
    values, mask, labels = utterances()
    labels[labels == blank] = 4
    model = build(pad_token_id=blank)
    plain = model(values, mask, labels=labels)
    assert int(plain.blank_labels) == 0 and not caplog.records
    spread = torch.cat([torch.full((len(labels), 2), blank), labels, torch.full((len(labels), 1), blank)], dim=1)
    for _ in range(2):
        found = model(values, mask, labels=spread)
        assert int(found.blank_labels) == 2 * int((labels >= 0).any(1).sum())
        assert float(found.loss.detach()) == float(plain.loss.detach())
    (record,) = caplog.records
    told = record.getMessage()
    assert f"the blank (pad_token_id={blank}) stands between labels" in told
    assert f"if {blank} is a letter of your vocabulary, pad_token_id is wrong" in told


@pytest.mark.parametrize("drop", [True, False])
def test_one_loss_for_each_utterance(drop: bool) -> None:
    """`ctc_loss_reduction="none"`, which stock takes too; they add up to the sum."""
    values, mask, labels = utterances()
    model = build(ctc_loss_reduction="none", ctc_drop_infeasible=drop)
    each = model(values, mask, labels=labels).loss
    model.config.ctc_loss_reduction = "sum"
    assert each.shape == (len(values),)
    torch.testing.assert_close(each.sum(), model(values, mask, labels=labels).loss)


@pytest.mark.parametrize("label", [32, 1000, -1, -99, -101])
def test_labels_outside_the_vocabulary_are_refused(label: int) -> None:
    values, mask, labels = utterances()
    labels[1, 2] = label
    with pytest.raises(ValueError, match="labels: must be below vocab_size=32, or -100 for padding"):
        build()(values, mask, labels=labels)


@pytest.mark.parametrize("blank", [None, -1, 32, 50])
def test_a_blank_outside_the_vocabulary_is_refused(blank: int | None) -> None:
    with pytest.raises(ValueError, match=rf"pad_token_id={blank}: the CTC blank must be one of the vocab_size=32"):
        Wav2Vec2ForCTC(small_config(pad_token_id=blank))


def test_a_head_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size=None: CTC needs the number of tokens"):
        Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=None))
