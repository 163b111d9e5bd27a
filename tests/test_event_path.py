"""The best path through frames is that of an enumeration of all paths, whatever the pieces the frames come in."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_event_path import Runs, by_expanded_states, runs_of

from wav2vec2.inference.event_path import EventPath, Stretch


def by_enumeration(log_probs: NDArray[np.float64], minimum: list[int], cost: float) -> Runs:
    """Every labelling whose stretches, but for the first and the last, are long enough; the likeliest."""
    best: tuple[float, Runs] = (-np.inf, [])
    for labels in product(range(len(minimum)), repeat=len(log_probs)):
        runs = runs_of(labels)
        if all(end - start >= minimum[label] for label, start, end in runs[1:-1]):
            score = sum(log_probs[place, label] for place, label in enumerate(labels)) - cost * (len(runs) - 1)
            best = max(best, (float(score), runs))
    return best[1]


def found(path: EventPath, log_probs: NDArray[np.float64], sizes: list[int]) -> list[Stretch]:
    stretches: list[Stretch] = []
    place = 0
    for size in sizes:
        stretches += path.add(log_probs[place : place + size])
        place += size
    return [*stretches, *path.add(log_probs[place:]), *path.finish()]


def drawn(frames: int, labels: int, seed: int, sharp: float = 0.5) -> NDArray[np.float64]:
    chance = np.random.default_rng(seed)
    return np.log(chance.dirichlet(np.full(labels, sharp), frames) + 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_it_is_the_best_of_all_paths(data: st.DataObject) -> None:
    frames, labels = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    minimum = data.draw(st.lists(st.integers(1, 5), min_size=labels, max_size=labels))
    cost = data.draw(st.floats(0, 3))
    log_probs = drawn(frames, labels, data.draw(st.integers(0, 10**6)))
    sizes = data.draw(st.lists(st.integers(0, 3), max_size=4))
    stretches = found(EventPath(minimum, cost), log_probs, sizes)
    assert [(one.label, one.start, one.end) for one in stretches] == by_enumeration(log_probs, minimum, cost)


@pytest.mark.parametrize("minimum", [[1, 1, 1], [6, 2, 9]])
def test_long_recordings_are_those_of_a_slow_viterbi(minimum: list[int]) -> None:
    log_probs = np.repeat(drawn(60, 3, 1), 5, axis=0) * 0.3 + drawn(300, 3, 2)
    stretches = found(EventPath(minimum, 1.5), log_probs, [100, 1, 99])
    assert len(stretches) > 8
    assert [(one.label, one.start, one.end) for one in stretches] == by_expanded_states(log_probs, minimum, 1.5)


def test_pieces_change_nothing_and_confidence_is_the_mean() -> None:
    """To the bit, in one piece, frame by frame, and in pieces of many sizes."""
    log_probs = np.repeat(drawn(400, 4, 3), 5, axis=0)
    whole = found(EventPath([10] * 4, 2.0), log_probs, [])
    for sizes in ([1] * 2000, [7, 300, 0, 1, 1000]):
        assert found(EventPath([10] * 4, 2.0), log_probs, sizes) == whole
    for one in whole:
        assert one.confidence == pytest.approx(np.exp(log_probs[one.start : one.end, one.label]).mean(), abs=1e-9)
    assert [one.start for one in whole[1:]] == [one.end for one in whole[:-1]]
    assert (whole[0].start, whole[-1].end) == (0, 2000)


def test_stretches_come_as_soon_as_they_are_certain() -> None:
    """So nothing of an hour has to be kept: what is open is younger than a second after a clear change."""
    path = EventPath([5, 5], 3.0)
    clear = np.log(np.array([[0.99, 0.01]] * 100 + [[0.01, 0.99]] * 100))
    given_out: list[Stretch] = []
    for _ in range(50):
        given_out += path.add(clear)
    assert len(given_out) >= 98
    assert len([*given_out, *path.finish()]) == 100


def test_what_cannot_be_is_refused_and_nothing_is_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EventPath([0, 1], 1.0)
    with pytest.raises(ValueError, match="not negative"):
        EventPath([1, 1], -1.0)
    assert list(EventPath([3, 3], 1.0).finish()) == []
