"""The thread that recognises live sound: all streams take their steps together, and each is told what is new in it."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.inference.streaming.stream_state import StreamUpdate
from wav2vec2.inference.streaming.streaming_recogniser import Stream, StreamingRecogniser
from wav2vec2.inference.transcriber import Transcriber

logger = logging.getLogger("wav2vec2")


def tried_recogniser(transcriber: Transcriber, latency: float) -> StreamingRecogniser:
    """The recogniser of live sound of a model, tried on a second of silence.

    A model that cannot hear live is a ValueError, or, where nobody foresaw it, a RuntimeError: one whose frames begin
    so far apart, or hear so much, that the latency is over before they end.
    """
    decoder = None if transcriber.decoder is None else CTCDecoder(**transcriber.decoder.settings())
    recogniser = StreamingRecogniser(transcriber.model, transcriber.processor, decoder, latency)
    stream = recogniser.open()
    stream.push(np.zeros(recogniser.sampling_rate, np.float32))
    stream.finish()
    return recogniser


class TooManyStreamsError(Exception):
    """Another stream cannot be taken now."""


@dataclass
class _Packet:
    """Sound that has come for a stream, and who waits for what it brings."""

    stream: Stream
    samples: NDArray[np.float32]
    #: Called with the updates, or with what went wrong.
    tell: Callable[[list[StreamUpdate], Exception | None], None]
    #: Whether nothing comes after it.
    last: bool = False
    updates: list[StreamUpdate] = field(default_factory=list)


class LiveWorker:
    """Recognises streams in a thread of its own; at most `places` of them."""

    def __init__(self, recogniser: StreamingRecogniser, places: int) -> None:
        self.recogniser, self.places = recogniser, places
        #: Seconds of sound that were heard.
        self.audio_seconds = 0.0
        self.streams = 0
        self._inbox: queue.SimpleQueue[_Packet | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="wav2vec2-live", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether sound is still listened to."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End, once what has come is done."""
        self._inbox.put(None)
        self._thread.join()

    def open(self, hotwords: Any = None, phrases: Sequence[str] | None = None) -> "LiveStream":
        """A new stream, which has to be closed."""
        if self.streams >= self.places:
            raise TooManyStreamsError(f"{self.places} streams are open; try again later")
        stream = self.recogniser.open(hotwords, phrases=phrases)
        self.streams += 1
        return LiveStream(self, stream)

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        self.streams -= 1
        stream.close()

    def put(self, packet: _Packet) -> None:
        """Hear a packet as soon as that is possible."""
        self._inbox.put(packet)

    def _run(self) -> None:
        waiting: dict[Stream, _Packet] = {}
        going_on = True
        while going_on or waiting:
            try:
                packet = self._inbox.get(block=not waiting)
            except queue.Empty:  # all that is there takes the next step together
                self._step(waiting)
                continue
            if packet is None:
                going_on = False
            else:
                self._begin(packet, waiting)

    def _begin(self, packet: _Packet, waiting: dict[Stream, _Packet]) -> None:
        try:
            packet.stream.push(packet.samples)
            self.audio_seconds += len(packet.samples) / self.recogniser.sampling_rate
        except Exception as error:  # the stream was closed, or this is no sound
            packet.tell([], error)
        else:
            waiting[packet.stream] = packet

    def _step(self, waiting: dict[Stream, _Packet]) -> None:
        """A block for each stream that has one; who has none left is told. Nothing that goes wrong ends the thread."""
        try:
            stepped = self.recogniser.step()
        except Exception as error:
            logger.exception("recognising %d streams failed", len(waiting))
            for packet in waiting.values():
                packet.tell([], error)
            waiting.clear()
            return
        for stream, update in stepped:
            if stream in waiting:
                waiting[stream].updates.append(update)
        for stream in set(waiting) - {stream for stream, _ in stepped}:
            self._finish(waiting.pop(stream))

    def _finish(self, packet: _Packet) -> None:
        error: Exception | None = None
        if packet.last:
            try:
                packet.updates.append(packet.stream.finish())
            except Exception as raised:
                error = raised
        packet.tell(packet.updates, error)


class LiveStream:
    """One stream, seen from the event loop. One packet at a time: the next has to wait for what the last has brought,
    so that a client who sends faster than can be heard is slowed down."""

    def __init__(self, worker: LiveWorker, stream: Stream) -> None:
        self._worker, self._stream = worker, stream
        self._closed = False

    @property
    def sampling_rate(self) -> int:
        """Samples a second that it needs."""
        return self._worker.recogniser.sampling_rate

    @property
    def separator(self) -> str:
        """What stands between two words."""
        return self._worker.recogniser.separator

    async def hear(self, samples: NDArray[np.float32], last: bool = False) -> list[StreamUpdate]:
        """What these samples bring. With the `last` of them, all becomes final."""
        loop = asyncio.get_running_loop()
        brought: asyncio.Future[list[StreamUpdate]] = loop.create_future()

        def deliver(updates: list[StreamUpdate], error: Exception | None) -> None:
            if brought.done():
                return  # nobody waits any more
            if error is None:
                brought.set_result(updates)
            else:
                brought.set_exception(error)

        def tell(updates: list[StreamUpdate], error: Exception | None) -> None:
            loop.call_soon_threadsafe(deliver, updates, error)

        self._worker.put(_Packet(self._stream, samples, tell, last))
        return await brought

    def close(self) -> None:
        """Forget it."""
        if not self._closed:
            self._closed = True
            self._worker.close(self._stream)
