"""The thread that transcribes whole recordings, and the queue before it."""

import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.kept_parts import KeptInMemory, Part
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.inference.transcript import Transcript

logger = logging.getLogger("wav2vec2")

#: Recordings that share batches on an accelerator. On a CPU each would wait for all of them, and little is gained.
_TOGETHER = 16


class QueueFullError(Exception):
    """No recording can be taken now; one can in about so many seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many recordings wait; try again in {seconds} s")
        self.seconds = seconds


class UnusableRecordingError(ValueError):
    """There is no transcript of this recording: it is none, or is damaged."""


class GivenUpError(ValueError):
    """Nobody waits for this recording any more. (As a ValueError it ends this recording alone, not its neighbours.)"""


@dataclass
class Job:
    """A recording that is to be transcribed."""

    #: What is transcribed: a path, or an array with its rate.
    content: Any
    #: The rate of an array.
    rate: int | None
    #: What errors call the recording.
    name: str
    #: Called in the thread of the model with all text that is known so far, whenever there is more.
    heard: Callable[[str], None] | None
    #: Its transcript, or what went wrong, once it is done.
    found: "Future[Transcript]" = field(default_factory=Future)
    #: Set when nobody waits for it any more.
    given_up: threading.Event = field(default_factory=threading.Event)

    def give_up(self) -> None:
        """Leave it where it is, unless it is done."""
        self.given_up.set()
        self.found.cancel()

    def check(self) -> None:
        """Called while it is being read."""
        if self.given_up.is_set():
            raise GivenUpError("nobody waits for this recording any more")


class _Hearing(KeptInMemory):
    """Tells each job of a group what has been heard of its recording."""

    def __init__(self, transcriber: Transcriber, jobs: dict[str, Job]) -> None:
        super().__init__()
        self._transcriber, self._jobs = transcriber, jobs

    def keep(self, name: str, part: Part) -> None:
        super().keep(name, part)
        heard = self._jobs[name].heard
        if heard is not None:
            heard(self._transcriber.transcript_of(name, self.parts[name]).text)


class FileWorker:
    """Transcribes recordings in a thread, one group after another; `places` of them can wait."""

    def __init__(self, transcriber: Transcriber, places: int) -> None:
        self.transcriber = transcriber
        #: Seconds of audio that were transcribed, and recordings that could not be.
        self.audio_seconds, self.failures = 0.0, 0
        #: Recordings that are being transcribed.
        self.working_on = 0
        self._together = 1 if transcriber.model.device.type == "cpu" else _TOGETHER
        self._waiting: queue.Queue[Job | None] = queue.Queue(places)
        self._numbers = itertools.count(1)
        self._seconds_each = 1.0
        self._thread = threading.Thread(target=self._run, name="wav2vec2-files", daemon=True)

    @property
    def waiting(self) -> int:
        """How many recordings wait."""
        return self._waiting.qsize()

    @property
    def alive(self) -> bool:
        """Whether recordings are still taken from the queue."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take recordings from the queue."""
        self._thread.start()

    def stop(self) -> None:
        """End once all that waits is done."""
        self._waiting.put(None)
        self._thread.join()

    def check_for_room(self) -> None:
        """A QueueFullError if a recording would not be taken now, so that it need not be sent."""
        if self._waiting.full():
            raise QueueFullError(self._patience())

    def submit(
        self, content: Any, name: str, rate: int | None = None, heard: Callable[[str], None] | None = None
    ) -> Job:
        """Put a recording into the queue. A QueueFullError if it has no place."""
        job = Job(content, rate, name, heard)
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            raise QueueFullError(self._patience()) from None
        return job

    def _patience(self) -> int:
        """Seconds after which the queue should have a place: when the one that is being done is done."""
        return max(1, math.ceil(self._seconds_each))

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            jobs, last = self._joined_by_others(first)
            began = time.monotonic()
            wanted = [job for job in jobs if job.found.set_running_or_notify_cancel()]
            self.working_on = len(wanted)
            self._transcribe(wanted)
            self.working_on = 0
            self._seconds_each += 0.2 * ((time.monotonic() - began) / len(jobs) - self._seconds_each)
            if last:
                return

    def _joined_by_others(self, first: Job) -> tuple[list[Job], bool]:
        """What is done now, and whether it is the last."""
        jobs = [first]
        while len(jobs) < self._together:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _transcribe(self, jobs: list[Job]) -> None:
        """Give each job its transcript, or what went wrong. Nothing that goes wrong ends the thread."""
        named = {f"{job.name} #{next(self._numbers)}": job for job in jobs}
        inputs = [AudioInput(name, job.content, job.rate, job.check) for name, job in named.items()]
        try:
            for found in self.transcriber.transcribe_each(inputs, keeper=_Hearing(self.transcriber, named)):
                self._deliver(named[found.path], found)
        except Exception as error:
            logger.exception("transcribing %s failed", ", ".join(named))
            for job in named.values():
                if not job.found.done():
                    self.failures += 1
                    job.found.set_exception(error)

    def _deliver(self, job: Job, found: Transcript) -> None:
        if found.error is None:
            self.audio_seconds += found.duration
            job.found.set_result(found)
            return
        self.failures += 1
        reason = found.error.removeprefix(f"{found.path}: ")
        if isinstance(job.content, str):  # where it lies on this machine concerns nobody
            reason = reason.replace(f"{job.content}: ", "").replace(job.content, job.name)
        job.found.set_exception(UnusableRecordingError(f"{job.name}: {reason}"))
