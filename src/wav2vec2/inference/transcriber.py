"""`Transcriber`: audio of any length and number in, transcripts with times out, in bounded memory.

Recordings are cut into overlapping windows, windows of several recordings share batches, the frames of a recording are
joined on its frame grid, and whole minutes of frames are decoded side by side. None of these cuts can be seen in the
result, but for what the model makes of a window instead of the whole recording.

Shapes: B windows, S samples, T frames, V tokens.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.spelling import Speller
from wav2vec2.decoding.transcripts import Hypothesis
from wav2vec2.inference.audio_inputs import AudioInput, audio_inputs
from wav2vec2.inference.checkpoint_check import check_head_for_text, reach
from wav2vec2.inference.decoder_choice import Hotwords, Lexicon, Wanted, beam_decoder
from wav2vec2.inference.kept_parts import Keeper, Part
from wav2vec2.inference.listener import Heard, Listener, Pieces, Progress, Recording, stream_beside
from wav2vec2.inference.recogniser_class import recogniser_class
from wav2vec2.inference.transcript import Timestamps, Transcript, join_segments
from wav2vec2.inference.voice_activity import SilenceRules, SkipSilence, silence_rules
from wav2vec2.inference.windows_and_segments import Segment, WaitingFrames, WindowPlan
from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.modeling.int8_linear import quantise_linear_layers
from wav2vec2.modeling.precision import told_if_slow
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor

logger = logging.getLogger("wav2vec2")

#: Segments that are decoded side by side on a CPU. Where a search is one kernel a GPU takes more, as long as they have
#: no more log-probabilities than that in all (128 MiB; the search needs some ten times as much).
_SEGMENTS_AT_ONCE, _MOST_SEGMENTS_AT_ONCE, _MOST_CELLS = 8, 64, 1 << 25


class _Recording(Heard):
    """A recording on its way through model and decoder."""

    def __init__(
        self, audio: AudioInput, parts: Sequence[Part], speller: Speller, silence: SilenceRules | None
    ) -> None:
        super().__init__(audio, known=parts[-1].end if parts else 0, silence=silence)
        #: What waits for the decoder.
        self.undecoded = WaitingFrames(speller.blank, speller.delimiter, self.known)
        #: What was decoded, in order.
        self.parts = list(parts)


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
        self.processor, self.decoder = processor, decoder
        self.model = model.eval()
        self._greedy = greedy_decoder(model, processor)
        times, normalises = self._greedy.frame_times, processor.feature_extractor.do_normalize
        self.listener = Listener(model, WindowPlan(window_seconds, context_seconds, normalises, times), batch_seconds)

    @property
    def frame_times(self) -> FrameTimes:
        """When its frames are."""
        return self._greedy.frame_times

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
        model = recogniser_class(name_or_path, hub).from_pretrained(name_or_path, dtype=loaded_as, **chosen).to(where)
        if dtype == torch.int8:
            quantise_linear_layers(model)
        wanted = Wanted(language_model, beam, hotwords, lexicon)
        decoder = beam_decoder(name_or_path, greedy_decoder(model, processor), wanted, hub)
        return cls(model, processor, decoder, window_seconds, context_seconds, batch_seconds)

    def transcribe(
        self,
        audio: object,
        timestamps: Timestamps = "word",
        sampling_rate: int | None = None,
        skip_silence: SkipSilence = False,
    ) -> Transcript | list[Transcript]:
        """A `Transcript` of a path, of the bytes of a file, or of samples; a list of them for a list or a folder.

        Samples are a pair (array, rate), or an array with `sampling_rate`. Several recordings are batched together.
        One that cannot be used raises ValueError or OSError if it is alone; among several it has an `error` in its
        transcript and the others are done.

        With `skip_silence` the model hears only where somebody speaks, and times stay those of the recording: True or
        "level" finds speech by how far it rises above the noise, "silero" by the model of silero-vad, `SilenceRules`
        say how long a silence is. A recording without speech then has an empty transcript.
        """
        inputs, alone = audio_inputs(audio, sampling_rate)
        found = []
        for transcript, error in self._transcripts(inputs, timestamps, skip_silence):
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
        skip_silence: SkipSilence = False,
    ) -> Iterator[Transcript]:
        """The transcripts of files, in their order, each as soon as it is finished; faults are in their `error`.

        `progress` is called with the seconds of audio that each batch has got further. `keeper` is told every part of a
        recording as it is decoded, and asked first what there is of it already; `skip_silence` as in `transcribe`.
        """
        inputs = (path if isinstance(path, AudioInput) else AudioInput(str(path), path) for path in paths)
        return (transcript for transcript, _ in self._transcripts(inputs, timestamps, skip_silence, progress, keeper))

    def transcript_of(self, name: str, parts: Sequence[Part], timestamps: Timestamps = "word") -> Transcript:
        """The transcript of the beginning of a recording, from the parts that were kept of it."""
        return self._joined(name, parts, self._seconds(parts[-1].end if parts else 0), timestamps)

    def log_probs(
        self, audio: object, sampling_rate: int | None = None, progress: Progress | None = None
    ) -> tuple[Tensor, float]:
        """The log-probabilities (T, V) of one recording, in float32, and its seconds; only they grow with it.

        `progress` is called with the seconds of audio that each batch has got further.
        """
        ((recording,), _) = audio_inputs([audio], sampling_rate)
        ((heard, log_probs),) = chain.from_iterable(self.log_probs_of_each([Heard(recording)], progress))
        if heard.error is not None:
            raise heard.error
        return log_probs, heard.seconds(self.frame_times.sampling_rate)

    def log_probs_of_each(
        self, recordings: Iterable[Recording], progress: Progress | None = None
    ) -> Iterator[list[tuple[Recording, Tensor]]]:
        """The recordings in order, as many at a time as are complete after a batch, each with its log-probabilities
        (T, V) as `log_probs` gives them. One with an `error` has only those that came before it."""
        begun: deque[Recording] = deque()
        pieces: dict[int, list[Tensor]] = {}  # by the identity of the recording

        def each() -> Iterator[Recording]:
            for recording in recordings:
                begun.append(recording)
                pieces[id(recording)] = [torch.zeros(0, len(self._greedy.speller.vocabulary))]
                yield recording

        for heard in chain(self.listener.hear(each(), progress), [Pieces[Recording]([], True)]):
            for recording, piece in heard.of:
                pieces[id(recording)].append(piece.log_probs)
            complete = []
            while begun and begun[0].complete:
                recording = begun.popleft()
                complete.append((recording, torch.cat(pieces.pop(id(recording)))))
            yield complete

    def _transcripts(
        self,
        inputs: Iterable[AudioInput],
        timestamps: Timestamps,
        skip_silence: SkipSilence,
        progress: Progress | None = None,
        keeper: Keeper | None = None,
    ) -> Iterator[tuple[Transcript, Exception | None]]:
        if timestamps not in ("word", "char", None):
            raise ValueError(f"timestamps={timestamps!r}: must be 'word', 'char' or None")
        silence = silence_rules(skip_silence)
        if silence is not None:
            silence.detector(self.frame_times.sampling_rate)  # what it lacks is said before anything is read
        unfinished: deque[_Recording] = deque()

        def begun() -> Iterator[_Recording]:
            for audio in inputs:
                parts = [] if keeper is None else keeper.parts_of(audio.name)
                unfinished.append(_Recording(audio, parts, self._greedy.speller, silence))
                yield unfinished[-1]

        ready: list[tuple[_Recording, Segment]] = []
        for pieces in self.listener.hear(begun(), progress):
            ready += self._full_segments(pieces.of)
            if pieces.is_last or _decodes_every_batch(self.model.device):
                self._decode([*ready, *_last_segments(unfinished)], keeper)
                ready = []
                yield from self._finished(unfinished, timestamps)
        self._decode([*ready, *_last_segments(unfinished)], keeper)
        yield from self._finished(unfinished, timestamps)

    def _full_segments(self, pieces: list[tuple[_Recording, Segment]]) -> Iterator[tuple[_Recording, Segment]]:
        """Give each recording its frames; what may then be decoded, though more of the recording follows."""
        for recording, piece in pieces:
            if piece.log_probs.isnan().any():
                recording.error = ValueError(f"{recording.audio.name}: the model's output is NaN")
            if recording.error is None:
                for segment in recording.undecoded.add(piece):
                    yield recording, segment

    def _decode(self, ready: list[tuple[_Recording, Segment]], keeper: Keeper | None) -> None:
        """Decode segments of similar length side by side, and give each recording its own, in order."""
        order = sorted(range(len(ready)), key=lambda number: len(ready[number][1].log_probs))
        found: list[Hypothesis] = [Hypothesis("", 0.0)] * len(ready)
        while order:
            longest = ready[order[-1]][1].log_probs
            device, at_once = self._decoding_of(longest)
            numbers, order = order[-at_once:], order[:-at_once]
            frames = [ready[number][1].log_probs for number in numbers]
            with torch.cuda.stream(stream_beside(device)):  # of None: nothing
                padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True).to(device)  # (B, T, V)
                search = self._greedy.greedy if self.decoder is None else self.decoder.decode
                answers = search(padded, [len(rows) for rows in frames])
            for number, hypotheses in zip(numbers, answers, strict=True):
                found[number] = hypotheses[0]
        for (recording, segment), hypothesis in zip(ready, found, strict=True):
            recording.parts.append(Part(segment.offset, len(segment.log_probs), hypothesis))
            if keeper is not None:
                keeper.keep(recording.audio.name, recording.parts[-1])

    def _decoding_of(self, longest: Tensor) -> tuple[torch.device, int]:
        """Where segments are decoded of which the longest is (T, V), and how many at once."""
        if self.decoder is not None and self.decoder.is_one_kernel_on(self.model.device):
            return self.model.device, max(1, min(_MOST_SEGMENTS_AT_ONCE, _MOST_CELLS // longest.numel()))
        return torch.device("cpu"), _SEGMENTS_AT_ONCE

    def _seconds(self, frames: int) -> float:
        """The time in the recording at which the frame with this number begins."""
        return frames * self.frame_times.stride / self.frame_times.sampling_rate

    def _finished(
        self, unfinished: deque[_Recording], timestamps: Timestamps
    ) -> Iterator[tuple[Transcript, Exception | None]]:
        """Take the recordings from the front of the queue of which nothing is left to do."""
        while unfinished and unfinished[0].complete:
            recording = unfinished.popleft()
            name, duration = recording.audio.name, recording.seconds(self.frame_times.sampling_rate)
            if recording.error is not None:
                yield Transcript(name, error=_reason(recording)), recording.error
                continue
            yield self._joined(name, recording.parts, duration, timestamps), None

    def _joined(self, name: str, parts: Sequence[Part], duration: float, timestamps: Timestamps) -> Transcript:
        tokenizer = self.processor.tokenizer
        separator = separator_of(tokenizer, self._greedy.speller)
        lower_case = getattr(tokenizer, "do_lower_case", False)
        segments = [(self._seconds(part.offset), part.found) for part in parts]
        return join_segments(name, segments, duration, timestamps, separator, lower_case)


def _decodes_every_batch(device: torch.device) -> bool:
    """Whether segments are decoded while the device computes the next batch. A CPU computes nothing meanwhile, and
    decodes few segments in hardly less time than many: there they wait until a few batches are done."""
    return device.type != "cpu"


def _last_segments(unfinished: Iterable[_Recording]) -> Iterator[tuple[_Recording, Segment]]:
    """What is left to decode of recordings of which nothing more comes."""
    for recording in unfinished:
        if recording.complete and recording.error is None:
            for segment in recording.undecoded.rest():
                yield recording, segment


def separator_of(tokenizer: object, speller: Speller) -> str:
    """What stands between words in the texts of this tokenizer: nothing where every character is a word."""
    spaced = speller.delimiter is not None or isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer)
    return " " if spaced else ""


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
    times = FrameTimes(tuple(config.conv_kernel), tuple(config.conv_stride), rate, every=config.frames_per_logits)
    special = tokenizer.all_special_tokens
    return CTCDecoder(
        tokens, tokenizer.blank_id, tokenizer.word_delimiter_token, frame_times=times, special_tokens=special
    )


def _reason(recording: Heard) -> str:
    """The error of a recording as a sentence that names the recording."""
    text, name = str(recording.error), recording.audio.name
    return text if name in text else f"{name}: {text}"
