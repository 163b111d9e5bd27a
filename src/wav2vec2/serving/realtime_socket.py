"""OpenAI's realtime protocol for transcription: `ws /v1/realtime?intent=transcription`.

Sound comes in events, in base64. Words are told as they become final, and each utterance once more when it has ended.
"""

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.websockets import WebSocket

from wav2vec2.decoding.transcripts import Word
from wav2vec2.serving.live_session import LiveSession, conversation, received
from wav2vec2.serving.live_worker import LiveWorker
from wav2vec2.serving.realtime_events import RealtimeSession, read_event, sound_of, wrong
from wav2vec2.serving.refusals import RefusedError
from wav2vec2.serving.settings import ServiceSettings

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class RealtimeSocket:
    """Answers at a websocket."""

    def __init__(self, worker: LiveWorker, settings: ServiceSettings) -> None:
        self._worker, self._settings = worker, settings

    async def serve(self, websocket: WebSocket) -> None:
        """One client."""
        protocol = "realtime" if "realtime" in websocket.scope["subprotocols"] else None
        async with conversation(websocket, protocol):
            client = _Client(websocket, self._worker, self._settings)
            try:
                await client.begin()
                while True:
                    await client.answer(await received(websocket, self._settings.idle_seconds))
            finally:
                client.close()


class _Item:
    """An utterance on its way to the client: what it is called, its words so far, and what was told of them."""

    def __init__(self, number: int) -> None:
        self.id = f"item_{number}"
        self.words: tuple[Word, ...] = ()
        self.told = ""


class _Client:
    """A client, its session, and the item that its sound makes."""

    def __init__(self, websocket: WebSocket, worker: LiveWorker, settings: ServiceSettings) -> None:
        self._websocket, self._worker, self._settings = websocket, worker, settings
        self._session = RealtimeSession(settings.names[0], next(iter(settings.languages), None))
        self._live: LiveSession | None = None
        self._numbers = itertools.count(1)
        self._item: _Item | None = None
        self._previous: _Item | None = None
        self._answers: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "session.update": self._update,
            "transcription_session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }

    async def begin(self) -> None:
        """What is said first."""
        await self._send("session.created", session=self._described())

    async def answer(self, message: str | bytes) -> None:
        """Answer one message. A wrong one is told, and changes nothing."""
        event: dict[str, Any] = {}
        try:
            event = read_event(message)
            if event["type"] not in self._answers:
                raise wrong("type", f"type={event['type'][:80]!r} is unknown here", "unknown_event")
            await self._answers[event["type"]](event)
        except RefusedError as refusal:
            await self._send("error", error=refusal.content()["error"] | {"event_id": event.get("event_id")})

    def close(self) -> None:
        """Forget what was not committed."""
        if self._live is not None:
            self._live.close()

    async def _send(self, type: str, **content: Any) -> None:
        await self._websocket.send_json({"type": type, "event_id": f"event_{next(self._numbers)}"} | content)

    def _described(self) -> dict[str, Any]:
        rules = self._worker.recogniser.endpoint
        return self._session.described(None if rules is None else rules.silence_after_text)

    async def _update(self, event: dict[str, Any]) -> None:
        session = self._session.updated(event, self._settings)
        if self._live is not None and session.rate != self._session.rate:
            raise wrong("format.rate", "the rate cannot change once there was sound")
        self._session = session
        await self._send(f"{event['type'].removesuffix('update')}updated", session=self._described())

    async def _append(self, event: dict[str, Any]) -> None:
        sound = sound_of(event)
        if self._live is None:
            self._live = LiveSession(self._worker, self._session.rate)
        for utterance in await self._live.hear(sound):
            await self._tell(utterance.words)
            if self._session.detects_turns:
                item = cast(_Item, self._item)
                stopped = {"audio_end_ms": round(1000 * utterance.end), "item_id": item.id}
                await self._send("input_audio_buffer.speech_stopped", **stopped)
                await self._complete(item)
        await self._tell(())

    async def _commit(self, event: dict[str, Any]) -> None:
        live = self._live
        if live is None or not live.heard:
            raise wrong(None, "there is no sound to commit", "input_audio_buffer_commit_empty")
        for utterance in await live.finish():
            await self._tell(utterance.words)
        live.begin_again()
        await self._complete(self._item or _Item(next(self._numbers)))

    async def _clear(self, event: dict[str, Any]) -> None:
        if self._live is not None:
            self._live.begin_again()
        self._item = None
        await self._send("input_audio_buffer.cleared")

    async def _tell(self, ended: tuple[Word, ...]) -> None:
        """Tell the words that are new: of an utterance that has ended, and of the one that has not."""
        said = cast(LiveSession, self._live).said
        words = ended or tuple(said.words)
        if not words:
            return
        if self._item is None:
            self._item = _Item(next(self._numbers))
            started = {"audio_start_ms": round(1000 * words[0].start), "item_id": self._item.id}
            if self._session.detects_turns:
                await self._send("input_audio_buffer.speech_started", **started)
        item = self._item
        text = said.text_of((*item.words, *words))
        if text != item.told:
            delta = {"item_id": item.id, "content_index": 0, "delta": text[len(item.told) :]}
            await self._send(f"{_TRANSCRIPTION}.delta", **delta)
            item.told = text
        if ended:
            item.words += ended

    async def _complete(self, item: _Item) -> None:
        before = None if self._previous is None else self._previous.id
        await self._send("input_audio_buffer.committed", item_id=item.id, previous_item_id=before)
        seconds = math.ceil(item.words[-1].end - item.words[0].start) if item.words else 0
        usage = {"type": "duration", "seconds": seconds}
        done = {"item_id": item.id, "content_index": 0, "transcript": item.told, "usage": usage}
        await self._send(f"{_TRANSCRIPTION}.completed", **done)
        self._previous, self._item = item, None
