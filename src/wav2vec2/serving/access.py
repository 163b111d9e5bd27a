"""Who is let in: those with a key, and of web pages those from here or named."""

import hashlib
import hmac
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from wav2vec2.serving.refusals import RefusedError
from wav2vec2.serving.settings import ServiceSettings

#: How browsers, whose websockets cannot send headers, send a key: as OpenAI's do, with this before it.
KEY_PROTOCOL = "openai-insecure-api-key."


def read_api_keys(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line; lines that begin with # are comments. None at all, or one that is easily
    guessed, is a ValueError."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text, and so no file of keys") from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ValueError(f"{path}: no key in it; one a line, such as `openssl rand -hex 32` prints")
    for key in keys:
        if len(key) < 16 or not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(f"{path}: a key must have at least 16 letters and figures, such as `openssl rand -hex 32`")
    return keys


class Access:
    """Lets requests through to the application, or refuses them. `open_places` need no key."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings, open_places: frozenset[str]) -> None:
        self._app, self._open_places = app, open_places
        self._keys = [_digest(key) for key in settings.api_keys]
        self._origins = frozenset(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["path"], headers, scope.get("subprotocols", []))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await refusal.response()(scope, receive, send)
        else:
            await WebSocket(scope, receive, send).send_denial_response(refusal.response())

    def _refusal(self, path: str, headers: Headers, protocols: Sequence[str]) -> RefusedError | None:
        origin = headers.get("origin")
        if origin is not None and not self._is_from_here(origin, headers.get("host", "")):
            message = f"pages of {origin[:200]} may not use this service (--allow-origin lets them)"
            return RefusedError(403, message, "origin_not_allowed")
        if self._keys and path not in self._open_places and not self._has_key(headers, protocols):
            return RefusedError(
                401,
                "this service needs a key: send the header `Authorization: Bearer KEY`",
                "invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return None

    def _is_from_here(self, origin: str, host: str) -> bool:
        """Whether a page was served by this service, or by somebody who was named.

        A page from elsewhere can have its own name resolved to this machine, and then claims to be from here. It cannot
        do so with an address in figures, or with localhost.
        """
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.netloc == host and _cannot_be_rebound(parts.hostname or "")

    def _has_key(self, headers: Headers, protocols: Sequence[str]) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        shown = [key.strip()] if scheme.lower() == "bearer" else []
        shown += [one.removeprefix(KEY_PROTOCOL) for one in protocols if one.startswith(KEY_PROTOCOL)]
        found = [hmac.compare_digest(_digest(one), key) for one in shown[:2] for key in self._keys]
        return any(found)  # all were compared: the time says nothing


def _digest(key: str) -> bytes:
    """Keys of any length as bytes of one length."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _cannot_be_rebound(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
