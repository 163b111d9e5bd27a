"""Inputs of models that are refused at once, with what was given and what would be right."""

import pytest
import torch
from small_models import CALM, small_config, waveforms

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model


@pytest.mark.parametrize("shape", [(2, 23), (2, 25), (1, 24), (2, 24, 1)], ids=str)
def test_a_mask_must_have_one_value_per_frame(shape: tuple[int, ...]) -> None:
    """It is neither cut, padded nor spread over the batch; half a second has 24 frames."""
    values, _ = waveforms([8000, 8000])
    mask = torch.zeros(shape, dtype=torch.bool)
    for model in (Wav2Vec2Model(small_config()), Wav2Vec2ForPreTraining(small_config())):
        with pytest.raises(ValueError, match=r"must be \(2, 24\), \(batch, frames\)"):
            model(values, mask_time_indices=mask)


def test_labels_must_be_integers_for_every_clip() -> None:
    """One row of whole numbers per clip."""
    model = Wav2Vec2ForCTC(small_config(**CALM))
    values, _ = waveforms([8000, 8000])
    for labels, message in (
        (torch.tensor([1, 2]), r"shape \(2,\)"),
        (torch.ones(2, 3), "float32"),
        (torch.ones(3, 2, dtype=torch.long), "of 3 clips, input_values of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model(values, labels=labels)


def test_the_training_clock_runs_forward() -> None:
    """A temperature of zero would make every loss NaN; no update comes before the first."""
    model = Wav2Vec2ForPreTraining(small_config())
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be above 0"):
            model.set_gumbel_temperature(temperature)
    with pytest.raises(ValueError, match="update=-1: must be at least 0"):
        model.set_update(-1)
