"""Two recognisers for the telephone: a service that speaks Vosk's protocol, and a model in this process.

Each opens an ear for one answer: packets of sound in (8 kHz, 16 bits), words out, of which only some are possible.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from telephone import RATE
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from wav2vec2 import StreamingRecogniser
from wav2vec2.decoding.expected_phrases import UNKNOWN
from wav2vec2.serving.pcm import ArrivingSound
from wav2vec2.serving.utterances import Utterances

#: Seconds by the clock that a service may take to answer a packet.
ANSWER_SECONDS = 10.0


class RecogniserLostError(Exception):
    """The recogniser has failed, or does not answer."""


@dataclass(frozen=True)
class HeardWord:
    """A word, "[unk]" for one that was not expected, and how likely it is to be right."""

    text: str
    confidence: float


class Ear(Protocol):
    """Hears one answer."""

    @property
    def has_words(self) -> bool:
        """Whether it has heard words by now, final or not."""

    def hear(self, packet: bytes) -> list[HeardWord] | None:
        """The words of the answer if it has ended, None as long as it has not."""

    def finish(self) -> list[HeardWord]:
        """Nothing more comes: the words there are."""

    def close(self) -> None:
        """Forget it."""


class Recogniser(Protocol):
    """Opens ears."""

    def listen_for(self, phrases: Sequence[str]) -> Ear:
        """An ear that hears these phrases, and "[unk]" for other words."""


class VoskService:
    """A service at an address such as ws://127.0.0.1:8000/vosk: `wav2vec2 serve`, or Vosk's own. Every answer has a
    connection of its own, since Vosk takes phrases at the beginning of one alone."""

    def __init__(self, address: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._address, self._seconds = address, answer_seconds

    def listen_for(self, phrases: Sequence[str]) -> "VoskEar":
        """See `Recogniser`."""
        return VoskEar(self._address, phrases, self._seconds)


class VoskEar:
    """One connection."""

    def __init__(self, address: str, phrases: Sequence[str], seconds: float) -> None:
        self.has_words = False
        self._seconds, self._opened = seconds, ExitStack()
        config = {"sample_rate": RATE, "words": True, "phrase_list": [*phrases, UNKNOWN]}
        try:
            self._socket = self._opened.enter_context(connect(address, open_timeout=seconds, close_timeout=1))
            self._socket.send(json.dumps({"config": config}))
        except (OSError, ValueError, WebSocketException) as error:
            self.close()
            raise RecogniserLostError(f"{address}: {error}") from error

    def hear(self, packet: bytes) -> list[HeardWord] | None:
        """See `Ear`."""
        answer = self._answer(packet)
        words = _words(answer)
        self.has_words = bool(answer.get("partial") or words)
        return words or None

    def finish(self) -> list[HeardWord]:
        """See `Ear`."""
        return _words(self._answer('{"eof" : 1}'))

    def close(self) -> None:
        """See `Ear`."""
        self._opened.close()

    def _answer(self, message: bytes | str) -> dict[str, Any]:
        try:
            self._socket.send(message)
            answer = json.loads(self._socket.recv(self._seconds))
        except (OSError, WebSocketException, ValueError) as error:  # TimeoutError is an OSError
            raise RecogniserLostError(f"the service does not answer: {error or type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise RecogniserLostError(f"the service answers {answer!r:.40}")
        return answer


def _words(answer: dict[str, Any]) -> list[HeardWord]:
    return [HeardWord(str(row["word"]), float(row["conf"])) for row in answer.get("result", [])]


class Model:
    """A model in this process."""

    def __init__(self, recogniser: StreamingRecogniser) -> None:
        self._recogniser = recogniser

    def listen_for(self, phrases: Sequence[str]) -> "ModelEar":
        """See `Recogniser`."""
        return ModelEar(self._recogniser, phrases)


class ModelEar:
    """One stream."""

    def __init__(self, recogniser: StreamingRecogniser, phrases: Sequence[str]) -> None:
        self._stream = recogniser.open(phrases=[*phrases, UNKNOWN])
        self._sound = ArrivingSound(RATE, recogniser.sampling_rate)
        self._said = Utterances(recogniser.separator)

    @property
    def has_words(self) -> bool:
        """See `Ear`."""
        return bool(self._said.text)

    def hear(self, packet: bytes) -> list[HeardWord] | None:
        """See `Ear`."""
        ended = self._said.add([self._stream.feed(self._sound.take(packet))])
        return [HeardWord(word.text, word.confidence) for one in ended for word in one.words] or None

    def finish(self) -> list[HeardWord]:
        """See `Ear`."""
        self._stream.push(self._sound.take(b"", last=True))
        ended = [*self._said.add([self._stream.finish()]), self._said.end(0.0)]
        return [HeardWord(word.text, word.confidence) for one in ended for word in one.words]

    def close(self) -> None:
        """See `Ear`."""
        self._stream.close()
