"""`assess`: a recording and what was asked for in, how well it was said out. The model of a transcriber, and no search.

What is asked for becomes the model's tokens (`asked_for.py`). The sums over all paths say what was said in its stead
(`alignment/spoken_text.py`), and when is what the best path of that says. Silence is the blank and the word delimiter
together, and may be anywhere: a pause is told by the fluency, never as a wrong phone.

Shapes: T frames, V tokens, S samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2vec2.alignment.forced_alignment import align, silence_as_blank
from wav2vec2.alignment.frame_times import Interval
from wav2vec2.alignment.spoken_text import Judged, SpokenText, spoken_text
from wav2vec2.configuration.frame_arithmetic import frames_needed
from wav2vec2.inference.aligning import part_name
from wav2vec2.inference.audio_inputs import AudioInput, audio_inputs
from wav2vec2.inference.listener import Heard, Progress
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.pronunciation.asked_for import AskedWord, asked_for, sayable
from wav2vec2.pronunciation.assessment import AssessedPhone, AssessedWord, Assessment, Fault
from wav2vec2.pronunciation.calibration import Calibration, logistic, sha256_of
from wav2vec2.pronunciation.pauses import fluency

#: Numbers in one table of the sums over paths (128 MiB, of which a few stand at a time): a few minutes of speech.
_MOST_CELLS = 1 << 24

#: Without a calibration, which has thresholds of its own, a sound with a lower score is a fault. The model's odds know
#: nothing of how rarely a sound is said otherwise, nor of how often the model is wrong: they must be ten thousand to
#: one against it, so that hardly a word that was said well is marked.
UNCALIBRATED_THRESHOLD = 0.0001


class Asked(NamedTuple):
    """A recording and what was asked for in it: a text, phones, or both (`asked_for`); or its `words` themselves."""

    audio: object
    text: str | None = None
    phones: str | None = None
    words: Sequence[AskedWord] | None = None


@dataclass
class Said(Heard):
    """A recording on its way through the model, with what was asked for and what was said; or its `error`."""

    words: list[AskedWord] = field(default_factory=list)
    #: Its log-probabilities (T, V), in which silence is the blank.
    log_probs: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    #: What was said.
    spoken: SpokenText = SpokenText((), ())

    @property
    def asked(self) -> list[int]:
        """All tokens that were asked for."""
        return [token for word in self.words for token in word.tokens]

    @property
    def owners(self) -> list[int]:
        """The number of the word of each of them."""
        return [number for number, word in enumerate(self.words) for _ in word.tokens]


@dataclass(frozen=True)
class AssessedRecording:
    """How well a recording was said; or the `error` why that is not known."""

    assessment: Assessment | None = None
    error: Exception | None = None


def assess(
    transcriber: Transcriber,
    audio: object,
    text: str | None = None,
    phones: str | None = None,
    *,
    calibration: Calibration | None = None,
    text_language: str | None = None,
    threshold: float | None = None,
) -> Assessment:
    """How well a text, or phones in IPA, was said in a recording: what `Transcriber.transcribe` takes as one.

    With a model of phones a text is said as espeak-ng says it in `text_language` (by default the tokenizer's); `phones`
    say it otherwise, word by word, "həˈloʊ wɜːld". A model of letters assesses letters. A phone whose score is below
    the `threshold` is a fault: by default the one that a `calibration` has chosen, and without one, where scores are
    what the model believes of itself, 0.0001.
    """
    each = assess_each(
        transcriber,
        [Asked(audio, text, phones)],
        calibration=calibration,
        text_language=text_language,
        threshold=threshold,
    )
    (found,) = each
    if found.assessment is None:
        raise found.error or ValueError("nothing was assessed")
    return found.assessment


def assess_each(
    transcriber: Transcriber,
    utterances: Iterable[Asked],
    *,
    calibration: Calibration | None = None,
    text_language: str | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> Iterator[AssessedRecording]:
    """What `assess` gives for each utterance, in order; faults are in their `error`. They share the model's batches."""
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold}: must be between 0 and 1")
    if calibration is not None and calibration.model_sha256 != head_sha256(transcriber):
        raise ValueError(f"the calibration on {calibration.data} is of another model: calibrate this one")
    for said in said_each(transcriber, utterances, text_language, progress):
        if said.error is not None:
            yield AssessedRecording(error=said.error)
            continue
        try:
            yield AssessedRecording(_assessed(transcriber, said, calibration, threshold))
        except (ValueError, OSError) as error:
            yield AssessedRecording(error=error)


def said_each(
    transcriber: Transcriber, utterances: Iterable[Asked], text_language: str | None, progress: Progress | None = None
) -> Iterator[Said]:
    """What was said in each of the recordings, in order."""
    begun = (_begun(transcriber, asked, text_language) for asked in utterances)
    for complete in transcriber.log_probs_of_each(begun, progress):
        for said, log_probs in complete:
            if said.error is None:
                try:
                    _hear(transcriber, said, log_probs)
                except ValueError as error:
                    said.error = error
            yield said


def head_sha256(transcriber: Transcriber) -> str:
    """What tells a model from others: its head, whatever numbers it is loaded as."""
    weights = [(name, weight) for name, weight in transcriber.model.named_parameters() if name[:9] != "wav2vec2."]
    rounded = [weight.detach().cpu().bfloat16().float().numpy() for _, weight in sorted(weights, key=itemgetter(0))]
    return sha256_of(b"".join(weight.tobytes() for weight in rounded))


def samples_of(audio: AudioInput, sampling_rate: int) -> NDArray[np.float32]:
    """All samples (S,) of a recording."""
    return np.concatenate([np.zeros(0, np.float32), *audio.blocks(sampling_rate, 30 * sampling_rate, 0)])


def _begun(transcriber: Transcriber, asked: Asked, text_language: str | None) -> Said:
    """The recording, or what is wrong with it or with what was asked for."""
    try:
        tokenizer = transcriber.processor.tokenizer
        words = list(asked.words or asked_for(tokenizer, asked.text, asked.phones, text_language))
        ((audio,), _) = audio_inputs([asked.audio], None)
    except (ValueError, OSError) as error:
        return Said(AudioInput("", b""), error=error)
    return Said(audio, words=words)


def _hear(transcriber: Transcriber, said: Said, log_probs: Tensor) -> None:
    """Find out what was said, on a CUDA GPU if the model is there, else on the CPU (other devices lack float64)."""
    tokenizer, asked, frames = transcriber.processor.tokenizer, said.asked, len(log_probs)
    needed = int(frames_needed(torch.tensor([asked]), torch.ones(1, len(asked), dtype=torch.bool)))
    unit = part_name(transcriber)
    if frames < needed:
        raise ValueError(
            f"{said.audio.name}: {said.seconds(transcriber.frame_times.sampling_rate):.2f} s are {frames} frames, and "
            f"{len(asked)} {unit} need {needed} of them at least: this is not a recording of it"
        )
    if frames * (2 * len(asked) + 3) > _MOST_CELLS:
        raise ValueError(
            f"{said.audio.name}: {frames} frames and {len(asked)} {unit} are too much for one assessment; "
            "cut the recording into sentences"
        )
    if not bool(log_probs.isfinite().all()):
        raise ValueError(f"{said.audio.name}: the model's output is not finite")
    device = transcriber.model.device
    delimiter = tokenizer.word_delimiter_token
    number = tokenizer.tokens.index(delimiter) if delimiter in tokenizer.tokens else None
    heard = log_probs.to(device if device.type == "cuda" else "cpu").double()
    said.log_probs = silence_as_blank(heard, tokenizer.blank_id, number, torch.logaddexp)
    tokens = list(sayable(tokenizer).values())
    said.spoken = spoken_text(said.log_probs, asked, tokens, tokenizer.blank_id, said.owners)


def _assessed(
    transcriber: Transcriber, said: Said, calibration: Calibration | None, threshold: float | None
) -> Assessment:
    tokens, rate = transcriber.processor.tokenizer.tokens, transcriber.frame_times.sampling_rate
    duration = said.seconds(rate)
    phones: list[list[AssessedPhone]] = [[] for _ in said.words]
    intervals = _intervals(transcriber, said, duration)
    for word, place, interval in zip(_words_of(said, intervals), said.spoken.places, intervals, strict=True):
        phone = _phone(place, said, interval, tokens, calibration, threshold)
        if phone is not None:
            phones[word].append(phone)
    words = tuple(AssessedWord(word.text, tuple(own)) for word, own in zip(said.words, phones, strict=True))
    return Assessment(
        name=said.audio.name,
        duration=duration,
        unit="phones" if part_name(transcriber) == "phones" else "letters",
        words=words,
        fluency=fluency(words, samples_of(said.audio, rate), rate),
        calibration=calibration,
    )


def _phone(
    place: Judged,
    said: Said,
    interval: Interval,
    tokens: Sequence[str],
    calibration: Calibration | None,
    threshold: float | None,
) -> AssessedPhone | None:
    """A place as a phone; None for what was put in, if that is not sure enough."""

    def name(token: int | None) -> str:
        return "" if token is None else tokens[token]

    asked, told = place.slot.asked, place.slot.token
    candidates = tuple((name(one.token), one.probability) for one in place.candidates)
    if asked is None:
        score = logistic(place.log_odds)
        found = AssessedPhone("", *interval, score, Fault.insertion, name(told), None, candidates)
        usual = UNCALIBRATED_THRESHOLD if calibration is None else calibration.insertion_threshold
        return found if score < (threshold or usual) else None
    meant, goodness = said.asked[asked], said.spoken.goodness[asked]
    own = logistic(place.log_odds)
    score = own if calibration is None else calibration.probability(place.log_odds, name(meant))
    usual = UNCALIBRATED_THRESHOLD if calibration is None else calibration.threshold
    if score >= (threshold or usual):
        return AssessedPhone(name(meant), *interval, score, None, name(meant), goodness, candidates)
    if told == meant:  # likelier than any other by itself, not than all others together
        told = next((one.token for one in place.candidates if one.token != meant), None)
    fault = Fault.omission if told is None else Fault.substitution
    return AssessedPhone(name(meant), *interval, score, fault, name(told), goodness, candidates)


def _intervals(transcriber: Transcriber, said: Said, duration: float) -> list[Interval]:
    """The time of each place, by the best path of what was said; nothing is said where its neighbours meet."""
    told = [place.slot.token for place in said.spoken.places]
    tokens = [token for token in told if token is not None]
    if not tokens:
        return [(0.0, 0.0)] * len(told)
    (spans,) = align(said.log_probs[None], torch.tensor([tokens]), blank=transcriber.processor.tokenizer.blank_id)
    starts, ends = [span.start for span in spans], [span.end for span in spans]
    timed = transcriber.frame_times.intervals(starts, ends, duration)
    found, at = [], 0
    for token in told:
        if token is not None:
            found.append(timed[at])
            at += 1
        else:
            before = timed[at - 1][1] if at else timed[0][0]
            meeting = (before + (timed[at][0] if at < len(timed) else before)) / 2
            found.append((meeting, meeting))
    return found


def _words_of(said: Said, intervals: Sequence[Interval]) -> list[int]:
    """The number of the word of each place; what was put in between two words belongs to the nearer one."""
    owners, places = said.owners, said.spoken.places
    own = [None if place.slot.asked is None else owners[place.slot.asked] for place in places]
    found: list[int] = []
    for at, word in enumerate(own):
        if word is None:
            following = next((later for later in own[at:] if later is not None), None)
            before = found[-1] if found else following
            word = before if following is None else following
            if before is not None and word != before and at + 1 < len(own):
                waited = intervals[at][0] - intervals[at - 1][1]
                word = before if waited <= intervals[at + 1][0] - intervals[at][1] else word
        assert word is not None  # something was asked for
        found.append(word)
    return found
