"""What a client of OpenAI's realtime protocol may send, read strictly, and the session that it sets up.

Sessions are read in the shape of today (`session.update`), and in the one before (`transcription_session.update`).
"""

import base64
import binascii
import json
from dataclasses import dataclass, replace
from typing import Any

from wav2vec2.processing.waveforms import check_rate
from wav2vec2.serving.refusals import RefusedError
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.transcriptions import check_language, check_model

#: What OpenAI's clients send if they say nothing else.
RATE = 24_000


@dataclass(frozen=True)
class RealtimeSession:
    """What a client has set up."""

    #: By which name the model was asked for.
    model: str
    #: What it hears, if that is known.
    language: str | None = None
    #: Samples a second of its sound.
    rate: int = RATE
    #: Whether silence ends an utterance; otherwise the client does, by `input_audio_buffer.commit`.
    detects_turns: bool = True

    def described(self, silence_seconds: float | None) -> dict[str, Any]:
        """As the server tells it. What it says of turns and of the language is what it does, not what was asked for."""
        turns = None
        if self.detects_turns and silence_seconds is not None:
            turns = {"type": "server_vad", "silence_duration_ms": round(1000 * silence_seconds)}
        return {
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": self.rate},
                    "transcription": {"model": self.model, "language": self.language},
                    "turn_detection": turns,
                }
            },
        }

    def updated(self, event: dict[str, Any], settings: ServiceSettings) -> "RealtimeSession":
        """The session that an update makes of it. What there is not is a `RefusedError`."""
        session = _object(event, "session")
        if event["type"] == "transcription_session.update":
            format: Any = session.get("input_audio_format", "pcm16")
            format = {"type": "audio/pcm", "rate": self.rate} if format == "pcm16" else {"type": format}
            wanted = {"format": format, "transcription": session.get("input_audio_transcription")}
            wanted |= {"turn_detection": session["turn_detection"]} if "turn_detection" in session else {}
        else:
            if session.get("type", "transcription") != "transcription":
                raise wrong("session.type", "must be transcription: nothing is spoken here")
            wanted = _object(_object(session, "audio"), "input")
        transcription = wanted.get("transcription") or {}
        if not isinstance(transcription, dict):
            raise wrong("transcription", "must be an object")
        model = str(transcription.get("model") or self.model)
        check_model(model, settings)
        check_language(str(transcription.get("language") or ""), settings)
        rate = _rate(wanted.get("format") or {}, self.rate)
        detects = wanted["turn_detection"] is not None if "turn_detection" in wanted else self.detects_turns
        return replace(self, model=model, rate=rate, detects_turns=detects)


def read_event(message: str | bytes) -> dict[str, Any]:
    """A client's event. What is none is a `RefusedError`."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise wrong(None, f"a message must be a JSON object: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise wrong("type", "a message must be a JSON object with a type")
    return event


def sound_of(event: dict[str, Any]) -> bytes:
    """The sound that an event brings."""
    try:
        return base64.b64decode(event["audio"], validate=True)
    except KeyError as error:
        raise wrong("audio", "audio is not there") from error
    except (binascii.Error, ValueError, TypeError) as error:
        raise wrong("audio", f"audio is no base64: {error}", "invalid_audio") from error


def wrong(param: str | None, message: str, code: str = "invalid_value") -> RefusedError:
    """A client's event is wrong."""
    return RefusedError(400, message, code, param)


def _object(event: dict[str, Any], name: str) -> dict[str, Any]:
    found = event.get(name) or {}
    if not isinstance(found, dict):
        raise wrong(name, f"{name} must be an object")
    return found


def _rate(format: Any, rate: int) -> int:
    if not isinstance(format, dict) or format.get("type", "audio/pcm") != "audio/pcm":
        raise wrong("format", f"format={format!r:.80}: must be audio/pcm, 16 bit samples of one channel")
    try:
        return check_rate(format.get("rate", rate), "format.rate")
    except ValueError as error:
        raise wrong("format.rate", str(error)) from error
