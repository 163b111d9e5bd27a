"""Several recordings are read at once, in threads, while the model computes; each only so far ahead.

Decoders of audio, and NumPy, compute without holding Python's lock, and so does a thread that waits for an accelerator.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, NamedTuple, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")


class _End(NamedTuple):
    """Nothing more comes: all is read, or this went wrong."""

    error: BaseException | None


class _Ahead(Generic[Item]):
    """The items of one source, which a thread of its own reads; it waits while `most` of them are not taken.

    The thread is no reason for a program not to end.
    """

    def __init__(self, items: Iterable[Item], most: int) -> None:
        self._line: SimpleQueue[Item | _End] = SimpleQueue()
        self._places = Semaphore(most)
        self._left = False
        Thread(target=self._fill, args=(items,), daemon=True).start()

    def _fill(self, items: Iterable[Item]) -> None:
        end = _End(None)
        try:
            for item in items:
                self._places.acquire()
                if self._left:
                    return
                self._line.put(item)
        except BaseException as error:  # raised again where the items are taken
            end = _End(error)
        self._line.put(end)

    def __iter__(self) -> Iterator[Item]:
        while not isinstance(item := self._line.get(), _End):
            self._places.release()
            yield item
        if item.error is not None:
            raise item.error

    def leave(self) -> None:
        """Nobody takes the rest: the thread ends with the item that it is at."""
        self._left = True
        self._places.release()


def read_ahead(
    sources: Iterable[Source], read: Callable[[Source], Iterable[Item]], at_once: int, most: int
) -> Iterator[tuple[Source, Iterable[Item]]]:
    """Every source, in order, with its items: `at_once` sources are read at a time, each by `most` items ahead.

    What `read` raises comes out of the items, in its place.

    >>> [(word, list(letters)) for word, letters in read_ahead(["ab", "c"], iter, at_once=2, most=1)]
    [('ab', ['a', 'b']), ('c', ['c'])]
    """
    waiting: deque[tuple[Source, _Ahead[Item]]] = deque()
    try:
        for source in sources:
            waiting.append((source, _Ahead(read(source), most)))
            if len(waiting) == at_once:
                yield waiting[0]
                waiting.popleft()
        while waiting:
            yield waiting[0]
            waiting.popleft()
    finally:
        for _, ahead in waiting:
            ahead.leave()
