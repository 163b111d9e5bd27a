"""The whole service as one application: what is answered where."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.serving.access import Access
from wav2vec2.serving.api_description import described_page, description
from wav2vec2.serving.captions_page import CaptionsPage
from wav2vec2.serving.captions_socket import CaptionsSocket
from wav2vec2.serving.file_worker import FileWorker
from wav2vec2.serving.live_worker import LiveWorker, tried_recogniser
from wav2vec2.serving.metrics import MEDIA_TYPE, Measured, Metrics
from wav2vec2.serving.no_live_sound import NoLiveSound
from wav2vec2.serving.realtime_socket import RealtimeSocket
from wav2vec2.serving.refusals import RefusedError, refuse, refuse_address, refuse_for_a_fault
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.transcriptions import Transcriptions, check_model
from wav2vec2.serving.vosk_socket import VoskSocket
from wav2vec2.serving.wyoming_server import WyomingServer

#: What anybody may see, with a key or without.
_OPEN_PLACES = frozenset({"/health", "/docs", "/openapi.json"})


class Service:
    """A model, what serves it, and what is known of both."""

    def __init__(self, transcriber: Transcriber, settings: ServiceSettings) -> None:
        language = settings.language or transcriber.processor.tokenizer.target_lang
        self.settings = settings = replace(settings, language=language)
        self.files = FileWorker(transcriber, settings.queue)
        self.live: LiveWorker | None = None
        #: Why it hears no live sound, if it does not.
        self.no_live_sound = ""
        try:
            self.live = LiveWorker(tried_recogniser(transcriber, settings.latency), settings.connections)
        except (ValueError, RuntimeError) as error:
            self.no_live_sound = str(error)
        self.wyoming = None if settings.wyoming_port is None else WyomingServer(self.files, settings)
        self._began = time.time()

    def application(self) -> Starlette:
        """What an ASGI server runs."""
        page = CaptionsPage()
        websockets = self._websockets()
        routes: list[Route | WebSocketRoute] = [
            *(WebSocketRoute(place, answer) for place, answer in websockets.items()),
            *(Route(place, self._no_websocket) for place in websockets),
            Route("/v1/audio/transcriptions", Transcriptions(self.files, self.settings), methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
            Route("/captions", page.begin),
            Route("/captions/", page.file),
            Route("/captions/{name}", page.file),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._description),
            Route("/docs", self._page),
        ]
        places = frozenset(route.path for route in routes)
        self.metrics = Metrics(places | page.places, self._gauges())
        middleware = [Middleware(Measured, metrics=self.metrics)]
        if self.settings.origins:
            allowed: dict[str, Any] = {"allow_origins": self.settings.origins, "allow_methods": ["GET", "POST"]}
            middleware.append(Middleware(CORSMiddleware, allow_headers=["authorization", "content-type"], **allowed))
        middleware.append(Middleware(Access, settings=self.settings, open_places=_OPEN_PLACES | page.places))
        handlers = {RefusedError: refuse, HTTPException: refuse_address, Exception: refuse_for_a_fault}
        return Starlette(False, routes, middleware, handlers, lifespan=self._running)

    def _websockets(self) -> dict[str, Callable[[WebSocket], Awaitable[None]]]:
        """What answers where live sound comes."""
        if self.live is None:
            none = NoLiveSound(self.no_live_sound)
            vosk, realtime, captions = none.serve, none.serve_realtime, none.serve
        else:
            kinds = (VoskSocket, RealtimeSocket, CaptionsSocket)
            vosk, realtime, captions = (kind(self.live, self.settings).serve for kind in kinds)
        return {"/": vosk, "/vosk": vosk, "/v1/realtime": realtime, "/captions/live": captions}

    @property
    def _workers(self) -> list[FileWorker | LiveWorker]:
        return [self.files] if self.live is None else [self.files, self.live]

    @contextlib.asynccontextmanager
    async def _running(self, app: Starlette) -> AsyncIterator[None]:
        for worker in self._workers:
            worker.start()
        if self.wyoming is not None:
            await self.wyoming.start()
        yield
        if self.wyoming is not None:
            await self.wyoming.stop()
        for worker in self._workers:
            worker.stop()

    def _gauges(self) -> Mapping[tuple[str, str], Callable[[], float]]:
        found: dict[tuple[str, str], Callable[[], float]] = {
            ("wav2vec2_queue_length", "Recordings that wait for the model."): lambda: self.files.waiting,
            ("wav2vec2_working_on", "Recordings that are being transcribed."): lambda: self.files.working_on,
            ("wav2vec2_queue_limit", "Recordings that may wait."): lambda: self.settings.queue,
            ("wav2vec2_audio_seconds_total", "Seconds of audio transcribed."): lambda: self.files.audio_seconds,
            ("wav2vec2_failures_total", "Recordings without a transcript."): lambda: self.files.failures,
            ("wav2vec2_uptime_seconds", "Seconds since the start."): lambda: time.time() - self._began,
        }
        if (live := self.live) is not None:
            found |= {
                ("wav2vec2_streams", "Streams of live sound."): lambda: live.streams,
                ("wav2vec2_streams_limit", "Streams that may be open."): lambda: live.places,
                ("wav2vec2_live_seconds_total", "Seconds of live sound heard."): lambda: live.audio_seconds,
            }
        if (wyoming := self.wyoming) is not None:
            found["wav2vec2_wyoming_connections", "Open Wyoming connections."] = lambda: wyoming.connections
        return found

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described(name) for name in self.settings.names]})

    async def _model(self, request: Request) -> Response:
        check_model(request.path_params["name"], self.settings)
        return JSONResponse(self._described(request.path_params["name"]))

    def _described(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": int(self._began), "owned_by": "wav2vec2"}

    async def _no_websocket(self, request: Request) -> Response:
        message = f"{request.url.path} is a websocket; /docs says what there is"
        raise RefusedError(426, message, "websocket_needed", headers={"upgrade": "websocket"})

    async def _health(self, request: Request) -> Response:
        alive = all(worker.alive for worker in self._workers)
        content = {"status": "ok" if alive else "failed", "model": self.settings.names[0], "queue": self.files.waiting}
        return JSONResponse(content, 200 if alive else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=MEDIA_TYPE)

    async def _description(self, request: Request) -> Response:
        return JSONResponse(description(self.settings))

    async def _page(self, request: Request) -> Response:
        policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(described_page(self.settings, self.live is not None), headers=policy)
