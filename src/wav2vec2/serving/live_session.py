"""A conversation over a websocket in which a client sends sound: what all protocols need of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from wav2vec2.serving.live_worker import LiveStream, LiveWorker, TooManyStreamsError
from wav2vec2.serving.pcm import ArrivingSound
from wav2vec2.serving.utterances import Utterance, Utterances

#: How websockets say why they are closed: policy, wrong data, a fault of the service, no room.
POLICY, WRONG_DATA, FAULT, TRY_LATER = 1008, 1007, 1011, 1013

#: Bytes of a reason at most.
_REASON_BYTES = 120


class GoodbyeError(Exception):
    """The conversation ends, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason.encode("utf-8")[:_REASON_BYTES].decode("utf-8", "ignore")


class LiveSession:
    """The sound that a client sends, from its rate and its bytes to utterances."""

    def __init__(
        self, worker: LiveWorker, rate: int, hotwords: Any = None, phrases: Sequence[str] | None = None
    ) -> None:
        self._worker, self._rate, self._hotwords, self._phrases = worker, rate, hotwords, phrases
        self._stream = _opened(worker, hotwords, phrases)
        self._sound = ArrivingSound(rate, self._stream.sampling_rate)
        self.said = Utterances(self._stream.separator)
        #: Whether there was sound since it began, or began again.
        self.heard = False
        self._seconds = 0.0

    async def hear(self, packet: bytes) -> list[Utterance]:
        """Take in bytes of 16 bit samples; the utterances that have ended by now."""
        return await self._hear(packet)

    async def finish(self) -> list[Utterance]:
        """No more comes of this: all that was said, utterance by utterance; the last may have no words."""
        return [*await self._hear(b"", last=True), self.said.end(self._seconds)]

    async def _hear(self, packet: bytes, last: bool = False) -> list[Utterance]:
        samples = self._sound.take(packet, last)
        self.heard = self.heard or len(samples) > 0
        self._seconds += len(samples) / self._stream.sampling_rate
        return self.said.add(await self._stream.hear(samples, last))

    def begin_again(self) -> None:
        """Forget what was not said yet. What comes next is a new stream, whose times go on from here."""
        self.said.end(self._seconds)
        self.close()
        self.heard = False
        self._stream = _opened(self._worker, self._hotwords, self._phrases)
        self._sound = ArrivingSound(self._rate, self._stream.sampling_rate)

    def close(self) -> None:
        """Forget all of it."""
        self._stream.close()


def _opened(worker: LiveWorker, hotwords: Any, phrases: Sequence[str] | None) -> LiveStream:
    try:
        return worker.open(hotwords, phrases)
    except TooManyStreamsError as error:
        raise GoodbyeError(TRY_LATER, str(error)) from error


async def received(websocket: WebSocket, seconds: float) -> str | bytes:
    """The next message. None within so many seconds is a `GoodbyeError`, a client who leaves WebSocketDisconnect."""
    try:
        async with asyncio.timeout(seconds):
            message = await websocket.receive()
    except TimeoutError as error:
        raise GoodbyeError(POLICY, f"nothing came for {seconds:g} s") from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    text = message.get("text")
    found: str | bytes = message.get("bytes", b"") if text is None else text
    return found


@asynccontextmanager
async def conversation(websocket: WebSocket, protocol: str | None = None) -> AsyncIterator[None]:
    """Inside, the websocket is open. A `GoodbyeError` closes it as it says; a client who leaves is no error."""
    await websocket.accept(protocol)
    try:
        yield
        await _close(websocket)
    except GoodbyeError as goodbye:
        await _close(websocket, goodbye.code, goodbye.reason)
    except WebSocketDisconnect:
        pass
    except Exception:
        await _close(websocket, FAULT, "the service failed; its log says more")
        raise


async def _close(websocket: WebSocket, code: int = 1000, reason: str = "") -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was quicker
        await websocket.close(code, reason)
