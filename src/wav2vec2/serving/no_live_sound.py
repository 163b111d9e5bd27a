"""A model that transcribes recordings and cannot hear live sound: who would send some is told why, in its protocol."""

from starlette.websockets import WebSocket

from wav2vec2.serving.access import KEY_PROTOCOL
from wav2vec2.serving.live_session import GoodbyeError, conversation
from wav2vec2.serving.refusals import RefusedError

#: How websockets say that this kind of data is not taken.
_UNSUPPORTED = 1003


class NoLiveSound:
    """Answers at the websockets of such a model; `reason` says what it lacks."""

    def __init__(self, reason: str) -> None:
        self._message = f"this model hears recordings alone: {reason}"

    async def serve(self, websocket: WebSocket) -> None:
        """One client of Vosk's protocol or of the captions page, who reads the reason of the end."""
        async with conversation(websocket, _protocol(websocket)):
            raise GoodbyeError(_UNSUPPORTED, self._message)

    async def serve_realtime(self, websocket: WebSocket) -> None:
        """One client of OpenAI's realtime protocol, where an error is an event."""
        error = RefusedError(400, self._message, "no_live_sound").content()["error"] | {"event_id": None}
        async with conversation(websocket, _protocol(websocket)):
            await websocket.send_json({"type": "error", "event_id": "event_1", "error": error})
            raise GoodbyeError(_UNSUPPORTED, self._message)


def _protocol(websocket: WebSocket) -> str | None:
    """What the client calls its protocol: a browser leaves where it is not answered by one of its names."""
    offered: list[str] = websocket.scope["subprotocols"]
    return next((name for name in offered if not name.startswith(KEY_PROTOCOL)), None)
