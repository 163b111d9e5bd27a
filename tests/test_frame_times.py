"""Times of frames against the samples that the convolutions really see, and the habit of a model taken out of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2.alignment.frame_times import FrameTimes, TimeBias, estimate_bias, in_order

STACKS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=4)
INTERVALS = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=8
)


@given(stack=STACKS, samples=st.integers(0, 300))
@settings(deadline=None, max_examples=60)
def test_a_frame_is_where_the_convolutions_look(stack: list[tuple[int, int]], samples: int) -> None:
    kernels, strides = [kernel for kernel, _ in stack], [stride for _, stride in stack]
    times = FrameTimes(kernels, strides, sampling_rate=1)
    seen = torch.arange(float(samples))[None]  # what a frame sees, by the least and the greatest sample
    low, high = seen, seen
    for kernel, stride in stack:
        if low.shape[1] < kernel:
            low = high = low[:, :0]
            break
        low, high = low.unfold(1, kernel, stride).amin(2), high.unfold(1, kernel, stride).amax(2)
    assert times.frames(samples) == low.shape[1]
    if times.frames(samples):
        middles = (low + high + 1)[0] / 2
        assert [times.centre(frame) for frame in range(low.shape[1])] == middles.tolist()
        assert times.duration(low.shape[1]) == float(high[0, -1]) + 1 <= samples


def test_the_published_geometry() -> None:
    times = FrameTimes()
    assert (times.stride, times.receptive_field) == (320, 400)
    assert [times.centre(0) * 16000, times.centre(7) * 16000] == [200, 7 * 320 + 200]
    assert times.edge(1) == pytest.approx((times.centre(0) + times.centre(1)) / 2, abs=1e-12)


@given(samples=st.integers(0, 200_000), data=st.data())
@settings(deadline=None, max_examples=60)
def test_times_are_monotone_and_inside_the_recording(samples: int, data: st.DataObject) -> None:
    bias = TimeBias(data.draw(st.floats(-1, 1)), data.draw(st.floats(-1, 1)))
    times = FrameTimes(bias=bias)
    duration = samples / 16000
    cuts = sorted(data.draw(st.lists(st.integers(0, times.frames(samples)), max_size=9)))
    found = in_order([times.interval(start, end, duration) for start, end in zip(cuts, cuts[1:], strict=False)])
    flat = [time for interval in found for time in interval]
    assert flat == sorted(flat)
    assert all(0.0 <= time <= duration for time in flat)


@given(window=st.integers(0, 10_000), frame=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_times_do_not_depend_on_the_window(window: int, frame: int) -> None:
    times = FrameTimes()
    in_window = times.centre(frame) + window * times.stride / 16000
    assert times.centre(window + frame) == pytest.approx(in_window, abs=1e-9)


@given(intervals=INTERVALS)
@settings(deadline=None, max_examples=80)
def test_overlaps_are_cut_and_nothing_else_is_changed(intervals: list[tuple[float, float]]) -> None:
    ordered = in_order(intervals)
    flat = [time for interval in ordered for time in interval]
    assert flat == sorted(flat)
    assert len(ordered) == len(intervals)
    if all(before[1] <= after[0] for before, after in zip(intervals, intervals[1:], strict=False)):
        assert ordered == intervals


@given(late=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)), count=st.integers(5, 30), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_systematic_delay_is_found_and_removed(late: tuple[float, float], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = (torch.rand(count, 2, generator=generator) * 0.002 - 0.001).tolist()
    true = [(place + 1.0, place + 1.5) for place in range(count)]
    measured = [(start + late[0] + a, end + late[1] + b) for (start, end), (a, b) in zip(true, noise, strict=True)]
    measured[0] = (90.0, 95.0)  # one word in the wrong place
    bias = estimate_bias(measured, true)
    assert bias == pytest.approx(late, abs=0.0011)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="one of each per convolution"):
        FrameTimes((10, 3), (5,))
    with pytest.raises(ValueError, match="must be positive"):
        FrameTimes((10,), (0,))
    with pytest.raises(ValueError, match="2 measured and 1 true"):
        estimate_bias([(0.0, 1.0)] * 2, [(0.0, 1.0)])
