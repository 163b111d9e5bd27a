"""`return_dict=False` gives stock's tuple, place by place; what only this package reports comes by name."""

from typing import Any

import pytest
import torch
from small_models import CALM
from stock_twins import assert_same, batch, stock_in, twins
from torch import Tensor

#: Labels with which each head has a loss, for three clips of 18 frames; pretraining has a mask and distractors instead.
MASK = (torch.arange(3 * 18).view(3, 18) % 18 > 9) & (torch.arange(18) < 14)
LABELS: dict[str, dict[str, Tensor]] = {
    "Wav2Vec2Model": {},
    "Wav2Vec2ForPreTraining": {
        "mask_time_indices": MASK,
        "sampled_negative_indices": 10 + torch.arange(3)[:, None, None] * 18 + torch.arange(4).expand(3, 18, 4),
    },
    "Wav2Vec2ForCTC": {"labels": torch.tensor([[5, 7, 2], [3, 1, -100], [4, -100, -100]])},
    "Wav2Vec2ForSequenceClassification": {"labels": torch.tensor([1, 0, 1])},
    "Wav2Vec2ForAudioFrameClassification": {"labels": torch.eye(2)[torch.arange(3 * 18).view(3, 18) % 5 // 3].long()},
    "Wav2Vec2ForXVector": {"labels": torch.tensor([1, 0, 1])},
}


def assert_same_places(ours: Any, theirs: Any, place: str = "") -> None:
    """Equal nesting, equal lengths, equal values."""
    if isinstance(theirs, Tensor):
        assert isinstance(ours, Tensor), place
        assert_same(ours, theirs, 1e-9, place)
        return
    assert isinstance(ours, tuple) and isinstance(theirs, tuple), place
    assert len(ours) == len(theirs), place
    for index, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        assert_same_places(own, other, f"{place}[{index}]")


@pytest.mark.parametrize("layers", [False, True], ids=["", "layers"])
@pytest.mark.parametrize("labelled", [False, True], ids=["", "labels"])
@pytest.mark.parametrize("head", LABELS)
def test_the_tuple_is_stocks(head: str, labelled: bool, layers: bool) -> None:
    """With and without a loss, hidden states and attentions; by argument, configuration and `to_tuple`."""
    stock, ours = twins(head, attention="eager", **CALM)
    values, _ = batch(masked=False)
    inputs: dict[str, Any] = LABELS[head] if labelled else {}
    inputs = inputs | {"output_hidden_states": layers, "output_attentions": layers}
    with torch.no_grad():
        with stock_in(torch.float64):
            theirs = stock(values, **inputs, return_dict=False)
        assert_same_places(ours(values, **inputs, return_dict=False), theirs)
        output = ours(values, **inputs)
        assert_same_places(output.to_tuple(), theirs)
        assert_same_places(output[-1], theirs[-1])
        assert len(output[:]) == len(theirs)
        ours.config.return_dict = False
        assert_same_places(ours(values, **inputs), theirs)
        assert ours(values, **inputs, return_dict=True).keys() == output.keys()


def test_what_is_ours_comes_by_name() -> None:
    """Beside the tuple, in attributes and keys."""
    _, model = twins("Wav2Vec2Model", attention="eager")
    _, pretraining = twins("Wav2Vec2ForPreTraining", attention="eager")
    values, _ = batch(masked=False)
    with torch.no_grad():
        output, losses = model(values), pretraining(values, **LABELS["Wav2Vec2ForPreTraining"])
    assert output.conv_features.shape == output["conv_features"].shape == (3, 18, 32)
    assert int(losses.num_masked) == int(MASK.sum()) and losses["code_perplexity"].shape == (2,)
    assert not any(value is output.conv_features for value in output.to_tuple())
