"""When was each word, and each letter or phone, of a known text said? A transcriber's model, and no search."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wav2vec2.alignment.aligned_words import AlignedWord, Utterance, align_utterances
from wav2vec2.alignment.device_kernels import usable
from wav2vec2.inference.audio_inputs import AudioInput, audio_inputs
from wav2vec2.inference.listener import Heard, Progress, stream_beside
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer


@dataclass(frozen=True)
class AlignedRecording:
    """The words of a recording with their times, and its duration in seconds; or the `error` why there are none."""

    words: list[AlignedWord] = field(default_factory=list)
    duration: float = 0.0
    error: Exception | None = None


@dataclass
class _Spoken(Heard):
    """A recording on its way through the model, and what is said in it."""

    words: list[str] = field(default_factory=list)
    #: The phones of each word, where the model has those.
    pronunciations: list[list[str]] | None = None


def align_recording(
    transcriber: Transcriber, audio: object, text: str, progress: Progress | None = None
) -> tuple[list[AlignedWord], float]:
    """The words of a text with their times in a recording of any length, and its duration.

    Parts of words are letters, or phones where the model has those: espeak-ng says which a word has, and a text that is
    phones already (`do_phonemize=False` of the tokenizer) is taken as it is. What has no token gets a guess, whatever
    the tokenizer would do with it.
    """
    (found,) = align_each(transcriber, [(audio, text)], progress)
    if found.error is not None:
        raise found.error
    return found.words, found.duration


def align_each(
    transcriber: Transcriber, recordings: Iterable[tuple[object, str]], progress: Progress | None = None
) -> Iterator[AlignedRecording]:
    """What `align_recording` gives for each pair of audio and text, in order; faults are in their `error`.

    Several recordings share the batches of the model and the trellis of the alignment. Each comes as soon as it, and
    all before it, are done. Memory: that of transcribing, and the log-probabilities of recordings that are not done.
    """
    spoken = (_spoken(transcriber, audio, text) for audio, text in recordings)
    for complete in transcriber.log_probs_of_each(spoken, progress):
        usable_ones = [(recording, log_probs) for recording, log_probs in complete if recording.error is None]
        aligned = iter(_aligned(transcriber, usable_ones))
        for recording, _ in complete:
            yield next(aligned) if recording.error is None else AlignedRecording(error=recording.error)


def part_name(transcriber: Transcriber) -> str:
    """What the model's tokens are: "characters" or "phones"."""
    return "phones" if isinstance(transcriber.processor.tokenizer, Wav2Vec2PhonemeCTCTokenizer) else "characters"


def _spoken(transcriber: Transcriber, audio: object, text: str) -> _Spoken:
    """The recording, or what is wrong with it or with its text."""
    words = text.split()
    try:
        if not words:
            raise ValueError("the transcript is empty: there is nothing to align")
        tokenizer = transcriber.processor.tokenizer
        pronunciations = _phones(tokenizer, words) if part_name(transcriber) == "phones" else None
        ((recording,), _) = audio_inputs([audio], None)
    except (ValueError, OSError) as error:
        return _Spoken(AudioInput("", b""), error=error)
    return _Spoken(recording, words=words, pronunciations=pronunciations)


def _aligned(transcriber: Transcriber, recordings: Sequence[tuple[_Spoken, Tensor]]) -> list[AlignedRecording]:
    """All of them at once; where that fails, one by one, so that the fault is found that one of them has."""
    tokenizer, rate = transcriber.processor.tokenizer, transcriber.processor.feature_extractor.sampling_rate
    special = set(tokenizer.all_special_tokens) - {tokenizer.word_delimiter_token}
    durations = [recording.seconds(rate) for recording, _ in recordings]
    utterances = [
        Utterance(log_probs, recording.words, duration, recording.pronunciations)
        for (recording, log_probs), duration in zip(recordings, durations, strict=True)
    ]
    device = transcriber.model.device
    try:
        with torch.cuda.stream(stream_beside(device)):  # of None: nothing
            found = align_utterances(
                utterances,
                {token: number for number, token in enumerate(tokenizer.tokens) if token not in special},
                word_delimiter=tokenizer.word_delimiter_token,
                blank=tokenizer.blank_id,
                times=transcriber.frame_times,
                device=device if usable(device) else None,
            )
    except ValueError as error:
        if len(recordings) == 1:
            return [AlignedRecording(error=error)]
        return [aligned for recording in recordings for aligned in _aligned(transcriber, [recording])]
    return [AlignedRecording(words, duration) for words, duration in zip(found, durations, strict=True)]


def _phones(tokenizer: Wav2Vec2PhonemeCTCTokenizer, words: list[str]) -> list[list[str]]:
    """The phones of each word, said on its own."""
    if not tokenizer.do_phonemize:
        return [[word] for word in words]
    silent = {tokenizer.word_delimiter_token, ""}
    spoken = [tokenizer.phonemize(word).split(tokenizer.phone_delimiter_token) for word in words]
    return [[phone.strip() for phone in phones if phone.strip() not in silent] for phones in spoken]
