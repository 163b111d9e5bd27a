"""Signals become a wish that the loop can grant after the update at hand: save, and leave cleanly."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

#: What asks a run to leave: a scheduler's or a container's end, Ctrl-C, and the warning that schedulers can be told to
#: send some time before the end (`#SBATCH --signal=USR1@300`).
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1

#: A launcher passes Ctrl-C on to processes that the terminal has told already. That is one Ctrl-C, not two.
_ECHO_SECONDS = 0.5

#: How long a worker told to end goes on. Its process needs it for the update at hand.
_WORKER_SECONDS = 60


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


class Interruption:
    """Within the context, `requested` is the name of the signal that asked for the end, None while none has.

    A second Ctrl-C raises `KeyboardInterrupt` at once. Python hands signals to the main thread alone: elsewhere the
    context does nothing.
    """

    def __init__(self, echo_seconds: float = _ECHO_SECONDS) -> None:
        self.requested: str | None = None
        self._echo_seconds = echo_seconds
        self._last_interrupt: float | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None: the handler was not set from Python, and cannot be set back from there
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.requested is None:
            self.requested = signal.Signals(number).name
        if number == signal.SIGINT:
            now, before = time.monotonic(), self._last_interrupt
            self._last_interrupt = now
            if before is not None and now - before >= self._echo_seconds:
                raise KeyboardInterrupt


def ignore_interrupts(worker: int = 0) -> None:
    """For the start of a data worker (`worker_init_fn`): what interrupts the run must not take its data away.

    Terminals and schedulers signal every process of a run. A worker that died of it would be an error in the loop
    before the loop could save. A worker ends when its process closes the data, or at the latest a minute after it was
    told to.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, _end_later)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.alarm(_WORKER_SECONDS)
