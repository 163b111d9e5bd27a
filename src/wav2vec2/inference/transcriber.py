"""`Transcriber`: audio of any length and number in, transcripts with times out, in bounded memory.

Recordings are cut into overlapping windows, windows of several recordings share batches, the frames of a recording are
joined on its frame grid, and whole minutes of frames are decoded side by side. None of these cuts can be seen in the
result, but for what the model makes of a window instead of the whole recording.

Shapes: B windows, S samples, T frames, V tokens.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.transcripts import Hypothesis
from wav2vec2.inference.audio_inputs import AudioInput, audio_inputs
from wav2vec2.inference.checkpoint_check import check_head_for_text, reach
from wav2vec2.inference.decoder_choice import Hotwords, Lexicon, Wanted, beam_decoder
from wav2vec2.inference.kept_parts import Keeper, Part
from wav2vec2.inference.reading_ahead import read_ahead
from wav2vec2.inference.transcript import Timestamps, Transcript, join_segments
from wav2vec2.inference.windows_and_segments import (
    Moments,
    Segment,
    WaitingFrames,
    Window,
    WindowPlan,
    batches,
    from_frame,
)
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.int8_linear import quantise_linear_layers
from wav2vec2.modeling.precision import told_if_slow
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor

logger = logging.getLogger("wav2vec2")

#: Seconds of audio in a batch where the caller does not say. On a CPU little is gained by more.
_BATCH_SECONDS = {"cpu": 60.0}
_BATCH_SECONDS_ELSEWHERE = 240.0

#: A GPU takes so many seconds for each GiB that it has, up to a limit: 960 s, 64 clips of 15 s, are two tenths of a
#: second of work for a large model, and 20 MB of activations each in float32.
_SECONDS_A_GIB, _MOST_SECONDS = 12.0, 960.0

#: Batches that are read before the first is run, so that windows of similar length find each other.
_BATCHES_AHEAD = 4

#: Segments that are decoded side by side.
_SEGMENTS_AT_ONCE = 8

#: Recordings that are read at once while the model computes, and how many windows of each wait at most (2 MB each).
_RECORDINGS_AT_ONCE, _WINDOWS_AHEAD = 4, 4

Progress = Callable[[float], None]


@dataclass
class _Recording:
    """A recording on its way through."""

    audio: AudioInput
    #: What waits for the decoder.
    waiting: WaitingFrames
    #: What was heard so far.
    heard: Moments
    #: What was decoded, and at which second it begins.
    segments: list[tuple[float, Hypothesis]] = field(default_factory=list)
    error: Exception | None = None
    #: Whether all of it has been read.
    read: bool = False


class Transcriber:
    """Recognises speech with a CTC model and its processor; by beam search if there is a `decoder`, else greedily.

    `window_seconds` of a long recording are looked at at once, of which `context_seconds` on either side only inform
    the rest. A batch holds up to `batch_seconds` of audio; by default 60 on a CPU, 240 elsewhere, and on a CUDA GPU 12
    for each GiB of its memory, from 240 to 960. Memory: the batches that are read ahead (4, 64 kB a second) and what
    threads have read of the next recordings, the model's activations for one batch, and for each recording in them a
    minute of float32 log-probabilities (12 kB for each token of the vocabulary).
    """

    def __init__(
        self,
        model: Wav2Vec2ForCTC,
        processor: Wav2Vec2Processor,
        decoder: CTCDecoder | None = None,
        window_seconds: float = 30.0,
        context_seconds: float = 4.0,
        batch_seconds: float | None = None,
    ) -> None:
        self.model, self.processor, self.decoder = model.eval(), processor, decoder
        self._greedy = greedy_decoder(model, processor)
        features = processor.feature_extractor
        self._plan = WindowPlan(window_seconds, context_seconds, features.do_normalize, self._greedy.frame_times)
        seconds = batch_seconds or seconds_in_a_batch(model.device)
        if not seconds > 0:
            raise ValueError(f"batch_seconds={batch_seconds}: must be positive")
        self._batch_samples = max(round(seconds * features.sampling_rate), self._plan.size)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        language: str | None = None,
        language_model: str | Path | None = None,
        beam: int | None = None,
        hotwords: Hotwords | None = None,
        window_seconds: float = 30.0,
        context_seconds: float = 4.0,
        batch_seconds: float | None = None,
        lexicon: Lexicon | None = None,
    ) -> "Transcriber":
        """Load model, processor and decoder from a folder or the Hub.

        `device`: by default the accelerator that is there (cuda, mps, ...), else cpu; `dtype`: bfloat16 on a CUDA GPU
        that has it, else float32; int8, for a CPU alone, is float32 with the Transformer's linear layers in 8 bits
        (docs/performance.md: how much quicker, and what it costs). `language` is for checkpoints with several (MMS),
        such as "eng". `language_model` is a compact, ARPA or KenLM file, or a folder; by default the decoder saved in
        the checkpoint, if there is one, is used. `beam`, `hotwords` and `lexicon` (see `CTCDecoder`) go before what was
        saved there, and each alone makes the search a beam search.
        """
        there = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        where = there if device is None else torch.device(device)
        best = torch.bfloat16 if where.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
        if dtype == torch.int8 and where.type != "cpu":
            raise ValueError(f"dtype=int8 computes on a CPU, not on {where.type}: pass device='cpu', or another dtype")
        hub = reach(name_or_path)
        check_head_for_text(name_or_path, hub)
        chosen = hub if language is None else hub | {"target_lang": language}
        processor = Wav2Vec2Processor.from_pretrained(name_or_path, **chosen)
        if dtype == torch.bfloat16 and (told := told_if_slow(where)) is not None:
            logger.warning("dtype=bfloat16, but %s; dtype=float32 is faster", told)
        loaded_as = torch.float32 if dtype == torch.int8 else dtype or best
        model = Wav2Vec2ForCTC.from_pretrained(name_or_path, dtype=loaded_as, **chosen).to(where)
        if dtype == torch.int8:
            quantise_linear_layers(model)
        wanted = Wanted(language_model, beam, hotwords, lexicon)
        decoder = beam_decoder(name_or_path, greedy_decoder(model, processor), wanted, hub)
        return cls(model, processor, decoder, window_seconds, context_seconds, batch_seconds)

    def transcribe(
        self, audio: object, timestamps: Timestamps = "word", sampling_rate: int | None = None
    ) -> Transcript | list[Transcript]:
        """A `Transcript` of a path, of the bytes of a file, or of samples; a list of them for a list or a folder.

        Samples are a pair (array, rate), or an array with `sampling_rate`. Several recordings are batched together.
        One that cannot be used raises ValueError or OSError if it is alone; among several it has an `error` in its
        transcript and the others are done.
        """
        inputs, alone = audio_inputs(audio, sampling_rate)
        found = []
        for transcript, error in self._transcripts(inputs, timestamps, None):
            if alone and error is not None:
                raise error
            found.append(transcript)
        return found[0] if alone else found

    __call__ = transcribe

    def transcribe_each(
        self,
        paths: Iterable[str | Path | AudioInput],
        timestamps: Timestamps = "word",
        progress: Progress | None = None,
        keeper: Keeper | None = None,
    ) -> Iterator[Transcript]:
        """The transcripts of files, in their order, each as soon as it is finished; faults are in their `error`.

        `progress` is called with the seconds of audio that each batch has got further. `keeper` is told every part of a
        recording as it is decoded, and asked first what there is of it already.
        """
        inputs = (path if isinstance(path, AudioInput) else AudioInput(str(path), path) for path in paths)
        return (transcript for transcript, _ in self._transcripts(inputs, timestamps, progress, keeper))

    def transcript_of(self, name: str, parts: Sequence[Part], timestamps: Timestamps = "word") -> Transcript:
        """The transcript of the beginning of a recording, from the parts that were kept of it."""
        times = self._plan.times
        duration = sum(part.frames for part in parts) * times.stride / times.sampling_rate
        return self._joined(name, [(self._seconds(part.offset), part.found) for part in parts], duration, timestamps)

    def log_probs(
        self, audio: object, sampling_rate: int | None = None, progress: Progress | None = None
    ) -> tuple[Tensor, float]:
        """The log-probabilities (T, V) of one recording, in float32, and its seconds; only they grow with it.

        `progress` is called with the seconds of audio that each batch has got further.
        """
        ((recording,), _) = audio_inputs([audio], sampling_rate)
        heard, pieces = Moments(), [torch.zeros(0, self.model.config.vocab_size)]
        pool: list[Window] = []

        def recognise() -> None:
            pieces.extend(self._log_probs(pool) if pool else ())
            if progress is not None:
                progress(self._seconds(sum(window.last - window.first for window in pool)))
            pool.clear()

        for window in self._plan.windows(recording, heard):
            pool.append(window)
            if sum(len(one.samples) for one in pool) >= self._batch_samples:
                recognise()
        recognise()
        return torch.cat(pieces), heard.count / self._plan.times.sampling_rate

    def _transcripts(
        self,
        inputs: Iterable[AudioInput],
        timestamps: Timestamps,
        progress: Progress | None,
        keeper: Keeper | None = None,
    ) -> Iterator[tuple[Transcript, Exception | None]]:
        if timestamps not in ("word", "char", None):
            raise ValueError(f"timestamps={timestamps!r}: must be 'word', 'char' or None")
        unfinished: deque[_Recording] = deque()
        pool: list[tuple[_Recording, Window]] = []
        pooled = 0
        for recording, window in self._read(inputs, unfinished, keeper):
            pool.append((recording, window))
            pooled += len(window.samples)
            if pooled >= _BATCHES_AHEAD * self._batch_samples:
                self._recognise(pool, unfinished, progress, keeper)
                pool, pooled = [], 0
                yield from self._finished(unfinished, timestamps)
        self._recognise(pool, unfinished, progress, keeper)
        yield from self._finished(unfinished, timestamps)

    def _read(
        self, inputs: Iterable[AudioInput], unfinished: deque[_Recording], keeper: Keeper | None
    ) -> Iterator[tuple[_Recording, Window]]:
        """The windows of all inputs one after the other; each recording is put into `unfinished` as it begins."""
        speller = self._greedy.speller
        begun = ((audio, Moments()) for audio in inputs)
        read = read_ahead(begun, lambda pair: self._plan.windows(*pair), _RECORDINGS_AT_ONCE, _WINDOWS_AHEAD)
        for (audio, heard), windows in read:
            parts = [] if keeper is None else keeper.parts_of(audio.name)
            done = parts[-1].end if parts else 0
            recording = _Recording(audio, WaitingFrames(speller.blank, speller.delimiter, done), heard)
            recording.segments = [(self._seconds(part.offset), part.found) for part in parts]
            unfinished.append(recording)
            try:
                for window in from_frame(done, windows):
                    yield recording, window
            except (ValueError, OSError) as error:
                recording.error = error
            recording.read = True

    def _recognise(
        self,
        pool: list[tuple[_Recording, Window]],
        unfinished: Iterable[_Recording],
        progress: Progress | None,
        keeper: Keeper | None,
    ) -> None:
        """Run the model on the windows, and the decoder on the segments that are then complete."""
        windows = [window for _, window in pool]
        found: list[Tensor] = [torch.empty(0)] * len(pool)
        for batch in batches(windows, self._batch_samples):
            for number, log_probs in zip(batch, self._log_probs([windows[n] for n in batch]), strict=True):
                found[number] = log_probs
            if progress is not None:
                kept = sum(windows[number].last - windows[number].first for number in batch)
                progress(kept * self._plan.times.stride / self._plan.times.sampling_rate)
        ready: list[tuple[_Recording, Segment]] = []
        for (recording, _), log_probs in zip(pool, found, strict=True):
            if log_probs.isnan().any():
                recording.error = ValueError(f"{recording.audio.name}: the model's output is NaN")
            if recording.error is None:
                ready += ((recording, segment) for segment in recording.waiting.add(log_probs))
        for recording in unfinished:
            if recording.read and recording.error is None:
                ready += ((recording, segment) for segment in recording.waiting.rest())
        self._decode(ready, keeper)

    @torch.inference_mode()
    def _log_probs(self, windows: list[Window]) -> list[Tensor]:
        """Log-probabilities (T, V) of the frames that each window keeps, float32 on the CPU."""
        device, lengths = self.model.device, [len(window.samples) for window in windows]
        samples = torch.empty(len(windows), max(lengths), pin_memory=device.type == "cuda")  # (B, S)
        for row, length, window in zip(samples, lengths, windows, strict=True):
            row[:length] = torch.from_numpy(np.ascontiguousarray(window.samples))
            row[length:] = 0.0
        values = samples.to(device, non_blocking=True).to(self.model.dtype)  # 32 bits travel, and are cut there
        mask = frames_within(torch.tensor(lengths, device=device), max(lengths))
        logits = self.model(values, attention_mask=mask).logits  # (B, T, V)
        log_probs = logits.float().log_softmax(-1).cpu()
        return [row[window.first : window.last].clone() for row, window in zip(log_probs, windows, strict=True)]

    def _decode(self, ready: list[tuple[_Recording, Segment]], keeper: Keeper | None) -> None:
        """Decode segments of similar length side by side, and give each recording its own, in order."""
        search = self._greedy.greedy if self.decoder is None else self.decoder.decode
        order = sorted(range(len(ready)), key=lambda number: len(ready[number][1].log_probs))
        found: list[Hypothesis] = [Hypothesis("", 0.0)] * len(ready)
        for start in range(0, len(order), _SEGMENTS_AT_ONCE):
            numbers = order[start : start + _SEGMENTS_AT_ONCE]
            frames = [ready[number][1].log_probs for number in numbers]
            padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)  # (B, T, V)
            for number, hypotheses in zip(numbers, search(padded, [len(rows) for rows in frames]), strict=True):
                found[number] = hypotheses[0]
        for (recording, segment), hypothesis in zip(ready, found, strict=True):
            recording.segments.append((self._seconds(segment.offset), hypothesis))
            if keeper is not None:
                keeper.keep(recording.audio.name, Part(segment.offset, len(segment.log_probs), hypothesis))

    def _seconds(self, frames: int) -> float:
        """The time in the recording at which the frame with this number begins."""
        return frames * self._plan.times.stride / self._plan.times.sampling_rate

    def _finished(
        self, unfinished: deque[_Recording], timestamps: Timestamps
    ) -> Iterator[tuple[Transcript, Exception | None]]:
        """Take the recordings from the front of the queue of which nothing is left to do."""
        while unfinished and unfinished[0].read:
            recording = unfinished.popleft()
            name, duration = recording.audio.name, recording.heard.count / self._plan.times.sampling_rate
            if recording.error is not None:
                yield Transcript(name, error=_reason(recording)), recording.error
                continue
            yield self._joined(name, recording.segments, duration, timestamps), None

    def _joined(
        self, name: str, segments: Sequence[tuple[float, Hypothesis]], duration: float, timestamps: Timestamps
    ) -> Transcript:
        tokenizer = self.processor.tokenizer
        spaced = self._greedy.speller.delimiter is not None or isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer)
        lower_case = getattr(tokenizer, "do_lower_case", False)
        return join_segments(name, segments, duration, timestamps, " " if spaced else "", lower_case)


def seconds_in_a_batch(device: torch.device) -> float:
    """How much audio a batch has on this device, unless the caller says it."""
    seconds = _BATCH_SECONDS.get(device.type, _BATCH_SECONDS_ELSEWHERE)
    if device.type != "cuda":
        return seconds
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return max(seconds, min(_SECONDS_A_GIB * memory, _MOST_SECONDS))


def greedy_decoder(model: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> CTCDecoder:
    """The decoder that a checkpoint has by itself: its vocabulary, its blank, the times of its frames.

    A tokenizer that is not the model's, and frames that are not those of the convolutions, are a ValueError.
    """
    config, tokenizer = model.config, processor.tokenizer
    tokens = tokenizer.tokens
    if (len(tokens), tokenizer.blank_id) != (config.vocab_size, config.pad_token_id):
        raise ValueError(
            f"the tokenizer has {len(tokens)} tokens and the blank {tokenizer.blank_id}, the model {config.vocab_size} "
            f"and {config.pad_token_id}: they are not of one checkpoint"
        )
    if config.add_adapter:
        raise ValueError("add_adapter=True drops frames after the convolutions; their times are not known")
    rate = processor.feature_extractor.sampling_rate
    times = FrameTimes(tuple(config.conv_kernel), tuple(config.conv_stride), rate)
    special = tokenizer.all_special_tokens
    return CTCDecoder(
        tokens, tokenizer.blank_id, tokenizer.word_delimiter_token, frame_times=times, special_tokens=special
    )


def _reason(recording: _Recording) -> str:
    """The error of a recording as a sentence that names the recording."""
    text, name = str(recording.error), recording.audio.name
    return text if name in text else f"{name}: {text}"
