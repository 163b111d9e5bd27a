"""What a recogniser keeps of one stream: samples that wait, the window's features, the text that is not final.

Shapes: T frames of the convolutions, C channels, U frames of the logits, V tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.streaming.endpoints import EndpointDetector
from wav2vec2.inference.streaming.incoming_audio import Chunk, IncomingAudio, Samples
from wav2vec2.inference.streaming.look_ahead import LookAhead
from wav2vec2.inference.streaming.stream_encoder import Window
from wav2vec2.inference.windows_and_segments import LONGEST
from wav2vec2.modeling.kept_keys import KeptKeys


@dataclass(frozen=True)
class StreamUpdate:
    """What is new in a stream. Final words are handed out once, and never taken back."""

    #: The words that have become final, with their times in the stream.
    final: tuple[Word, ...] = ()
    #: The text behind them as it looks now.
    partial: str = ""
    #: Whether an utterance ended here.
    endpoint: bool = False
    #: The audio that was heard so far.
    seconds: float = 0.0
    #: When the utterances ended, in seconds of the stream.
    ends: tuple[float, ...] = ()


class OpenText(Protocol):
    """The text of a stream, as far as it is not final."""

    @property
    def waiting(self) -> int:
        """How many final frames it keeps, because their words are not final."""

    def add(self, log_probs: Tensor, ahead: Tensor) -> list[Word]:
        """Append final frames (U, V), which those `ahead` (U', V) follow; the words that are final now."""

    def close(self) -> list[Word]:
        """The utterance ends here: all that is left is final."""

    def partial(self) -> str:
        """The text that is not final, with that of the frames ahead."""


class StreamState:
    """The state of one stream. Its frames lie on one grid from its first sample on, whatever the packets."""

    def __init__(
        self,
        look_ahead: LookAhead,
        times: FrameTimes,
        audio: IncomingAudio,
        text: OpenText,
        endpoints: EndpointDetector | None,
        keys: KeptKeys | None,
    ) -> None:
        self.keys = keys
        self.look_ahead, self.times = look_ahead, times
        self.audio, self.text, self.endpoints = audio, text, endpoints
        #: How many frames of the logits are final.
        self._done = 0
        #: The convolutions' output for the frames from `_begin` on, and the levels of the frames that are not final.
        self._features: Tensor | None = None
        self._begin = 0
        self._levels = np.empty(0, np.float32)
        self._latest = StreamUpdate()

    @property
    def _heard(self) -> int:
        """How many frames of the convolutions were computed."""
        return self._begin + (0 if self._features is None else len(self._features))

    def new_frames(self, last: bool) -> int:
        """How many frames of the convolutions the next block still needs; with `last`, how many there are at all."""
        if last:
            return self.audio.frames_ahead()
        block_and_beyond = self._done + self.look_ahead.block + self.look_ahead.right
        return block_and_beyond * self.times.every - self._heard

    def is_due(self) -> bool:
        """Whether there is audio enough for the next block."""
        return self.audio.frames_ahead() >= self.new_frames(last=False)

    def has_frames_left(self) -> bool:
        """Whether there are frames that are not final, when nothing more comes."""
        return self._heard + self.new_frames(last=True) > self._done * self.times.every

    def hear(self, chunk: Chunk, features: Tensor) -> None:
        """Take in the convolutions' output (T, C) for new frames."""
        self._features = features.clone() if self._features is None else torch.cat([self._features, features])
        self._levels = np.concatenate([self._levels, chunk.levels])

    def window(self, last: bool) -> Window:
        """The next block and its context."""
        assert self._features is not None  # a block is due after its features were heard
        return Window(self._features, self._block(last) * self.times.every, self.keys)

    def _block(self, last: bool) -> int:
        """How many frames of the logits become final next: at the end all that are left, where these are computed anew
        in any case; with keys that are kept, a block of them."""
        left = -(-self._heard // self.times.every) - self._done
        return left if last and self.keys is None else min(self.look_ahead.block, left)

    def advance(self, log_probs: Tensor, last: bool) -> StreamUpdate:
        """What follows from the log-probabilities (U, V) of the window."""
        every = self.times.every
        first = self._done - self._begin // every
        block = log_probs[first : first + self._block(last)]
        ahead = log_probs[first + len(block) :]
        levels = np.array(
            [self._levels[place : place + every].max() for place in range(0, len(block) * every, every)], np.float32
        )
        words, ends = self._read(block, ahead, levels)
        self._done += len(block)
        self._levels = self._levels[len(block) * every :]
        self._forget_before(self.look_ahead.first_of(self._done) * every)
        return self._told(words, self.text.partial(), ends)

    def end(self) -> StreamUpdate:
        """What is left to say when no frames are left."""
        return self._told(self.text.close(), "", [])

    def nothing_new(self) -> StreamUpdate:
        """The text as it was, after more audio that does not yet fill a block."""
        return self._told([], self._latest.partial, [])

    def _read(self, block: Tensor, ahead: Tensor, levels: Samples) -> tuple[list[Word], list[float]]:
        """The words of final frames (U, V) with levels (U,), which those `ahead` (U', V) follow, and when utterances
        ended in them."""
        ends = [] if self.endpoints is None else list(self.endpoints.ends(block, levels))
        words: list[Word] = []
        begin = 0
        for end in ends:
            words += self.text.add(block[begin:end], torch.cat([block[end:], ahead])) + self.text.close()
            begin = end
        words += self.text.add(block[begin:], ahead)
        if self.text.waiting > LONGEST:
            words += self.text.close()
        rate = self.times.sampling_rate
        return words, [(self._done + end) * self.times.stride / rate for end in ends]

    def _forget_before(self, frame: int) -> None:
        """Drop the features of frames that no later window holds."""
        assert self._features is not None
        self._features = self._features[max(frame - self._begin, 0) :].clone()
        self._begin = max(frame, self._begin)

    def _told(self, words: Sequence[Word], partial: str, ends: Sequence[float]) -> StreamUpdate:
        seconds = self.audio.heard / self.times.sampling_rate
        self._latest = StreamUpdate(tuple(words), partial, bool(ends), seconds, tuple(ends))
        return self._latest
