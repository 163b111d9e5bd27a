"""With the same weights, the heads for CTC and classification give stock's logits, losses and gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from fast_cases import fast_cases
from small_models import small_config
from stock_twins import (
    LENGTHS,
    TOLERANCE,
    VARIANTS,
    assert_same,
    assert_same_gradients,
    batch,
    norm_over_padding,
    real_logits,
    stock_in,
    twins,
)
from torch import Tensor
from torch.utils.data import Dataset

import wav2vec2

both_precisions = pytest.mark.parametrize(
    "dtype", fast_cases([torch.float64, torch.float32], torch.float64), ids=["float64", "float32"]
)
with_and_without_mask = pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])

FRAME_HEADS = [v for v in VARIANTS if v != "strided_adapter"]  # the other heads refuse merged frames, as stock's do

#: What CTC finds hard: repeats, fewer labels than places, padding with -100 and with the blank, padding in between.
LABELS = torch.tensor([[5, 5, 7, 2, 9], [3, 1, -100, -100, -100], [4, -100, 4, 0, 0]])
#: The same without repeats, for the 2 or 3 frames that a strided adapter leaves.
FEW_LABELS = torch.tensor([[5, 7], [3, -100], [4, 0]])


def speakers(head: str, frames: int = 18) -> Tensor:
    """Labels for a classification head with two classes."""
    if head == "Wav2Vec2ForAudioFrameClassification":
        return F.one_hot((torch.arange(3 * frames) % 5 > 2).long().view(3, frames), 2)
    return torch.tensor([1, 0, 1])


@pytest.mark.parametrize("variant", fast_cases(VARIANTS, "base", "mms"))
@both_precisions
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@with_and_without_mask
def test_ctc_is_stocks(variant: str, dtype: torch.dtype, attention: str, masked: bool) -> None:
    """Logits, loss and the gradient of every parameter. Beyond a clip's frames ours are blanks, unless padding is to
    count as stock's does."""
    fields = norm_over_padding(variant, masked)
    stock, ours = twins("Wav2Vec2ForCTC", variant, dtype, attention, fields)
    values, mask = batch(dtype, masked)
    labels = FEW_LABELS if variant == "strided_adapter" else LABELS
    with stock_in(dtype):
        theirs = stock(values, attention_mask=mask, labels=labels)
    found = ours(values, attention_mask=mask, labels=labels)
    compared = real_logits(ours, mask) if not fields and mask is not None else slice(None)
    assert_same(found.logits[compared], theirs.logits[compared], TOLERANCE[dtype], "logits")
    assert torch.isfinite(found.loss) and not found.dropped.any()
    assert_same(found.loss, theirs.loss, TOLERANCE[dtype], "loss")
    theirs.loss.backward()
    found.loss.backward()
    assert_same_gradients(ours, stock)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("possible", [True, False])
def test_ctc_reductions_are_stocks(reduction: str, zero_infinity: bool, possible: bool) -> None:
    """Also for a text that cannot be spelled in its frames, when ours is told to leave nothing out."""
    options: dict[str, Any] = {"ctc_loss_reduction": reduction, "ctc_zero_infinity": zero_infinity}
    stock, ours = twins("Wav2Vec2ForCTC", own_fields={"ctc_drop_infeasible": False}, **options)
    values, _ = batch(masked=False)
    labels = LABELS if possible else torch.cat([torch.full((3, 20), 6), LABELS], dim=1)
    with stock_in(torch.float64), torch.no_grad():
        theirs = stock(values, labels=labels).loss
    found = ours(values, labels=labels).loss
    if possible or zero_infinity:
        assert_same(found, theirs, 1e-9)
    else:
        assert found == theirs == float("inf")


def test_ctc_without_labels_is_stocks() -> None:
    """An empty text is a text: all frames are blank."""
    stock, ours = twins("Wav2Vec2ForCTC")
    values, _ = batch(masked=False)
    labels = torch.tensor([[3, 4], [-100, -100], [-100, -100]])
    with stock_in(torch.float64), torch.no_grad():
        assert_same(ours(values, labels=labels).loss, stock(values, labels=labels).loss, 1e-9)


@pytest.mark.parametrize("variant", fast_cases(FRAME_HEADS, "base", "mms"))
@both_precisions
@pytest.mark.parametrize("weighted", [False, True], ids=["last_layer", "weighted_layers"])
@with_and_without_mask
def test_sequence_classification_is_stocks(variant: str, dtype: torch.dtype, weighted: bool, masked: bool) -> None:
    """Logits, loss and the gradient of every parameter, the layer weights among them."""
    _compare_classifier("Wav2Vec2ForSequenceClassification", variant, dtype, weighted, masked)


@pytest.mark.parametrize("variant", fast_cases(FRAME_HEADS, "base", "mms"))
@both_precisions
@pytest.mark.parametrize("weighted", [False, True], ids=["last_layer", "weighted_layers"])
def test_frame_classification_is_stocks(variant: str, dtype: torch.dtype, weighted: bool) -> None:
    """Logits, loss and the gradient of every parameter."""
    _compare_classifier("Wav2Vec2ForAudioFrameClassification", variant, dtype, weighted, masked=False)


@pytest.mark.parametrize("variant", fast_cases(FRAME_HEADS, "base", "mms"))
@both_precisions
@pytest.mark.parametrize("weighted", [False, True], ids=["last_layer", "weighted_layers"])
def test_x_vectors_are_stocks(variant: str, dtype: torch.dtype, weighted: bool) -> None:
    """Embeddings, logits, loss and the gradient of every parameter."""
    _compare_classifier("Wav2Vec2ForXVector", variant, dtype, weighted, masked=False)


def _compare_classifier(head: str, variant: str, dtype: torch.dtype, weighted: bool, masked: bool) -> None:
    fields = norm_over_padding(variant, masked)
    attention = "eager" if weighted else "sdpa"
    stock, ours = twins(head, variant, dtype, attention, fields, use_weighted_layer_sum=weighted, num_labels=2)
    values, mask = batch(dtype, masked)
    theirs = stock(values, attention_mask=mask, labels=speakers(head))
    found = ours(values, attention_mask=mask, labels=speakers(head))
    assert found.keys() == theirs.keys()
    for name in theirs:
        assert_same(found[name], theirs[name], TOLERANCE[dtype], name)
    theirs.loss.backward()
    found.loss.backward()
    assert_same_gradients(ours, stock)


@both_precisions
def test_frame_classification_learns_from_real_frames_alone(dtype: torch.dtype) -> None:
    """Logits are stock's; the loss is the mean over real frames, where stock also counts the padding's labels."""
    head = "Wav2Vec2ForAudioFrameClassification"
    stock, ours = twins(head, "large_lv60k", dtype, num_labels=2)
    values, mask = batch(dtype)
    labels = speakers(head)
    theirs, found = stock(values, attention_mask=mask, labels=labels), ours(values, attention_mask=mask, labels=labels)
    assert_same(found.logits, theirs.logits, TOLERANCE[dtype], "logits")
    real = torch.arange(18) < torch.tensor([18, 12, 7])[:, None]
    expected = F.cross_entropy(theirs.logits[real], labels.argmax(-1)[real])
    assert_same(found.loss, expected, TOLERANCE[dtype], "loss")
    assert (theirs.loss - expected).abs() > 1e-3
    expected.backward()
    found.loss.backward()
    assert_same_gradients(ours, stock)


@pytest.mark.parametrize("head", ["Wav2Vec2ForSequenceClassification", "Wav2Vec2ForAudioFrameClassification"])
def test_heads_that_need_frames_refuse_the_strided_adapter(head: str) -> None:
    """As stock's do."""
    with pytest.raises(ValueError, match="add_adapter"):
        getattr(wav2vec2, head)(small_config(add_adapter=True))


def test_labels_outside_the_vocabulary_are_refused_by_both() -> None:
    """Neither learns from a label that does not exist."""
    stock, ours = twins("Wav2Vec2ForCTC")
    values, _ = batch(masked=False)
    labels = torch.tensor([[ours.config.vocab_size]] * 3)
    models: tuple[Any, ...] = (stock, ours)
    for model in models:
        with pytest.raises(ValueError, match="vocab_size"):
            model(values, labels=labels)


class Clips(Dataset[dict[str, Tensor]]):
    """Four clips with labels."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {"input_values": torch.randn(LENGTHS[0], generator=generator), "labels": LABELS[0]}


def test_trainer_predicts_logits_and_nothing_else(tmp_path: Path) -> None:
    """`predictions` is what every `compute_metrics` for CTC expects: one array, equal to stock's."""
    predictions = []
    for model in twins("Wav2Vec2ForCTC", dtype=torch.float32):
        arguments = transformers.TrainingArguments(
            str(tmp_path), per_device_eval_batch_size=2, report_to=[], use_cpu=True, disable_tqdm=True
        )
        predictions.append(transformers.Trainer(model, arguments).predict(Clips()).predictions)
    theirs, found = predictions
    assert isinstance(found, np.ndarray) and found.shape == theirs.shape == (4, 18, 32)
    assert np.abs(found - theirs).max() <= 1e-5 * np.abs(theirs).max()
