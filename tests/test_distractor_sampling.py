"""Distractors: uniform over the other masked frames of the same clip, and nothing else."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import CALM, small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.modeling.contrastive_loss import sample_distractors
from wav2vec2.modeling.span_masking import sample_span_mask


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_valid(mask: Tensor, distractors: Tensor) -> None:
    """Every row holds frame numbers; those of masked frames are other masked frames, or the frame if it is alone."""
    assert distractors.dtype == torch.int64
    assert int(distractors.min()) >= 0
    assert int(distractors.max()) < mask.shape[1]
    drawn_are_masked = mask.gather(1, distractors.flatten(1)).view_as(distractors)
    assert bool(drawn_are_masked[mask].all())
    itself = distractors == torch.arange(mask.shape[1])[:, None]
    alone = (mask.sum(1) == 1)[:, None, None]
    assert bool((itself == alone).expand_as(itself)[mask].all())


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 2000), min_size=1, max_size=4),
    probability=st.floats(0, 1),
    span=st.integers(1, 50),
    count=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_distractors_of_any_mask(lengths: list[int], probability: float, span: int, count: int, seed: int) -> None:
    """Other masked frames of the clip, so never another clip and never padding; and the same for the same seed."""
    mask = sample_span_mask(torch.tensor(lengths), max(lengths), probability, span, 1, seeded(seed))
    before = torch.get_rng_state()
    distractors = sample_distractors(mask, count, seeded(seed))
    assert distractors.shape == (*mask.shape, count)
    assert_valid(mask, distractors)
    assert torch.equal(distractors, sample_distractors(mask, count, seeded(seed)))
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 12).flatmap(
        lambda frames: st.lists(st.lists(st.booleans(), min_size=frames, max_size=frames), min_size=1, max_size=4)
    ),
    seed=st.integers(0, 2**32),
)
def test_distractors_of_scattered_masks(rows: list[list[bool]], seed: int) -> None:
    """Masks need not be spans: no frame masked, one, two, all, in any place."""
    mask = torch.tensor(rows)
    assert_valid(mask, sample_distractors(mask, 5, seeded(seed)))


def chi_square(drawn: list[object], choices: int) -> float:
    """Sum of (observed - expected)^2 / expected over `choices` equally likely outcomes."""
    expected = len(drawn) / choices
    counts = Counter(drawn)
    assert len(counts) <= choices
    return sum((count - expected) ** 2 / expected for count in counts.values()) + (choices - len(counts)) * expected


#: 99.99 % of chi-square for the degrees of freedom below; a draw that is not uniform lies far beyond.
BOUNDS = {1: 15.1, 7: 29.9, 63: 112.0}


@pytest.mark.parametrize("masked", [[0, 1], [3, 5, 19], [0, 1, 2, 5, 8, 13, 14, 18, 19]])
def test_distractors_are_uniform_over_the_other_masked_frames(masked: list[int]) -> None:
    """For every masked frame, at the edges too, whatever stands in the other clips."""
    mask = torch.zeros(3, 20, dtype=torch.bool)
    mask[0], mask[1, masked] = True, True
    distractors = sample_distractors(mask, 20000, seeded())
    for frame in masked:
        drawn = distractors[1, frame].tolist()
        assert set(drawn) == set(masked) - {frame}
        choices = len(masked) - 1
        if choices > 1:
            assert chi_square(drawn, choices) < BOUNDS[choices - 1]


def test_distractors_are_drawn_independently() -> None:
    """Neighbours in a row, and the same place in two rows, take every pair of values equally often."""
    mask = torch.zeros(1, 20, dtype=torch.bool)
    mask[0, [0, 1, 2, 5, 8, 13, 14, 18, 19]] = True
    row, other = sample_distractors(mask, 40000, seeded())[0, [5, 13]].tolist()
    assert chi_square(list(zip(row[::2], row[1::2], strict=True)), 64) < BOUNDS[63]
    assert chi_square(list(zip(row, other, strict=True)), 64) < BOUNDS[63]


def test_another_seed_gives_other_distractors() -> None:
    mask = torch.ones(1, 50, dtype=torch.bool)
    assert not torch.equal(sample_distractors(mask, 10, seeded(0)), sample_distractors(mask, 10, seeded(1)))


def test_distractors_do_not_depend_on_the_default_dtype() -> None:
    """Draws of 16 bits could tell only a few hundred frames apart, and never reach the last ones."""
    mask = torch.ones(1, 1500, dtype=torch.bool)
    expected = sample_distractors(mask, 20, seeded())
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = sample_distractors(mask, 20, seeded())
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


def test_the_model_draws_distractors_for_the_frames_it_masks() -> None:
    """The distractors that pretraining compares with: as many as configured, from real masked frames of the clip."""
    model = Wav2Vec2ForPreTraining(small_config(**CALM)).train()
    values, attention_mask = waveforms([16000, 4000])
    lengths = model.frame_lengths(values, attention_mask)
    mask = model.choose_mask(lengths, 49, None, seeded())
    assert mask.shape == (2, 49)
    assert not bool(mask[1, 12:].any())
    distractors = model.choose_distractors(mask, None, seeded())
    assert distractors.shape == (2, 49, model.config.num_negatives)
    assert_valid(mask, distractors)
