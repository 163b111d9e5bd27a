"""Vosk's websocket protocol, which Asterisk, FreeSWITCH and Jigasi speak: every packet of sound is answered at once.

Messages are those of alphacep/vosk-server, websocket/asr_server.py, down to the white space of `{"eof" : 1}`.
"""

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket

from wav2vec2.language_models.phrase_bigrams import MOST_WORDS
from wav2vec2.processing.waveforms import check_rate
from wav2vec2.serving.live_session import WRONG_DATA, GoodbyeError, LiveSession, conversation, received
from wav2vec2.serving.live_worker import LiveWorker
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.utterances import Utterance

logger = logging.getLogger("wav2vec2")

#: Vosk's own defaults.
_RATE = 8000
#: Phrases, and words in all of them, at most that a client may expect, or favour.
_PHRASES = 500

_END, _RESET = '{"eof" : 1}', '{"reset" : 1}'


@dataclass
class _Config:
    """What a client has asked for."""

    rate: int = _RATE
    words: bool = True
    alternatives: int = 0
    #: What can be said at all.
    phrases: tuple[str, ...] = ()
    #: What is favoured: an addition to Vosk's messages.
    hotwords: tuple[str, ...] = ()

    def read(self, message: str) -> None:
        """Take in a message with a config. What it must not be is a `GoodbyeError`."""
        try:
            asked = json.loads(message)["config"]
            self.rate = check_rate(float(asked.get("sample_rate", self.rate)), "sample_rate")  # type: ignore[arg-type]
            self.words = bool(asked.get("words", self.words))
            self.alternatives = int(asked.get("max_alternatives", self.alternatives))
            self.phrases, self.hotwords = _phrases(asked, "phrase_list"), _phrases(asked, "hotwords")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise GoodbyeError(WRONG_DATA, f"config: {error}") from error


def _phrases(asked: dict[str, Any], name: str) -> tuple[str, ...]:
    """The phrases under this name; too many of them, or of their words, are a ValueError."""
    given = asked.get(name) or ()
    if isinstance(given, str):
        raise ValueError(f"{name} must be a list of phrases")
    found = tuple(str(one) for one in given)
    if len(found) > _PHRASES or len({word for phrase in found for word in phrase.split()}) > MOST_WORDS:
        raise ValueError(f"{name} may have {_PHRASES} phrases of {MOST_WORDS} different words")
    return found


class VoskSocket:
    """Answers at a websocket."""

    def __init__(self, worker: LiveWorker, settings: ServiceSettings) -> None:
        self._worker, self._settings = worker, settings

    async def serve(self, websocket: WebSocket) -> None:
        """One client, from its configuration to its end."""
        config = _Config()
        async with conversation(websocket):
            with contextlib.ExitStack() as opened:
                session: LiveSession | None = None
                message: str | bytes = ""
                while not _is(message, _END):
                    message = await received(websocket, self._settings.idle_seconds)
                    if isinstance(message, str) and "config" in message:
                        config.read(message)  # has no answer, and after the first packet no effect on the rate
                        continue
                    session = session or opened.enter_context(contextlib.closing(self._session(config)))
                    await websocket.send_text(await _answer(session, message, config))

    def _session(self, config: _Config) -> LiveSession:
        try:
            return LiveSession(self._worker, config.rate, config.hotwords or None, config.phrases or None)
        except ValueError as error:  # as Vosk does where a model knows no phrases
            logger.warning("a Vosk client's phrase_list and hotwords have no effect: %s", error)
            return LiveSession(self._worker, config.rate)


async def _answer(session: LiveSession, message: str | bytes, config: _Config) -> str:
    """The one answer to a packet: the utterances that it has ended, or how the one that is open looks."""
    if isinstance(message, bytes):
        ended = await session.hear(message)
        if not ended:
            return _written({"partial": session.said.text})
    elif _is(message, _END) or _is(message, _RESET):
        ended = await session.finish()
        if _is(message, _RESET):
            session.begin_again()
    else:
        raise GoodbyeError(WRONG_DATA, f"a text must be a config or {_END}")
    return _written(_result(session, ended, config))


def _is(message: str | bytes, known: str) -> bool:
    return isinstance(message, str) and message.replace(" ", "") == known.replace(" ", "")


def _result(session: LiveSession, ended: Sequence[Utterance], config: _Config) -> dict[str, Any]:
    words = [word for utterance in ended for word in utterance.words]
    rows: list[dict[str, Any]] = [
        {"conf": round(word.confidence, 6), "end": round(word.end, 6), "start": round(word.start, 6), "word": word.text}
        for word in words
    ]
    found: dict[str, Any] = {"result": rows} if rows and config.words else {}
    found["text"] = session.said.text_of(words)
    if config.alternatives < 1:
        return found
    for row in rows:
        del row["conf"]
    return {"alternatives": [{"confidence": 1.0} | found]}


def _written(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2, separators=(",", " : "))
