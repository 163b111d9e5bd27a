"""Recordings are read in threads while the model computes: in order, several at once, only so far ahead."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_checkpoints import RATE, noise, processor, talkative_model

from wav2vec2.inference import Transcriber
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import seconds_in_a_batch
from wav2vec2.inference.reading_ahead import read_ahead
from wav2vec2.inference.windows_and_segments import Moments


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within ten seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=8), st.integers(1, 4), st.integers(1, 3))
def test_everything_comes_once_and_in_order(sizes: list[int], at_once: int, most: int) -> None:
    sources = list(enumerate(sizes))
    read = read_ahead(sources, lambda one: ((one[0], item) for item in range(one[1])), at_once, most)
    found = [(source, list(items)) for source, items in read]
    assert found == [((n, size), [(n, item) for item in range(size)]) for n, size in sources]


def test_several_are_read_at_once_and_only_so_far() -> None:
    """Three of five, two items each and the one at hand, while nobody takes any; then the next."""
    read: dict[int, int] = {}

    def items(source: int) -> Iterator[int]:
        for item in range(10):
            read[source] = item + 1
            yield item

    ahead = read_ahead(range(5), items, at_once=3, most=2)
    source, first = next(ahead)
    assert source == 0
    assert soon(lambda: read == {0: 3, 1: 3, 2: 3})
    time.sleep(0.05)
    assert read == {0: 3, 1: 3, 2: 3}
    assert list(first) == list(range(10))
    next(ahead)
    assert soon(lambda: read == {0: 10, 1: 3, 2: 3, 3: 3})
    ahead.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ValueError("cut off"), KeyboardInterrupt()], ids=["fault", "stop"])
def test_an_error_comes_in_its_place(error: BaseException) -> None:
    def items(source: str) -> Iterator[str]:
        yield from source
        if source == "b":
            raise error

    ahead = read_ahead("abc", items, at_once=3, most=5)
    found = []
    for source, letters in ahead:
        taken = iter(letters)
        found.append(next(taken))
        if source == "b":
            with pytest.raises(type(error)) as raised:
                next(taken)
            assert raised.value is error
    assert found == ["a", "b", "c"]


def test_what_nobody_takes_is_left() -> None:
    """Threads end with the item that they are at, whether or not a source was begun."""
    before = set(threading.enumerate())
    ahead = read_ahead(range(9), lambda _: iter(range(10**9)), at_once=4, most=2)
    _, items = next(ahead)
    assert next(iter(items)) == 0
    started = set(threading.enumerate()) - before
    assert len(started) == 4
    assert all(thread.daemon for thread in started)
    ahead.close()  # type: ignore[attr-defined]
    assert soon(lambda: not any(thread.is_alive() for thread in started))


def test_a_stop_while_reading_ends_the_transcription() -> None:
    """What `check` raises in a thread comes out of `transcribe_each`, after what was finished before it."""

    def stop() -> None:
        raise KeyboardInterrupt

    transcriber = Transcriber(talkative_model(), processor(), batch_seconds=1, window_seconds=10, context_seconds=2)
    inputs = [AudioInput(str(n), noise(12.0, n), RATE, *((stop,) if n == 4 else ())) for n in range(6)]
    found = []
    with pytest.raises(KeyboardInterrupt):
        for transcript in transcriber.transcribe_each(inputs):
            found.append(transcript.path)
    assert found[:2] == ["0", "1"] and "4" not in found


def test_the_next_recordings_are_read_while_the_model_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    seen: list[int] = []
    transcriber = Transcriber(talkative_model(), processor(), batch_seconds=1, window_seconds=4, context_seconds=1)
    inputs = [
        AudioInput(str(n), noise(6.0, n), RATE, lambda n=n: begun.append(str(n)))  # type: ignore[misc]
        for n in range(8)
    ]
    launch = transcriber.listener.launch

    def slow(windows: list[Any]) -> Any:
        soon(lambda: len(set(begun)) > 2)
        seen.append(len(set(begun)))
        return launch(windows)

    monkeypatch.setattr(transcriber.listener, "launch", slow)
    assert [transcript.path for transcript in transcriber.transcribe_each(inputs)] == [str(n) for n in range(8)]
    assert seen[0] > 2


def test_nothing_is_left_in_the_memory_of_a_batch() -> None:
    """Samples are put into memory that is not cleared: what stood there is no part of a shorter window."""
    listener = Transcriber(talkative_model("base"), processor()).listener
    windows = [
        next(listener.plan.windows(AudioInput("noise", noise(seconds, 5), RATE), Moments())) for seconds in (3.0, 0.7)
    ]
    empty = torch.empty

    def dirty(*size: Any, **options: Any) -> torch.Tensor:
        made: torch.Tensor = empty(*size, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", dirty)
        together = listener.launch(windows).read()
    for window, rows in zip(windows, together, strict=True):
        torch.testing.assert_close(rows, listener.launch([window]).read()[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("gib", "seconds"), [(8, 240), (16, 240), (24, 288), (40, 480), (80, 960), (141, 960)])
def test_a_batch_is_as_large_as_the_gpu(gib: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert seconds_in_a_batch(torch.device("cuda")) == seconds
    assert seconds_in_a_batch(torch.device("cpu")) == 60
    assert seconds_in_a_batch(torch.device("mps")) == 240
