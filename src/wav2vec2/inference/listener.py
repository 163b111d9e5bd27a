"""`Listener`: what a model hears in recordings, from batches that several of them share.

Recordings are read in threads and cut into windows, and windows of similar length make a batch. The next batch is
launched before what came of the one before it is used, so that an accelerator computes while the host decodes, aligns
and writes; the host waits for one batch, never for all that is queued. (On a CPU a launch is the computing itself.
Decoding in a thread beside it brought no gain that could be seen: docs/performance.md.)

Shapes: B windows, S samples, T frames, V tokens.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.reading_ahead import read_ahead
from wav2vec2.inference.spoken_windows import spoken_windows
from wav2vec2.inference.voice_activity import SilenceRules
from wav2vec2.inference.windows_and_segments import Moments, Segment, Window, WindowPlan, batches, from_frame
from wav2vec2.modeling import Wav2Vec2ForAudioFrameClassification, Wav2Vec2ForCTC
from wav2vec2.modeling.feature_encoder import frames_within

#: Seconds of audio in a batch where the caller does not say. On a CPU little is gained by more.
_BATCH_SECONDS = {"cpu": 60.0}
_BATCH_SECONDS_ELSEWHERE = 240.0

#: A GPU takes so many seconds for each GiB that it has, up to a limit: 960 s, 64 clips of 15 s, are two tenths of a
#: second of work for a large model, and 20 MB of activations each in float32.
_SECONDS_A_GIB, _MOST_SECONDS = 12.0, 960.0

#: Batches that are read before the first is run, so that windows of similar length find each other.
_BATCHES_AHEAD = 4

#: Recordings that are read at once while the model computes, and how many windows of each wait at most (2 MB each).
_RECORDINGS_AT_ONCE, _WINDOWS_AHEAD = 4, 4

Progress = Callable[[float], None]

#: What says something of every frame.
FrameModel = Wav2Vec2ForCTC | Wav2Vec2ForAudioFrameClassification


@dataclass
class Heard:
    """A recording on its way through the model."""

    audio: AudioInput
    #: How many frames from the first on are known: at first those of an earlier run, which are not computed again.
    known: int = 0
    #: What is silence in it, and skipped; None: all of it is heard.
    silence: SilenceRules | None = None
    #: What was read of it so far.
    moments: Moments = field(default_factory=Moments)
    #: Why it could not be read, or be used.
    error: Exception | None = None
    #: The places of windows that are read, and were not given on yet.
    waiting: deque[int] = field(default_factory=deque)
    #: What was computed of a window, by its place, while one before it is not.
    early: dict[int, Tensor] = field(default_factory=dict)
    #: Whether all of it has been read.
    read: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing more comes of it."""
        return self.read and not self.waiting

    def seconds(self, sampling_rate: int) -> float:
        """How long it is, as far as it was read."""
        return self.moments.count / sampling_rate

    def in_order(self, window: Window, log_probs: Tensor) -> Iterator[Segment]:
        """What can be given on now that this window is computed: a shorter one comes after those that are longer."""
        self.early[window.place] = log_probs
        while self.waiting and self.waiting[0] in self.early:
            place = self.waiting.popleft()
            yield Segment(place, self.early.pop(place))


Recording = TypeVar("Recording", bound=Heard)


@dataclass
class Batch(Generic[Recording]):
    """Windows that are computed together, each with its recording; `is_last` of those that were sorted together."""

    windows: list[tuple[Recording, Window]]
    is_last: bool


@dataclass
class Pieces(Generic[Recording]):
    """The log-probabilities of the windows of a batch, and of those that had to wait for them."""

    of: list[tuple[Recording, Segment]]
    is_last: bool


class Launched:
    """What the model makes of a batch of windows: the device may still be at it."""

    def __init__(self, windows: list[Window], log_probs: Tensor) -> None:
        self.windows, self.log_probs = windows, log_probs
        self.computed: torch.cuda.Event | None = None
        if log_probs.is_cuda:
            self.computed = torch.cuda.current_stream(log_probs.device).record_event()

    def read(self) -> list[Tensor]:
        """Log-probabilities (T, V) of the frames that each window keeps, float32 on the CPU.

        Batches that were launched after this one are not waited for.
        """
        beside = stream_beside(self.log_probs.device)
        if beside is not None and self.computed is not None:
            beside.wait_event(self.computed)
        with torch.cuda.stream(beside):  # of None: nothing
            log_probs = self.log_probs.cpu()
        return [row[window.first : window.last].clone() for row, window in zip(log_probs, self.windows, strict=True)]


class Listener:
    """Runs a model on recordings, by a `plan` of windows; a batch holds so many seconds of audio, or a window."""

    def __init__(self, model: FrameModel, plan: WindowPlan, batch_seconds: float | None = None) -> None:
        seconds = batch_seconds or seconds_in_a_batch(model.device)
        if not seconds > 0:
            raise ValueError(f"batch_seconds={batch_seconds}: must be positive")
        self.model, self.plan = model, plan
        self.batch_samples = max(round(seconds * plan.times.sampling_rate), plan.size)

    def hear(self, recordings: Iterable[Recording], progress: Progress | None = None) -> Iterator[Pieces[Recording]]:
        """The log-probabilities of pieces of recordings, a batch at a time; those of one recording in order.

        A recording without a single window is in no batch, and one that has an `error` already is not read; what
        cannot be read is its error. `progress` is called with the seconds of audio that each batch has got further.
        """
        times = self.plan.times
        for batch, pieces in self._one_ahead(self._batches(recordings)):
            of: list[tuple[Recording, Segment]] = []
            frames = 0
            for (recording, window), piece in zip(batch.windows, pieces, strict=True):
                for segment in recording.in_order(window, piece):
                    of.append((recording, segment))
                    frames += segment.end - recording.known
                    recording.known = segment.end
            if progress is not None:
                progress(frames * times.stride / times.sampling_rate)
            yield Pieces(of, batch.is_last)

    def _one_ahead(self, prepared: Iterator[Batch[Recording]]) -> Iterator[tuple[Batch[Recording], list[Tensor]]]:
        """Each batch with its log-probabilities, once the next one is launched; what goes wrong there comes after."""
        before: tuple[Batch[Recording], Launched] | None = None
        error: BaseException | None = None
        while error is None:
            launched = None
            try:
                if (batch := next(prepared, None)) is not None:
                    launched = batch, self.launch([window for _, window in batch.windows])
            except BaseException as raised:  # what was computed before it counts
                error = raised
            if before is not None:
                yield before[0], before[1].read()
            before = launched
            if launched is None:
                break
        if error is not None:
            raise error

    def _batches(self, recordings: Iterable[Recording]) -> Iterator[Batch[Recording]]:
        """The windows of all recordings in batches: by length, out of as many as make a few batches."""
        pool: list[tuple[Recording, Window]] = []
        pooled = 0
        for recording, window in self._read(recordings):
            pool.append((recording, window))
            pooled += len(window.samples)
            if pooled >= _BATCHES_AHEAD * self.batch_samples:
                yield from self._by_length(pool)
                pool, pooled = [], 0
        yield from self._by_length(pool)

    def _by_length(self, pool: list[tuple[Recording, Window]]) -> Iterator[Batch[Recording]]:
        """Longest first."""
        cut = batches([window for _, window in pool], self.batch_samples)
        for left, numbers in zip(reversed(range(len(cut))), cut, strict=True):
            yield Batch([pool[number] for number in numbers], left == 0)

    def _read(self, recordings: Iterable[Recording]) -> Iterator[tuple[Recording, Window]]:
        """The windows of all recordings one after the other."""

        def windows_of(recording: Recording) -> Iterator[Window]:
            if recording.error is not None:
                return iter(())
            if recording.silence is not None:
                return spoken_windows(self.plan, recording.audio, recording.moments, recording.silence)
            return self.plan.windows(recording.audio, recording.moments)

        for recording, windows in read_ahead(recordings, windows_of, _RECORDINGS_AT_ONCE, _WINDOWS_AHEAD):
            try:
                for window in from_frame(recording.known, windows):
                    recording.waiting.append(window.place)
                    yield recording, window
            except (ValueError, OSError) as error:
                recording.error = error
            recording.read = True

    @torch.inference_mode()
    def launch(self, windows: list[Window]) -> Launched:
        """Run the model on a batch of windows; a GPU is not waited for once it has their lengths."""
        device, lengths = self.model.device, [len(window.samples) for window in windows]
        samples = torch.empty(len(windows), max(lengths), pin_memory=device.type == "cuda")  # (B, S)
        for row, length, window in zip(samples, lengths, windows, strict=True):
            row[:length] = torch.from_numpy(np.ascontiguousarray(window.samples))
            row[length:] = 0.0
        values = samples.to(device, non_blocking=True).to(self.model.dtype)  # 32 bits travel, and are cut there
        mask = frames_within(torch.tensor(lengths, device=device), max(lengths))
        logits = self.model(values, attention_mask=mask).logits  # (B, T, V)
        return Launched(windows, logits.float().log_softmax(-1))


@cache
def stream_beside(device: torch.device) -> torch.cuda.Stream | None:
    """Where a GPU works on the frames of one batch while it computes the next; None for any other device."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def seconds_in_a_batch(device: torch.device) -> float:
    """How much audio a batch has on this device, unless the caller says it."""
    seconds = _BATCH_SECONDS.get(device.type, _BATCH_SECONDS_ELSEWHERE)
    if device.type != "cuda":
        return seconds
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return max(seconds, min(_SECONDS_A_GIB * memory, _MOST_SECONDS))
