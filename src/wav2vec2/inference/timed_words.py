"""Words with times, whoever found them, and their times as files count them."""

from collections.abc import Sequence
from typing import Protocol


class TimedWord(Protocol):
    """A word with its time in seconds: `AlignedWord`, or a decoder's word."""

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def confidence(self) -> float: ...


def milliseconds(words: Sequence[TimedWord], duration: float, room: int) -> list[tuple[int, int]]:
    """Times in whole milliseconds that never overlap, each at least `room` long, inside the duration if it has room."""
    limit = max(round(duration * 1000), room * len(words))
    times: list[tuple[int, int]] = []
    clock = 0
    for word in words:
        start = max(clock, round(word.start * 1000))
        clock = max(start + room, round(word.end * 1000))
        times.append((start, clock))
    for index in reversed(range(len(times))):  # push back what was pushed over the end
        start, end = times[index]
        end = min(end, limit)
        start = min(start, end - room)
        times[index] = (start, end)
        limit = start
    return times
