"""`StreamingRecogniser`: live audio in, words out that are final a stated time after they were said.

Samples of a stream are normalised by what was heard before (`incoming_audio.py`, `running_moments.py`), the
convolutions compute each frame once, the Transformer looks at windows of them or at blocks and what it kept of earlier
ones (`look_ahead.py`, `stream_encoder.py`), and what it says of the frames of a block is final: words are read off as
they end (`greedy_text.py`, `beam_text.py`), and silence ends an utterance (`endpoints.py`). Streams share batches, and
nothing else.

Shapes: T frames, C channels of the feature encoder, U frames of the logits, V tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.expected_phrases import expecting
from wav2vec2.inference.decoder_choice import Hotwords, Lexicon
from wav2vec2.inference.listener import seconds_in_a_batch
from wav2vec2.inference.streaming.beam_text import BeamText
from wav2vec2.inference.streaming.endpoints import EndpointDetector, EndpointRules
from wav2vec2.inference.streaming.greedy_text import GreedyText
from wav2vec2.inference.streaming.incoming_audio import IncomingAudio
from wav2vec2.inference.streaming.look_ahead import LookAhead
from wav2vec2.inference.streaming.spoken_tokens import SpokenTokens
from wav2vec2.inference.streaming.stream_encoder import stream_encoder
from wav2vec2.inference.streaming.stream_state import OpenText, StreamState, StreamUpdate
from wav2vec2.inference.streaming.words_in_stream import Writing
from wav2vec2.inference.transcriber import Transcriber, greedy_decoder, separator_of
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.processing.processor import Wav2Vec2Processor

#: Seconds that a model looks back on which was not tuned for streams: on streams of minutes 8 made no fewer errors, and
#: cost more than twice as much (docs/streaming.md).
_LEFT_CONTEXT = 2.0

#: When utterances end, unless the caller says otherwise.
_RULES = EndpointRules()


class Stream:
    """One stream of audio. `push` may be called in another thread than everything else."""

    def __init__(self, recogniser: "StreamingRecogniser", state: StreamState) -> None:
        self._recogniser, self._state = recogniser, state
        self._closed: str | None = None

    def push(self, samples: Any) -> None:
        """Take in samples of one channel at the recogniser's rate, as many as there are: floats in [-1, 1], or int16.

        What cannot be samples is a ValueError, and nothing of it is heard.
        """
        self._check_open()
        self._state.audio.push(samples)

    def feed(self, samples: Any) -> StreamUpdate:
        """Push samples, and compute what they make due of this stream alone."""
        self.push(samples)
        return self._recogniser.advance(self)

    def finish(self) -> StreamUpdate:
        """Nothing more comes: everything becomes final. The recogniser forgets the stream."""
        self._check_open()
        update = self._recogniser.finish(self)
        self.close("finished")
        return update

    def close(self, how: str = "closed") -> None:
        """Forget the stream, and what it has not said yet."""
        self._closed = self._closed or how
        self._recogniser.forget(self)

    @property
    def state(self) -> StreamState:
        """What the recogniser keeps of it."""
        return self._state

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ValueError(f"this stream is {self._closed}: open another one")


class StreamingRecogniser:
    """Recognises speech while it is spoken, with any CTC model of this package and its processor.

    No sample waits longer than `latency` seconds for its text to be final: `block` seconds of it (a third, unless said)
    until a block of frames is full, the rest is right context. Of what was heard before, the model looks back on
    `left_context` seconds (None: all of it; "auto": as far as it was tuned to, or 2 s if it never was tuned for
    streams). `endpoint` says when silence ends an utterance; None: never. A batch has at most `batch_seconds` of audio.
    """

    def __init__(
        self,
        model: Wav2Vec2ForCTC,
        processor: Wav2Vec2Processor,
        decoder: CTCDecoder | None = None,
        latency: float = 1.92,
        left_context: float | Literal["auto"] | None = "auto",
        block: float | None = None,
        endpoint: EndpointRules | None = _RULES,
        batch_seconds: float | None = None,
    ) -> None:
        if not isinstance(model, Wav2Vec2ForCTC):
            raise ValueError(f"the model is a {type(model).__name__}; only a Wav2Vec2ForCTC writes text here")
        self.processor, self.decoder, self.endpoint = processor, decoder, endpoint
        self._greedy = greedy_decoder(model.eval(), processor)
        self.frame_times = self._greedy.frame_times
        seconds_back = _as_trained(model.config, self.frame_times) if left_context == "auto" else left_context
        plan = LookAhead.within(latency, block, seconds_back, self.frame_times)
        normalise = processor.feature_extractor.do_normalize
        self._encoder = stream_encoder(model, normalise, self.sampling_rate, plan)
        self.look_ahead = self._encoder.look_ahead
        self._tokens = SpokenTokens(self._greedy.speller)
        seconds = batch_seconds or seconds_in_a_batch(model.device)
        self._most_frames = round(seconds * self.sampling_rate / self._encoder.hearing.stride)
        self._streams: dict[Stream, None] = {}
        self._computing = Lock()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        latency: float = 1.92,
        left_context: float | Literal["auto"] | None = "auto",
        block: float | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        language: str | None = None,
        language_model: str | Path | None = None,
        beam: int | None = None,
        hotwords: Hotwords | None = None,
        lexicon: Lexicon | None = None,
        endpoint: EndpointRules | None = _RULES,
        batch_seconds: float | None = None,
    ) -> "StreamingRecogniser":
        """Load model, processor and decoder from a folder or the Hub, as `Transcriber.from_pretrained` does."""
        loaded = Transcriber.from_pretrained(
            name_or_path, device, dtype, language, language_model, beam, hotwords, lexicon=lexicon
        )
        return cls(
            loaded.model, loaded.processor, loaded.decoder, latency, left_context, block, endpoint, batch_seconds
        )

    @property
    def sampling_rate(self) -> int:
        """Samples a second that streams need."""
        return self.frame_times.sampling_rate

    @property
    def separator(self) -> str:
        """What stands between words in a text."""
        return separator_of(self.processor.tokenizer, self._greedy.speller)

    def open(
        self,
        hotwords: Hotwords | None = None,
        language: str | None = None,
        phrases: Sequence[str] | None = None,
        text: OpenText | None = None,
    ) -> Stream:
        """A new stream; there may be any number at once. `language` must be the one that the model was loaded for.

        With `phrases` no other words are heard in it; "[unk]" among them stands for any other word (`expecting`).
        `text` takes what is final in place of the decoder.
        """
        spoken = self._encoder.model.target_lang
        if language not in (None, spoken):
            knows = "is a model of one language" if spoken is None else f"was loaded for {spoken!r}"
            raise ValueError(f"language={language!r}: the model {knows}; languages cannot share one recogniser")
        times, detector = self.frame_times, None
        if self.endpoint is not None:
            detector = EndpointDetector(self.endpoint, times.stride / times.sampling_rate, self._tokens)
        audio = IncomingAudio(self._encoder.hearing)
        text = self._open_text(hotwords, phrases) if text is None else text
        keys = self._encoder.no_keys()
        stream = Stream(self, StreamState(self.look_ahead, times, audio, text, detector, keys))
        self._streams[stream] = None
        return stream

    def _open_text(self, hotwords: Hotwords | None, phrases: Sequence[str] | None) -> OpenText:
        tokenizer, decoder = self.processor.tokenizer, self.decoder
        writing = Writing(self.separator, getattr(tokenizer, "do_lower_case", False))
        if hotwords:
            decoder = CTCDecoder(**(decoder or self._greedy).settings() | {"hotwords": hotwords})
        if phrases:
            decoder = expecting(decoder or self._greedy, phrases)
        return GreedyText(self._greedy, self._tokens, writing) if decoder is None else BeamText(decoder, writing)

    def step(self) -> list[tuple[Stream, StreamUpdate]]:
        """One block of every stream that has enough audio, in as few batches as can be; empty when none has.

        A stream that is behind has several blocks waiting: call it again until nothing comes.
        """
        with self._computing:
            due = [stream for stream in list(self._streams) if stream.state.is_due()]
            return [pair for group in self._groups(due) for pair in self._advanced(group, last=False)]

    def advance(self, stream: Stream) -> StreamUpdate:
        """All blocks of one stream that are due, as one update."""
        with self._computing:
            updates = []
            while stream.state.is_due():
                updates += [update for _, update in self._advanced([stream], last=False)]
            return _joined(updates) if updates else stream.state.nothing_new()

    def finish(self, stream: Stream) -> StreamUpdate:
        """The rest of one stream, as one update."""
        updates = [self.advance(stream)]
        with self._computing:
            while stream.state.has_frames_left():
                updates += [update for _, update in self._advanced([stream], last=True)]
            return _joined([*updates, stream.state.end()])

    def forget(self, stream: Stream) -> None:
        """Compute nothing more for a stream."""
        self._streams.pop(stream, None)

    def _groups(self, due: Sequence[Stream]) -> Iterator[list[Stream]]:
        """The streams in groups that fit in a batch."""
        look = self.look_ahead
        left = look.block if look.left is None else look.left
        fit = max(1, self._most_frames // ((left + look.block + look.right) * self.frame_times.every))
        for begin in range(0, len(due), fit):
            yield list(due[begin : begin + fit])

    def _advanced(self, streams: Sequence[Stream], last: bool) -> list[tuple[Stream, StreamUpdate]]:
        """One block of each of these streams, or all that is left of them."""
        states = [stream.state for stream in streams]
        hearing = [state for state in states if state.new_frames(last)]
        chunks = [state.audio.take(state.new_frames(last), last) for state in hearing]
        features_of_each = self._encoder.convolve(chunks) if chunks else []
        for state, chunk, features in zip(hearing, chunks, features_of_each, strict=True):
            state.hear(chunk, features)
        log_probs = self._encoder.log_probs([state.window(last) for state in states])
        return [(stream, stream.state.advance(rows, last)) for stream, rows in zip(streams, log_probs, strict=True)]


def _as_trained(config: Wav2Vec2Config, times: FrameTimes) -> float | None:
    """How many seconds a model looks back on, by what it was trained on."""
    if not config.hears_in_chunks:
        return _LEFT_CONTEXT
    return None if config.attention_left is None else config.attention_left * times.stride / times.sampling_rate


def _joined(updates: Sequence[StreamUpdate]) -> StreamUpdate:
    """Updates of one stream that follow each other, as one."""
    ends = tuple(end for update in updates for end in update.ends)
    final = tuple(word for update in updates for word in update.final)
    return replace(updates[-1], final=final, endpoint=bool(ends), ends=ends)
