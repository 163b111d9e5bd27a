"""Ctrl-C that waits for a place where nothing is lost.

Python would raise KeyboardInterrupt wherever it happens to be. Inside a library that calls back into Python, such as
the one that reads audio, it is swallowed there, and a whole file is taken for one that is cut off.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


class Stop:
    """Whether a stop was asked for."""

    def __init__(self, message: str) -> None:
        self._message, self._asked = message, False

    def check(self) -> None:
        """KeyboardInterrupt if it was: called where the work can be left."""
        if self._asked:
            raise KeyboardInterrupt

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The first signal says what happens now and is remembered, the second ends the work wherever it is."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        typer.echo(self._message, err=True)


@contextmanager
def stoppable(message: str) -> Iterator[Stop]:
    """Inside, Ctrl-C prints `message` at once and waits for the next `Stop.check`."""
    stop = Stop(message)
    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield stop
        return
    before = signal.signal(signal.SIGINT, stop.ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
