"""Losses of sequence classification: every kind of problem, in parts or as a whole, and clips of any length."""

import pytest
import torch
from small_models import CALM, small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2ForAudioFrameClassification, Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.for_sequence_classification import mean_over_frames
from wav2vec2.modeling.for_xvector import pool_statistics

PROBLEMS = {
    "regression": (1, torch.linspace(-1, 1, 8)),
    "multi_label_classification": (3, torch.eye(3).repeat(3, 1)[:8]),
    "single_label_classification": (3, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])),
}


def build(problem: str) -> Wav2Vec2ForSequenceClassification:
    torch.manual_seed(0)
    config = small_config("large_lv60k", **CALM, problem_type=problem, num_labels=PROBLEMS[problem][0])
    model = Wav2Vec2ForSequenceClassification(config)
    model.double().eval()
    return model


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("sizes", [[8], [4, 4], [1, 2, 5], [1] * 8], ids=str)
def test_parts_of_a_batch_add_up_to_it(problem: str, sizes: list[int]) -> None:
    """With the number of labels of the whole update, the losses of its parts add up to the mean over all of it."""
    model, labels = build(problem), PROBLEMS[problem][1]
    labels = labels.double() if labels.is_floating_point() else labels
    values, mask = waveforms([4000, 3000, 2000, 4000, 1000, 800, 3500, 2500])
    whole = model(values, attention_mask=mask, labels=labels).loss
    parts = [
        model(v, attention_mask=m, labels=u, num_items_in_batch=labels.numel()).loss
        for v, m, u in zip(values.split(sizes), mask.split(sizes), labels.split(sizes), strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)
    assert whole > 0


def test_one_label_is_a_regression_by_default() -> None:
    """The mean of squares, also of a batch of one."""
    model = Wav2Vec2ForSequenceClassification(small_config(**CALM, num_labels=1)).eval()
    values, _ = waveforms([4000])
    output = model(values, labels=torch.tensor([2.0]))
    torch.testing.assert_close(output.loss, (output.logits[0, 0] - 2.0) ** 2)


def test_floats_for_every_label_are_several_labels_by_default() -> None:
    """As elsewhere in Transformers, where `problem_type` is not set: by the type of the labels."""
    values, _ = waveforms([4000, 4000])
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    model = build("multi_label_classification").float()
    named = model(values, labels=labels).loss
    model.config.problem_type = None
    torch.testing.assert_close(model(values, labels=labels).loss, named)
    one_each = model(values, labels=torch.tensor([2, 0])).loss
    model.config.problem_type = "single_label_classification"
    torch.testing.assert_close(model(values, labels=torch.tensor([2, 0])).loss, one_each)
    assert float((one_each - named).abs().detach()) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pooling_a_long_clip_fits_into_16_bits(dtype: torch.dtype) -> None:
    """Thirty seconds of large values: their sums would overflow, their mean and deviation do not."""
    x = (torch.randn(2, 1500, 4, generator=torch.Generator().manual_seed(0)) * 8 + 50).to(dtype)
    lengths = torch.tensor([1500, 700])

    def exact(row: int) -> Tensor:
        return x[row, : lengths[row]].double()

    means, statistics = mean_over_frames(x, lengths), pool_statistics(x, lengths)
    for row in range(2):
        mean, deviation = exact(row).mean(0), exact(row).std(0)
        torch.testing.assert_close(means[row].double(), mean, rtol=0.005, atol=0)
        torch.testing.assert_close(statistics[row].double(), torch.cat([mean, deviation]), rtol=0.005, atol=0)


def test_labels_of_frames_have_the_shape_of_the_logits() -> None:
    """One frame's labels for all frames, or a frame too few, are refused with both shapes."""
    model = Wav2Vec2ForAudioFrameClassification(small_config(num_labels=2))
    values, _ = waveforms([8000])
    for frames in (1, 23):
        with pytest.raises(ValueError, match=rf"\(1, {frames}, 2\): must be \(1, 24, 2\)"):
            model(values, labels=torch.zeros(1, frames, 2))
