"""Sound for live protocols, in packets, and what the streaming recogniser says of it without a service."""

from typing import Any

import numpy as np
from recognition_checkpoints import noise
from served_models import Served
from websockets.sync.client import ClientConnection, connect

from wav2vec2 import StreamingRecogniser, Transcriber
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.stream_state import StreamUpdate
from wav2vec2.serving.pcm import as_mono

LATENCY = 0.96


def two_utterances() -> bytes:
    """Noise, a silence that ends an utterance, and noise: 16 bit samples at 16 kHz."""
    samples = np.concatenate([noise(2.5), np.zeros(40_000, np.float32), noise(2.2, seed=1)])
    return (samples * 2**15).astype("<i2").tobytes()


def heard(transcriber: Transcriber) -> list[StreamUpdate]:
    """What a recogniser says of them in one packet."""
    recogniser = StreamingRecogniser(transcriber.model, transcriber.processor, latency=LATENCY)
    stream = recogniser.open()
    found = [stream.feed(as_mono(two_utterances(), 2, 1)), stream.finish()]
    assert len(words_of(found)) > 5 and found[0].endpoint
    return found


def words_of(updates: list[StreamUpdate]) -> list[Word]:
    """All final words."""
    return [word for update in updates for word in update.final]


def socket(one: Served, path: str, **options: Any) -> ClientConnection:
    """A websocket of a service, to be used in a `with`."""
    client: ClientConnection = connect(one.address.replace("http", "ws") + path, **options)
    return client


def packets(sound: bytes, size: int) -> list[bytes]:
    """Sound in packets of so many bytes."""
    return [sound[begin : begin + size] for begin in range(0, len(sound), size)]
