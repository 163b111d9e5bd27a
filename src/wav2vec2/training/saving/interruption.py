"""Signals become a wish that the loop can grant after the update at hand: save, and leave cleanly."""

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
