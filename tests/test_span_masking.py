"""Span masks: fairseq's counts, the paper's statistics, never a frame of padding, never a failure."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import CALM, small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2Model
from wav2vec2.modeling.span_masking import sample_span_mask

CLIPS = st.lists(st.integers(1, 2000), min_size=1, max_size=4)
SPANS = st.integers(1, 50)
PROBABILITIES = st.one_of(st.sampled_from([0.0, 0.05, 0.65, 1.0]), st.floats(0, 1))
LEAST = st.integers(0, 60)
SEEDS = st.integers(0, 2**32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def runs(row: list[bool]) -> list[int]:
    """Lengths of the stretches of masked positions."""
    lengths, current = [], 0
    for masked in [*row, False]:
        if masked:
            current += 1
        elif current:
            lengths.append(current)
            current = 0
    return lengths


def allowed_counts(length: int, probability: float, span: int, least: int) -> tuple[int, int]:
    """The least and the most spans that floor(p L / M + U) can give, after both limits."""
    expected = length * probability / span
    # The product is taken in 32 bits: a value on an integer may fall on either side of it.
    low, high = math.floor(expected * (1 - 1e-6)), math.floor(expected * (1 + 1e-6)) + 1
    room = length // span
    return min(max(low, least), room), min(max(high, least), room)


@settings(max_examples=300, deadline=None)
@given(lengths=CLIPS, extra=st.integers(0, 30), probability=PROBABILITIES, span=SPANS, least=LEAST, seed=SEEDS)
def test_masks_of_any_lengths(
    lengths: list[int], extra: int, probability: float, span: int, least: int, seed: int
) -> None:
    """Padding stays unmasked, a span is whole, and the number of spans is fairseq's.

    Spans may overlap, so their number n shows only through bounds: a stretch of r positions holds between
    ceil(r / M) and r - M + 1 spans of M.
    """
    size = max(lengths) + extra
    mask = sample_span_mask(torch.tensor(lengths), size, probability, span, least, seeded(seed))
    assert mask.shape == (len(lengths), size)
    assert mask.dtype == torch.bool
    for row, length in zip(mask.tolist(), lengths, strict=True):
        assert not any(row[length:])
        stretches = runs(row)
        assert all(stretch >= span for stretch in stretches)
        low, high = allowed_counts(length, probability, span, least)
        assert sum(stretch - span + 1 for stretch in stretches) >= low
        assert sum(math.ceil(stretch / span) for stretch in stretches) <= high


@settings(max_examples=100, deadline=None)
@given(lengths=CLIPS, probability=PROBABILITIES, least=LEAST, seed=SEEDS)
def test_spans_of_one_position_show_their_number(lengths: list[int], probability: float, least: int, seed: int) -> None:
    """Starts are distinct: with M = 1 as many positions are masked as spans were drawn."""
    mask = sample_span_mask(torch.tensor(lengths), max(lengths), probability, 1, least, seeded(seed))
    for count, length in zip(mask.sum(1).tolist(), lengths, strict=True):
        low, high = allowed_counts(length, probability, 1, least)
        assert low <= count <= high


@settings(max_examples=50, deadline=None)
@given(lengths=CLIPS, probability=PROBABILITIES, span=SPANS, seed=SEEDS)
def test_a_seed_decides_the_mask(lengths: list[int], probability: float, span: int, seed: int) -> None:
    before = torch.get_rng_state()
    first, second = (
        sample_span_mask(torch.tensor(lengths), max(lengths), probability, span, 2, seeded(seed)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_another_mask() -> None:
    lengths = torch.full((4,), 200)
    assert not torch.equal(*(sample_span_mask(lengths, 200, 0.65, 10, 2, seeded(seed)) for seed in (0, 1)))


def test_masks_do_not_depend_on_the_default_dtype() -> None:
    """Draws of 16 bits would be equal so often that starts were no longer chosen at random."""
    lengths = torch.full((4,), 1500)
    expected = sample_span_mask(lengths, 1500, 0.65, 10, 2, seeded(0))
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = sample_span_mask(lengths, 1500, 0.65, 10, 2, seeded(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("length", [0, 1, 9])
def test_a_clip_shorter_than_a_span_is_not_masked(length: int) -> None:
    """Also when the configuration asks for spans: there is no room for one."""
    for seed in range(20):
        mask = sample_span_mask(torch.tensor([length, 40]), 40, 1.0, 10, 2, seeded(seed))
        assert int(mask[0].sum()) == 0
        assert int(mask[1].sum()) >= 11


def test_a_clip_of_one_span_is_masked_whole() -> None:
    assert sample_span_mask(torch.tensor([10]), 12, 0.0, 10, 1).tolist() == [[True] * 10 + [False] * 2]


def test_probability_zero_masks_nothing() -> None:
    assert int(sample_span_mask(torch.full((100,), 500), 500, 0.0, 10).sum()) == 0


def test_masks_of_pretraining_are_those_of_the_paper() -> None:
    """Section 4.2: about 49 % of the frames of 15 s are masked, in stretches of 14.7 frames (299 ms) on average."""
    mask = sample_span_mask(torch.full((2000,), 750), 750, 0.65, 10, 2, seeded(0))
    stretches = [stretch for row in mask.tolist() for stretch in runs(row)]
    assert float(mask.float().mean()) == pytest.approx(0.49, abs=0.005)
    assert sum(stretches) / len(stretches) == pytest.approx(14.7, abs=0.3)


@pytest.mark.parametrize(("length", "probability"), [(7, 0.65), (100, 0.015), (333, 0.3)])
def test_the_number_of_spans_is_right_on_average(length: int, probability: float) -> None:
    """floor(x + U) is x on average, however small x is: a draw rounds up with the probability of the remainder."""
    clips = 20000
    counts = sample_span_mask(torch.full((clips,), length), length, probability, 1, 0, seeded(0)).sum(1).float()
    expected = length * probability
    remainder = expected % 1
    error = math.sqrt(remainder * (1 - remainder) / clips)
    assert float(counts.mean()) == pytest.approx(expected, abs=5 * error)
    assert set(counts.tolist()) == {math.floor(expected), math.floor(expected) + 1}


def slow_masks(clips: int, length: int, probability: float, span: int, least: int) -> np.ndarray[Any, Any]:
    """fairseq's `compute_mask_indices`, one clip and one span at a time."""
    random = np.random.default_rng(0)
    masks = np.zeros((clips, length), dtype=bool)
    for mask in masks:
        spans = max(int(probability * length / span + random.random()), least)
        spans = min(spans, length // span)
        for start in random.choice(length - span + 1, spans, replace=False):
            mask[start : start + span] = True
    return masks


def shares(mask: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """How often each position is masked, and how often each number of positions is masked."""
    mask = np.asarray(mask)
    return mask.mean(0), np.bincount(mask.sum(1), minlength=mask.shape[1] + 1) / len(mask)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "probability", "span", "least"), [(40, 0.65, 10, 0), (40, 0.65, 4, 2), (25, 0.1, 5, 2), (30, 0.4, 1, 0)]
)
def test_masks_are_distributed_as_those_of_a_loop(length: int, probability: float, span: int, least: int) -> None:
    """Every position, the edges with their fewer spans included, and the number of masked positions."""
    clips = 40000
    lengths = torch.full((clips,), length)
    found = shares(sample_span_mask(lengths, length, probability, span, least, seeded(0)).numpy())
    expected = shares(slow_masks(clips, length, probability, span, least))
    for ours, theirs in zip(found, expected, strict=True):
        error = np.sqrt(2 * np.maximum(theirs * (1 - theirs), 1 / clips) / clips)  # of a difference of two shares
        assert np.abs((ours - theirs) / error).max() < 5


def masked_inputs(model: Any, values: Tensor, mask: Tensor) -> Tensor:
    """What reaches the encoder: (B, T, H)."""
    seen: list[Tensor] = []
    hook = model.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    model(values, mask)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_training_masks_frames_and_channels(architecture: str) -> None:
    """Masked frames hold the mask embedding, masked channels zero; padding is left alone, and so is evaluation."""
    torch.manual_seed(0)
    augmented = {"mask_feature_prob": 0.3, "mask_feature_length": 8, "mask_time_prob": 0.4}
    model = Wav2Vec2Model(small_config(architecture, **(CALM | augmented)))
    with torch.no_grad():
        model.masked_spec_embed.fill_(7.0)
    values, mask = waveforms([16000, 8000, 500])
    frames = [49, 24, 1]
    plain, masked = masked_inputs(model.eval(), values, mask), masked_inputs(model.train(), values, mask)
    silent = (masked == 0).all(1) & (plain != 0).any(1)  # (B, H): channels
    assert all(8 <= int(count) <= 16 and int(count) < 48 for count in silent.sum(1))
    kept = masked[~silent[:, None, :].expand_as(masked)]
    assert bool(((kept == 7.0) | (kept == plain[~silent[:, None, :].expand_as(plain)])).all())
    covered = ((masked == 7.0) | silent[:, None, :]).all(-1)  # (B, T): frames
    for row, length in enumerate(frames):
        assert not bool(covered[row, length:].any())
        assert all(stretch >= 3 for stretch in runs(covered[row].tolist()))
    assert [int(count) for count in covered.sum(1) > 0] == [1, 1, 0]  # one frame has no room for a span of three
    assert not bool((plain == 7.0).any())


def test_augmentation_can_be_switched_off() -> None:
    model = Wav2Vec2Model(small_config(**(CALM | {"apply_spec_augment": False, "mask_feature_prob": 0.5}))).train()
    with torch.no_grad():
        model.masked_spec_embed.fill_(7.0)
    values, mask = waveforms([16000])
    assert torch.equal(masked_inputs(model, values, mask), masked_inputs(model.eval(), values, mask))
