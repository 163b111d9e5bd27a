"""The service as a process: it listens, and on a signal it finishes what is in flight and ends."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from wav2vec2.serving.application import Service

#: Bytes of a message on a websocket at most: half a minute of sound in base64.
_MESSAGE_BYTES = 2**21

#: Bytes of the head of a request at most.
_HEAD_BYTES = 2**15


def run(service: Service, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `ready` is called with the address once the service listens. An OSError says that
    an address cannot be listened at."""
    settings = service.settings
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(listening_socket(settings.host, settings.port))]
        if service.wyoming is not None and settings.wyoming_port is not None:
            wyoming = listening_socket(settings.host, settings.wyoming_port)
            service.wyoming.socket = opened.enter_context(wyoming)
        gc.collect()
        gc.freeze()  # looking through all that was loaded, now and then, would keep everybody waiting for 0.2 s
        ready(address_of(sockets[0]))
        asyncio.run(server_of(service).serve(sockets))


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket at which clients are heard, who wait until somebody answers them."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise OSError(f"{host}, port {port}: cannot be listened at: {error.strerror or error}") from error


def address_of(listening: socket.socket) -> str:
    """Where HTTP is spoken."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server_of(service: Service) -> uvicorn.Server:
    """What answers at a socket."""
    settings = service.settings
    config = uvicorn.Config(
        service.application(),
        http=_with_patience(settings.idle_seconds),
        ws=_WebSocketProtocol,
        ws_max_size=_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_timeout=60.0,
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=round(settings.stopping_seconds),
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Uvicorn's server, for which a signal is the wish to end well: it is not raised again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's websockets, closing connections that ask for one in a way that is none: a control character in a header
    passes for HTTP, and not here. (By itself it leaves them open, and nothing ever comes on them.)"""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.close()


def _with_patience(seconds: float) -> type[H11Protocol]:
    """Uvicorn's HTTP, closing connections on which no request came within so many seconds.

    By itself it is patient without end with who sends nothing at all, or a request, or the rest of a body that was
    refused, letter by letter.
    """

    class PatientProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._answered: object = None
            self._watch = self.loop.call_later(seconds, self._close_if_silent)

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.cancel()
            super().connection_lost(exc)

        def _close_if_silent(self) -> None:
            if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it is a websocket now
                return
            if self.cycle is None or self.cycle.response_complete:
                if self.cycle is self._answered:  # nothing since the last look
                    self.transport.close()
                    return
                self._answered = self.cycle
            self._watch = self.loop.call_later(seconds, self._close_if_silent)

    return PatientProtocol
