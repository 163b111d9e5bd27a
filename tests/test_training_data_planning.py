"""Which clips an update has, and how they are divided over processes: properties over random lengths."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import clip_seed, crop_start
from wav2vec2.training.data.division import divide
from wav2vec2.training.data.global_batches import GlobalBatches, SourceShare, shares_of

LENGTHS = st.lists(st.floats(0.5, 15.6), min_size=1, max_size=40)


def batches_of(
    seconds: NDArray[np.float64], per_update: float, *, seed: int = 1, copies: float = 1.0, bucket: int = 4
) -> GlobalBatches:
    source = SourceShare(np.arange(len(seconds)), copies)
    return GlobalBatches(seconds, [source], seed=seed, seconds_per_update=per_update, bucket_updates=bucket)


def padded(seconds: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    return float(seconds[group].max() * len(group)) if len(group) else 0.0


def fewest_groups(ordered: list[float], limit: float) -> int:
    """By trying all contiguous groups, longest first."""
    best = [0] + [len(ordered)] * len(ordered)
    for end in range(1, len(ordered) + 1):
        for start in range(end):
            if end - start == 1 or ordered[start] * (end - start) <= limit:
                best[end] = min(best[end], best[start] + 1)
    return best[-1]


@settings(deadline=None, max_examples=150)
@given(LENGTHS, st.integers(1, 5), st.floats(10, 90))
def test_a_division_keeps_every_clip_once_and_fits(lengths: list[float], processes: int, limit: float) -> None:
    """The union over processes and parts is the batch; the parts are the fewest that fit, as brute force finds."""
    seconds = np.array(lengths)
    division = divide(seconds, processes, limit)
    assert [len(parts) for parts in division.groups] == [division.parts] * processes
    groups = [group for parts in division.groups for group in parts]
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        assert len(group) <= 1 or padded(seconds, group) <= limit * (1 + 1e-6)
    assert division.parts == max(1, -(-fewest_groups(sorted(lengths, reverse=True), limit) // processes))
    if len(lengths) >= division.parts * processes:
        assert all(len(group) for group in groups)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.5, 15.6), min_size=4, max_size=9), st.integers(1, 4))
def test_the_largest_part_is_as_small_as_can_be(lengths: list[float], processes: int) -> None:
    """Against all ways to cut the clips, in the order of length, into as many groups."""
    seconds, limit = np.array(lengths), 40.0
    division = divide(seconds, processes, limit)
    count = division.parts * processes
    ordered = np.sort(seconds)[::-1]
    best = min(
        max(ordered[start] * (end - start) for start, end in zip((0, *cuts), (*cuts, len(ordered)), strict=True))
        for pieces in range(1, min(count, len(ordered)) + 1)
        for cuts in combinations(range(1, len(ordered)), pieces - 1)
    )
    largest = max(padded(seconds, group) for parts in division.groups for group in parts)
    assert largest == pytest.approx(best, rel=1e-6)


def test_processes_have_the_same_work() -> None:
    """A batch of the size of BASE over 8 processes: padded seconds within 3 %, padding under 5 %."""
    seconds = np.random.default_rng(0).uniform(2, 15.6, 640)
    division = divide(seconds, 8, 87.5)
    work = [sum(padded(seconds, group) for group in parts) for parts in division.groups]
    assert max(work) < 1.03 * min(work)
    assert sum(work) < 1.05 * seconds.sum()


def test_no_clip_is_no_error() -> None:
    """An empty batch still gives every process one part."""
    division = divide([], 3, 10.0)
    assert division.parts == 1
    assert [[len(group) for group in parts] for parts in division.groups] == [[0]] * 3


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.5, 15.6), min_size=30, max_size=200), st.integers(0, 2**62), st.integers(1, 8))
def test_every_clip_is_used_once_per_epoch_in_even_batches(lengths: list[float], seed: int, bucket: int) -> None:
    """One round holds each clip as often as it has epochs; no batch is empty or far from the size asked for."""
    seconds = np.array(lengths)
    batches = batches_of(seconds, 40.0, seed=seed, bucket=bucket)
    for start in (0, 3 * batches.batches_per_round):
        found = [batches(update) for update in range(start, start + batches.batches_per_round)]
        counts = Counter(np.concatenate(found).tolist())
        assert counts == dict.fromkeys(range(len(lengths)), batches.epochs_per_round)
        size = seconds.sum() * batches.epochs_per_round / batches.batches_per_round
        assert abs(size / 40 - 1) < 0.1
        assert all(abs(seconds[batch].sum() - size) <= 2 * 15.6 for batch in found)
    assert batches.epoch_after(batches.batches_per_round - 1) == batches.epochs_per_round


def test_an_update_follows_from_seed_and_number_alone() -> None:
    """Asked for in any order, by another object: the same; other seeds and epochs give other batches."""
    seconds = np.random.default_rng(1).uniform(2, 15, 300)
    first, again, other = (batches_of(seconds, 100.0, seed=seed) for seed in (5, 5, 6))
    updates = list(range(60))
    expected = {update: first(update).tolist() for update in updates}
    for update in np.random.default_rng(2).permutation(updates):
        assert again(int(update)).tolist() == expected[update]
    assert all(other(update).tolist() != expected[update] for update in updates)
    assert first(first.batches_per_round).tolist() != expected[0]


def test_batches_hold_clips_of_like_length() -> None:
    """Within a window of 20 updates the spread in a batch is a twentieth of the whole, in random order of length."""
    seconds = np.random.default_rng(3).uniform(2, 15.6, 5000)
    batches = batches_of(seconds, 400.0, bucket=20)
    found = [seconds[batches(update)] for update in range(batches.batches_per_round)]
    assert np.median([one.max() - one.min() for one in found]) < 1.5
    means = np.array([one.mean() for one in found])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


def test_little_data_makes_rounds_of_several_epochs() -> None:
    """1.5 updates per epoch: two epochs are three even batches, and no clip is in one of them twice."""
    seconds = np.full(60, 5.0)
    batches = batches_of(seconds, 200.0)
    assert (batches.epochs_per_round, batches.batches_per_round) == (2, 3)
    for update in range(3):
        assert len(batches(update)) == 40
        assert len(set(batches(update).tolist())) >= 30


@pytest.mark.parametrize("copies", [0.3, 1.0, 2.75])
def test_copies_and_fractions_use_every_clip_alike(copies: float) -> None:
    """Over many epochs no clip is used more than once more than another, and epochs are equally long."""
    seconds = np.random.default_rng(4).uniform(2, 15, 200)
    batches = batches_of(seconds, 100.0, copies=copies)
    counts = np.zeros(200)
    for epoch in range(20):
        uses = batches._epoch(epoch)
        np.add.at(counts, uses, 1)
        assert seconds[uses].sum() == pytest.approx(copies * seconds.sum(), abs=2 * 15)
    assert counts.max() - counts.min() <= 1
    assert counts.mean() == pytest.approx(20 * copies, abs=0.1)


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=6), st.floats(0, 1))
def test_shares_are_the_formula_of_xls_r(hours: list[float], balance: float) -> None:
    """(hours_i / hours) ** alpha, normalised (Babu et al. 2021, section 3.2)."""
    raw = [(one / sum(hours)) ** balance for one in hours]
    assert shares_of(hours, [None] * len(hours), balance) == pytest.approx([one / sum(raw) for one in raw])


def test_weights_take_the_place_of_hours() -> None:
    """All of them or none."""
    assert shares_of([1, 100], [3.0, 1.0], 0.5) == [0.75, 0.25]
    with pytest.raises(ValueError, match="give all of them one, or none"):
        shares_of([1, 100], [3.0, None], 0.5)


def test_seeds_of_clips() -> None:
    """Pinned, so that a change that would make resumed runs hear other crops is seen; all different, 63 bits."""
    assert clip_seed(1, 0, 0) == 5568822121708157353
    seeds = {clip_seed(*key) for key in np.ndindex(3, 40, 40)}
    assert len(seeds) == 3 * 40 * 40
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sum(seed > 2**62 for seed in seeds) == pytest.approx(2400, abs=200)


def test_every_crop_is_equally_likely() -> None:
    """Eleven places, each taken as often as the others (chi square, 10 degrees of freedom, p = 1e-4)."""
    counts = Counter(crop_start(clip_seed(7, 0, index), 30, 20) for index in range(11000))
    assert sorted(counts) == list(range(11))
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 35.6
    assert crop_start(3, 20, 20) == crop_start(3, 5, 20) == 0
