"""Signals become a wish that the loop can grant after the update at hand: save, and leave cleanly."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

#: What asks a run to leave: a scheduler's or a container's end, Ctrl-C, and the warning that schedulers can be told to
#: send some time before the end (`#SBATCH --signal=USR1@300`).
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1

#: Of these, a second one is not patient any more. After a warning, the end comes without anyone's impatience.
_IMPATIENT = (signal.SIGTERM, signal.SIGINT)

#: A launcher passes Ctrl-C on to processes that the terminal has told already. That is one Ctrl-C, not two.
_ECHO_SECONDS = 0.5

#: What asked the last run of this process to leave before its end; None if it came to its end.
_left_for: str | None = None


def left_early(signal_name: str | None) -> None:
    """Remember that a run was asked to leave and did, by which signal, or with None that it came to its end."""
    global _left_for
    _left_for = signal_name


def exit_code() -> int:
    """Of a process whose run is over: 0 after its last update, 128 + the signal's number when it was asked to leave
    before (130 Ctrl-C, 143 SIGTERM, 138 SIGUSR1 on Linux), as shells have it.

    A scheduler takes 0 for a job that is done, and would not start it again. Below torchrun, and `accelerate launch`
    on several processes, it is 0 all the same: their agent takes everything else for a crash, ends the processes that
    are still saving and reports a failure. What the launcher exits with when it gets the signal is its own.
    """
    if _left_for is None or "TORCHELASTIC_RUN_ID" in os.environ:
        return 0
    return 128 + int(signal.Signals[_left_for])


def _nothing(name: str) -> None:
    pass


class Interruption:
    """A context in which `requested` is the name of the signal that asked for the end, None as long as none has.

    `asked` is called with its name as soon as it comes, in a thread of its own, since the main thread may be deep in
    an update. A second SIGTERM or Ctrl-C ends the process at once with 128 + its number, after a call of `ending`; at a
    prompt of Python, whose other work is not to be lost, it is a `KeyboardInterrupt`. Python hands signals to the main
    thread alone: elsewhere the context does nothing.
    """

    def __init__(
        self,
        asked: Callable[[str], None] = _nothing,
        ending: Callable[[str], None] = _nothing,
        echo_seconds: float = _ECHO_SECONDS,
    ) -> None:
        self.requested: str | None = None
        self._asked, self._ending, self._echo_seconds = asked, ending, echo_seconds
        #: The handlers that were there before, by the numbers of their signals.
        self._previous: dict[int, Any] = {}
        self._ended = False

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # the number of a signal stands in the pipe even while the main thread computes and runs no handler
        self._pipe_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        self._listener = threading.Thread(target=self._listen, daemon=True, name="signals")
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            # None: the handler was not set from Python, and cannot be set back from there
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()
        signal.set_wakeup_fd(self._pipe_before)
        os.write(self._write, b"\0")
        self._listener.join()
        os.close(self._read)
        os.close(self._write)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = self.requested or signal.Signals(number).name
        if self._ended:
            raise KeyboardInterrupt

    def _listen(self) -> None:
        first: float | None = None
        told = False
        while not self._ended and (number := os.read(self._read, 1)[0]):
            if number not in SIGNALS:  # such as a child's end
                continue
            name, now = signal.Signals(number).name, time.monotonic()
            self.requested = self.requested or name
            if not told:
                told = True
                self._asked(name)
            if number in _IMPATIENT:
                first = now if first is None else first
                if now - first > self._echo_seconds:
                    self._end(number)

    def _end(self, number: int) -> None:
        self._ending(signal.Signals(number).name)
        if hasattr(sys, "ps1"):
            self._ended = True
            if hasattr(signal, "pthread_kill"):  # which also wakes the main thread where it sleeps
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            else:
                _thread.interrupt_main()
            return
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(128 + number)
