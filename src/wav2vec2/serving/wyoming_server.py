"""The Wyoming protocol over TCP, which Home Assistant speaks: sound comes until it ends, then its text goes back."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from starlette.requests import ClientDisconnect

from wav2vec2.serving.awaited_job import AwaitedJob
from wav2vec2.serving.file_worker import FileWorker
from wav2vec2.serving.pcm import as_mono, checked_format
from wav2vec2.serving.refusals import RefusedError
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.transcriptions import check_language, check_model
from wav2vec2.serving.wyoming_events import LINE_BYTES, BrokenEventError, Event, read_event

logger = logging.getLogger("wav2vec2")

_SOURCE = {"name": "wav2vec2", "url": "https://arxiv.org/abs/2006.11477"}


def description(settings: ServiceSettings) -> dict[str, Any]:
    """What is said of the service to who asks."""
    about = {"attribution": _SOURCE, "installed": True, "version": version("wav2vec2")}
    model = {"name": settings.names[0], "description": settings.names[0], "languages": list(settings.languages)}
    program = {"name": "wav2vec2", "description": "wav2vec 2.0", "models": [model | about]}
    return {"asr": [program | about | {"supports_transcript_streaming": False}]}


class WyomingServer:
    """Listens at a socket of its own, which must be there before it starts."""

    def __init__(self, worker: FileWorker, settings: ServiceSettings) -> None:
        self._worker, self._settings = worker, settings
        self._connections: dict[asyncio.Task[Any], _Connection] = {}
        self._server: asyncio.Server | None = None
        self.socket: socket.socket | None = None

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, sock=self.socket, limit=LINE_BYTES)

    async def stop(self) -> None:
        """Take nobody new, end connections on which nothing is asked, and wait for the others' answers."""
        assert self._server is not None
        self._server.close()
        for task, connection in self._connections.items():
            connection.leaving = True
            if not connection.busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self._settings.stopping_seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self._worker, self._settings, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        full = len(self._connections) >= self._settings.connections
        self._connections[task] = connection
        try:
            if full:
                await connection.send_error("too many connections; try again later", "busy")
            else:
                await connection.serve()
        except asyncio.CancelledError:
            pass  # by `stop`: the task ends here
        except (ConnectionError, ClientDisconnect):
            pass  # the client left
        except Exception:
            logger.exception("a Wyoming connection failed")
            with contextlib.suppress(ConnectionError):
                await connection.send_error("the service failed at this request; its log says more", "internal-error")
        finally:
            del self._connections[task]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class _Connection:
    """One client: what it has asked for, and the sound that has come since."""

    def __init__(
        self,
        worker: FileWorker,
        settings: ServiceSettings,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._worker, self._settings, self._reader, self._writer = worker, settings, reader, writer
        self.busy = self.leaving = False
        self._format: tuple[int, int, int] | None = None  # rate, width, channels
        self._sound = bytearray()
        self._answers: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "describe": self._describe,
            "ping": self._pong,
            "transcribe": self._choose,
            "audio-start": self._begin,
            "audio-stop": self._transcribe,
        }

    async def serve(self) -> None:
        """Answer events until the client ends, is silent for too long, or sends what is no event."""
        while not self.leaving:
            try:
                async with asyncio.timeout(self._settings.idle_seconds):
                    event = await read_event(self._reader)
                    if event is None:
                        return
                await self._answer(event)
            except BrokenEventError as error:
                return await self.send_error(str(error), "invalid-event")
            except TimeoutError:
                return await self.send_error(f"nothing came for {self._settings.idle_seconds:g} s", "idle")

    async def _answer(self, event: Event) -> None:
        try:
            if event.type == "audio-chunk":
                self._add(event)
            elif event.type in self._answers:  # others are for other services
                await self._answers[event.type](event.data)
        except RefusedError as refusal:
            self._format, self._sound = None, bytearray()
            await self.send_error(refusal.message, refusal.code or "refused")

    async def _send(self, type: str, data: dict[str, Any]) -> None:
        self._writer.write(Event(type, data).encoded())
        await self._writer.drain()

    async def send_error(self, text: str, code: str) -> None:
        """Say what went wrong."""
        await self._send("error", {"text": text, "code": code})

    async def _describe(self, data: dict[str, Any]) -> None:
        await self._send("info", description(self._settings))

    async def _pong(self, data: dict[str, Any]) -> None:
        await self._send("pong", {"text": data.get("text")})

    async def _choose(self, data: dict[str, Any]) -> None:
        check_model(str(data.get("name") or self._settings.names[0]), self._settings)
        check_language(str(data.get("language") or ""), self._settings)

    async def _begin(self, data: dict[str, Any]) -> None:
        self._format, self._sound = _format(data), bytearray()

    def _add(self, event: Event) -> None:
        format = _format(event.data)
        if self._format is None:
            return  # after an error, up to the next beginning
        if format != self._format:
            raise RefusedError(400, f"rate, width and channels were {self._format}, now {format}", "invalid-format")
        if len(self._sound) + len(event.payload) > self._settings.upload_bytes:
            raise RefusedError(413, f"a recording may have {self._settings.upload_bytes / 2**20:g} MiB", "too-large")
        self._sound += event.payload

    async def _transcribe(self, data: dict[str, Any]) -> None:
        if self._format is None:
            return
        (rate, width, channels), self._format = self._format, None
        samples, self._sound = as_mono(self._sound, width, channels), bytearray()
        self.busy = True
        try:
            await self._send("transcript", {"text": await self._text(samples, rate) if len(samples) else ""})
        finally:
            self.busy = False

    async def _text(self, samples: Any, rate: int) -> str:
        waiting = AwaitedJob(self._worker, samples, "the recording", rate)
        async with waiting.within(self._settings.answer_seconds):
            return (await waiting.transcript()).text


def _format(data: dict[str, Any]) -> tuple[int, int, int]:
    try:
        return checked_format(data.get("rate"), data.get("width"), data.get("channels"))
    except ValueError as error:
        raise RefusedError(400, str(error), "invalid-format") from error
