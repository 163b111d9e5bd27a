"""Keywords in live audio: packets in, hits out, a stated time after they were said.

A stream is one of a `StreamingRecogniser`, whose text is read by nobody: its final frames are searched instead. So what
is found depends on no packet's size and on no stream beside it, and comes at most `latency` seconds after the end of
the keyword, and `PATIENCE` more, in which a better place for it may come.

Shapes: U frames, V tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wav2vec2.decoding.transcripts import Word
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import Progress
from wav2vec2.inference.streaming.streaming_recogniser import Stream, StreamingRecogniser
from wav2vec2.spotting.keyword_spotter import Found, Hit, KeywordSpotter, Trace

#: Seconds of a file that are pushed at once.
_BLOCK = 10


class FinalFrames:
    """Takes the place of a stream's text: keeps the frames that have become final until they are searched."""

    waiting = 0

    def __init__(self) -> None:
        self._frames: list[Tensor] = []

    def add(self, log_probs: Tensor, ahead: Tensor) -> list[Word]:
        """Keep final frames (U, V); no words come of them."""
        self._frames.append(log_probs)
        return []

    def close(self) -> list[Word]:
        """Nothing is held back."""
        return []

    def partial(self) -> str:
        """There is no text."""
        return ""

    def taken(self) -> list[Tensor]:
        """What has come since this was last asked."""
        frames, self._frames = self._frames, []
        return frames


class KeywordStream:
    """One stream of audio. `push` may be called in another thread than everything else."""

    def __init__(self, spotter: "LiveSpotter", stream: Stream, frames: FinalFrames, name: str) -> None:
        self._spotter, self.stream, self.frames, self.name = spotter, stream, frames, name
        search = spotter.spotter
        self.paths, self.picker = search.search.begin(), search.picker()

    def push(self, samples: Any) -> None:
        """Take in samples of one channel at the spotter's rate: floats in [-1, 1], or int16."""
        self.stream.push(samples)

    def feed(self, samples: Any) -> list[Hit]:
        """Push samples, and compute what they make due of this stream alone: the hits that are settled by it."""
        self.stream.feed(samples)
        return self._spotter.hits([self])[0]

    def finish(self, trace: Trace | None = None) -> list[Hit]:
        """Nothing more comes: the last hits. The spotter forgets the stream."""
        self.stream.finish()
        (hits,) = self._spotter.hits([self], trace)
        self._spotter.forget(self)
        return hits + [self._spotter.spotter.hit(peak) for peak in self.picker.finish()]

    def close(self) -> None:
        """Forget the stream, and what it has not told yet."""
        self.stream.close()
        self._spotter.forget(self)


class LiveSpotter:
    """Finds keywords in streams; `latency` and `left_context` are those of a `StreamingRecogniser`."""

    def __init__(
        self, spotter: KeywordSpotter, latency: float = 1.92, left_context: float | Literal["auto"] | None = "auto"
    ) -> None:
        loaded = spotter.transcriber
        self.spotter, self.latency = spotter, latency
        self._recogniser = StreamingRecogniser(
            loaded.model, loaded.processor, None, latency, left_context, endpoint=None
        )
        self._tokens = len(loaded.processor.tokenizer.tokens)
        self._streams: dict[Stream, KeywordStream] = {}

    @property
    def sampling_rate(self) -> int:
        """Samples a second that streams need."""
        return self._recogniser.sampling_rate

    def open(self, name: str = "stream") -> KeywordStream:
        """A new stream; there may be any number at once."""
        frames = FinalFrames()
        stream = KeywordStream(self, self._recogniser.open(text=frames), frames, name)
        self._streams[stream.stream] = stream
        return stream

    def step(self) -> list[tuple[KeywordStream, list[Hit]]]:
        """One block of every stream that has enough audio, in as few batches as can be, and the hits that it settles;
        empty when no stream has."""
        advanced = [self._streams[stream] for stream, _ in self._recogniser.step() if stream in self._streams]
        return list(zip(advanced, self.hits(advanced), strict=True))

    def forget(self, stream: KeywordStream) -> None:
        """Search nothing more in a stream."""
        self._streams.pop(stream.stream, None)

    def hits(self, streams: Sequence[KeywordStream], trace: Trace | None = None) -> list[list[Hit]]:
        """The hits that the frames settle which have become final in these streams."""
        searched = self.spotter.search
        rows = [torch.cat([torch.zeros(0, self._tokens), *stream.frames.taken()]) for stream in streams]
        found = []
        for stream, scored in zip(streams, searched.score([one.paths for one in streams], rows), strict=True):
            found.append([self.spotter.hit(peak) for peak in stream.picker.add(*scored)])
            if trace is not None:
                trace(stream.name, scored)
        return found

    def spot_each(
        self, recordings: Iterable[AudioInput], progress: Progress | None = None, trace: Trace | None = None
    ) -> Iterator[Found]:
        """What a stream of each recording finds, as `KeywordSpotter.spot_each`: what was heard live is found again."""
        for audio in recordings:
            stream, heard = self.open(audio.name), 0.0
            try:
                for block in audio.blocks(self.sampling_rate, _BLOCK * self.sampling_rate, 0):
                    stream.stream.feed(block)
                    heard += len(block) / self.sampling_rate
                    if progress is not None:
                        progress(len(block) / self.sampling_rate)
                    if hits := self.hits([stream], trace)[0]:
                        yield Found(audio.name, tuple(hits), heard)
                yield Found(audio.name, tuple(stream.finish(trace)), heard, complete=True)
            except (ValueError, OSError) as error:
                stream.close()
                yield Found(audio.name, seconds=heard, complete=True, error=error)
