"""How a command ends early: an error becomes one line, and Ctrl-C can wait for a place where nothing is lost.

Python raises KeyboardInterrupt wherever it happens to be. Inside a library that calls back into Python, such as the one
that reads audio, it is swallowed there, and a whole file is taken for one that is cut off. So `stoppable` remembers it,
and the command asks for it where its work can be left.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

#: Exit code of what Ctrl-C has ended: 128 and the number of the signal.
STOPPED = 130

#: Exit code of what ends because nobody reads its output, as `head` does not once it has its lines: 128 and the number
#: of the signal that ends other programs then.
UNREAD = 141

#: What loading and running a model raises where it is used wrongly, or the machine lacks something.
_OF_MODELS = (ValueError, OSError, ImportError, RuntimeError, AssertionError)


@contextmanager
def told(command: str, stopped: str = "stopped", errors: tuple[type[Exception], ...] = _OF_MODELS) -> Iterator[None]:
    """What goes wrong inside becomes one line on standard error and the exit code 1; Ctrl-C another, and 130. Where
    nobody reads standard output any more, there is no line, and 141.

    Other `errors` than those named are mistakes in the program, and are shown with all that leads to them.
    """
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as stop:
        typer.echo(f"{command}: {stopped}", err=True)
        raise typer.Exit(STOPPED) from stop
    except errors as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise typer.Exit(UNREAD) from error
        typer.echo("\n".join([f"{command}: {error}", *getattr(error, "__notes__", [])]), err=True)
        raise typer.Exit(1) from error


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone. What still waits there is then dropped: Python would try
    to write it when it ends, and complain."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    gone = bool(poll.poll(0))  # of events, only faults are told
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


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
