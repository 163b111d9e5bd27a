"""A recording in the queue, seen from the event loop: what is heard of it, its transcript, and a client that leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from wav2vec2.inference.transcript import Transcript
from wav2vec2.serving.file_worker import FileWorker, QueueFullError, UnusableRecordingError
from wav2vec2.serving.refusals import NOT_AGAIN, RefusedError


class AwaitedJob:
    """A recording that somebody waits for, which must be done inside `within`. A queue without a place for it is a
    `RefusedError`."""

    def __init__(self, worker: FileWorker, content: Any, name: str, rate: int | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[str | None] = asyncio.Queue()

        def tell(text: str | None) -> None:  # from the thread of the model
            loop.call_soon_threadsafe(self._heard.put_nowait, text)

        try:
            self._job = worker.submit(content, name, rate, tell)
        except QueueFullError as full:
            raise busy(full) from full
        self._job.found.add_done_callback(lambda _: tell(None))

    @asynccontextmanager
    async def within(self, seconds: float, receive: Receive | None = None) -> AsyncIterator[None]:
        """Inside, the recording is waited for: so many seconds, and as long as the client is there, which is seen if
        HTTP's `receive` is given. Whoever leaves earlier gives it up."""
        watch = None if receive is None else asyncio.create_task(self._leave_with_client(receive))
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise RefusedError(504, f"no transcript within {seconds:g} s", "timeout", headers=NOT_AGAIN) from error
        finally:
            if watch is not None:
                watch.cancel()
            self._job.give_up()  # nothing, if it is done

    async def texts(self) -> AsyncIterator[str]:
        """All text so far, whenever there is more, until it is done. ClientDisconnect if the client leaves."""
        while (text := await self._heard.get()) is not None:
            yield text
        if self._job.given_up.is_set():
            raise ClientDisconnect

    async def transcript(self) -> Transcript:
        """The transcript, once it is there. A recording that is none is a `RefusedError`."""
        if not self._job.found.done():
            async for _ in self.texts():
                pass
        try:
            return self._job.found.result()
        except UnusableRecordingError as error:
            raise RefusedError(400, str(error), "invalid_audio", "file") from error

    async def _leave_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._job.give_up()
        self._heard.put_nowait(None)


def busy(full: QueueFullError) -> RefusedError:
    """There is no place in the queue."""
    return RefusedError(429, str(full), "queue_full", headers={"retry-after": str(full.seconds)})
