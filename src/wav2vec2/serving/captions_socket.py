"""The websocket of the captions page: sound in, its text out.

The address says the rate (`?rate=48000`), packets are 16 bit samples of one channel, and the text `end` ends it. An
answer has the utterances that have ended, the words of the one that has not, and the text behind them, which may
change. There is one whenever something is new.
"""

import contextlib
from collections.abc import Iterable
from typing import Any

from starlette.websockets import WebSocket

from wav2vec2.decoding.transcripts import Word
from wav2vec2.processing.waveforms import check_rate
from wav2vec2.serving.live_session import WRONG_DATA, GoodbyeError, LiveSession, conversation, received
from wav2vec2.serving.live_worker import LiveWorker
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.transcription_formats import timed

#: What the page calls its protocol; beside it, a key may stand.
_PROTOCOL = "captions"


class CaptionsSocket:
    """Answers at a websocket."""

    def __init__(self, worker: LiveWorker, settings: ServiceSettings) -> None:
        self._worker, self._settings = worker, settings

    async def serve(self, websocket: WebSocket) -> None:
        """One page, until it ends."""
        protocol = _PROTOCOL if _PROTOCOL in websocket.scope["subprotocols"] else None
        async with conversation(websocket, protocol):
            with contextlib.closing(LiveSession(self._worker, _rate(websocket))) as session:
                told: dict[str, Any] = {}
                while not told.get("done"):
                    message = await received(websocket, self._settings.idle_seconds)
                    news = await _news(session, message)
                    if news["ended"] or news["done"] or news != told:
                        told = news
                        await websocket.send_json(told)


def _rate(websocket: WebSocket) -> int:
    try:
        return check_rate(int(websocket.query_params.get("rate", "16000")), "rate")
    except ValueError as error:
        raise GoodbyeError(WRONG_DATA, str(error)) from error


async def _news(session: LiveSession, message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        ended = await session.hear(message)
    elif message == "end":
        ended = await session.finish()
    else:
        raise GoodbyeError(WRONG_DATA, "a message must be sound, or the text: end")
    said = session.said
    rows = [_rows(utterance.words) for utterance in ended if utterance.words]
    return {"ended": rows, "words": _rows(said.words), "partial": said.partial, "done": message == "end"}


def _rows(words: Iterable[Word]) -> list[dict[str, Any]]:
    return [timed(word) for word in words]
