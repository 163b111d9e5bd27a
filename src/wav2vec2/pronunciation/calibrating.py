"""What a model's odds are worth: recordings of which is known what was said in them, and the curve they ask for."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from wav2vec2.alignment.spoken_text import Judged
from wav2vec2.evaluation.scoring import score_utterances
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import Progress
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.pronunciation.asked_for import AskedWord, asked_for, sayable
from wav2vec2.pronunciation.asked_otherwise import asked_otherwise, nearest
from wav2vec2.pronunciation.assessing import UNCALIBRATED_THRESHOLD, Asked, head_sha256, said_each
from wav2vec2.pronunciation.calibration import (
    Calibration,
    area_under_curve,
    brier_score,
    fitted,
    logistic,
    sha256_of,
    smoothed_doubt,
)

#: Of the words that were said well, so many may have a phone that is told as a fault, and so many one too much.
_MARKED, _MARKED_INSERTIONS = 0.015, 0.005

#: However sure a model is where all is well: what has a higher probability is no fault.
_HIGHEST, _HIGHEST_INSERTION = 0.5, 0.1

#: No phone is doubted less, since of few nothing smaller is known.
_LOWEST_DOUBT = 1e-4


class Utterance(NamedTuple):
    """A recording: the `words` that were asked for, the `places` of what was heard, and the tokens that were `said`."""

    words: Sequence[AskedWord]
    places: Sequence[Judged]
    said: Sequence[int]

    @property
    def asked(self) -> list[int]:
        """The tokens of all words."""
        return [token for word in self.words for token in word.tokens]


class Example(NamedTuple):
    """A phone that was asked for: its `token`, the number of its `word` among all words, the model's `log_odds` for it,
    its `doubt` (how probable it finds others), and whether it was `right`."""

    token: int
    word: int
    log_odds: float
    doubt: float
    right: bool


def calibrate(
    transcriber: Transcriber, manifest: Path, text_language: str | None = None, progress: Progress | None = None
) -> Calibration:
    """The calibration by a manifest of recordings that the model never learnt from.

    Its columns, besides `path`: `transcript`, `phones`, or both, for what was asked; and `said` for what was really
    said, as phones, or as a text where the model has letters. Without that column all was said as asked, and other
    phones are then asked for in one place out of ten (`asked_otherwise.py`). `speaker` is counted. What is wrong with a
    recording is a ValueError that names it: a calibration on some of them would not be the one that was asked for.
    """
    try:
        recordings = list(read_manifest(manifest))
        return calibrated_on(transcriber, recordings, manifest.name, manifest.read_bytes(), text_language, progress)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(manifest)) else f"{manifest}: {message}") from error


def calibrated_on(
    transcriber: Transcriber,
    recordings: Sequence[Recording],
    name: str,
    content: bytes,
    text_language: str | None = None,
    progress: Progress | None = None,
    left_out: list[str] | None = None,
) -> Calibration:
    """The calibration by recordings from manifests of that name and content.

    With a list for what is `left_out`, what is wrong with a recording is written there, and it is made without it.
    """
    told = any("said" in one.others for one in recordings)
    spoken = [(_asked(one), _said(transcriber, one) if told else None) for one in recordings]
    kept = dict(_heard(transcriber, spoken, text_language, progress, left_out))
    if not kept:
        raise ValueError(next(iter(left_out or ()), "there are no recordings in which anything is said"))
    recordings, heard = [recordings[number] for number in kept], list(kept.values())
    learnt = heard if told else _asked_otherwise(transcriber, recordings, heard)
    doubts = Doubts(examples_of(heard))
    examples, tokens = list(examples_of(learnt)), transcriber.processor.tokenizer.tokens
    odds, right = [one.log_odds for one in examples], [one.right for one in examples]
    slope, weight, intercept = fitted(odds, [doubts.without(one) for one in examples], right)
    curve = Calibration(
        slope=slope,
        doubt_weight=weight,
        intercept=intercept,
        doubts={tokens[token]: doubts.of(token) for token in sorted(doubts.counts)},
        usual_doubt=doubts.usual,
        threshold=_HIGHEST,
        insertion_threshold=_HIGHEST_INSERTION,
        right_words=0,
        flagged_words=0,
        asked_otherwise=not told,
        data=name,
        data_sha256=sha256_of(content),
        model_sha256=head_sha256(transcriber),
        recordings=len(recordings),
        speakers=len({one.speaker for one in recordings} - {None}),
        phones=len(right),
        wrong=right.count(False),
        auc=0.5,
        brier_before=brier_score([logistic(one) for one in odds], right),
        brier=0.0,
    )
    scores = [curve.probability(one.log_odds, tokens[one.token]) for one in examples]
    curve = replace(curve, auc=area_under_curve(scores, right), brier=brier_score(scores, right))
    return _with_thresholds(curve, heard, tokens)


class Doubts:
    """How much a model doubts each phone, on average, where it was said as asked: by its token."""

    def __init__(self, examples: Iterator[Example]) -> None:
        self.totals: dict[int, float] = defaultdict(float)
        self.counts: dict[int, int] = defaultdict(int)
        for one in examples:
            if one.right:
                self.totals[one.token] += one.doubt
                self.counts[one.token] += 1
        self.usual = max(sum(self.totals.values()) / max(sum(self.counts.values()), 1), _LOWEST_DOUBT)

    def of(self, token: int) -> float:
        """That of a phone."""
        return smoothed_doubt(self.totals.get(token, 0.0), self.counts.get(token, 0), self.usual)

    def without(self, one: Example) -> float:
        """That of the phone of an example, which itself has no say in it: it is to learn from it."""
        if not one.right or not self.counts.get(one.token):
            return self.of(one.token)
        total = max(self.totals[one.token] - one.doubt, 0.0)
        return smoothed_doubt(total, self.counts[one.token] - 1, self.usual)


def examples_of(utterances: Sequence[Utterance]) -> Iterator[Example]:
    """Every phone that was asked for."""
    words = 0
    for utterance in utterances:
        asked, right = utterance.asked, said_as_asked(utterance.asked, utterance.said)
        owners = [words + number for number, word in enumerate(utterance.words) for _ in word.tokens]
        words += len(utterance.words)
        for place in utterance.places:
            if (at := place.slot.asked) is not None:
                sure = sum(one.probability for one in place.candidates if one.token == asked[at])
                yield Example(asked[at], owners[at], place.log_odds, 1 - sure, right[at])


def _with_thresholds(curve: Calibration, heard: Sequence[Utterance], tokens: Sequence[str]) -> Calibration:
    """The curve with thresholds below which hardly a word that was said well has a fault, and how many do."""
    words: dict[int, tuple[bool, float]] = {}
    for one in examples_of(heard):
        right, lowest = words.get(one.word, (True, 1.0))
        score = curve.probability(one.log_odds, tokens[one.token])
        words[one.word] = right and one.right, min(lowest, score)
    scores = sorted(lowest for right, lowest in words.values() if right)
    well = [one for one in heard if list(one.said) == one.asked]
    put_in = sorted(logistic(place.log_odds) for one in well for place in one.places if place.slot.asked is None)
    count = sum(len(one.words) for one in well)
    threshold = _so_many_below(scores, _MARKED * len(scores), _HIGHEST)
    among = _so_many_below(put_in, _MARKED_INSERTIONS * count, _HIGHEST_INSERTION) if count else UNCALIBRATED_THRESHOLD
    flagged = sum(score < threshold for score in scores) + sum(score < among for score in put_in)
    return replace(
        curve, threshold=threshold, insertion_threshold=among, right_words=len(scores), flagged_words=flagged
    )


def _so_many_below(scores: Sequence[float], count: float, highest: float) -> float:
    """Below which so many of sorted scores are, or fewer.

    >>> _so_many_below([0.1, 0.2, 0.3], 1.5, 0.5), _so_many_below([0.1], 1.5, 0.5)
    (0.2, 0.5)
    """
    return min(scores[int(count)], highest) if int(count) < len(scores) else highest


def _heard(
    transcriber: Transcriber,
    spoken: Sequence[tuple[Asked, Sequence[int] | None]],
    text_language: str | None = None,
    progress: Progress | None = None,
    left_out: list[str] | None = None,
) -> Iterator[tuple[int, Utterance]]:
    """Recordings by their numbers, each with the tokens that were said, which are those that were asked for if None."""
    each = said_each(transcriber, [asked for asked, _ in spoken], text_language, progress)
    for number, (one, (asked, said)) in enumerate(zip(each, spoken, strict=True)):
        if one.error is None:
            yield number, Utterance(one.words, one.spoken.places, one.asked if said is None else said)
            continue
        assert isinstance(asked.audio, AudioInput)
        path, reason = asked.audio.name, str(one.error)
        reason = reason if path in reason else f"{path}: {reason}"
        if left_out is None:
            raise ValueError(reason) from one.error
        left_out.append(reason)


def _asked_otherwise(
    transcriber: Transcriber, recordings: Sequence[Recording], heard: Sequence[Utterance]
) -> list[Utterance]:
    """The same recordings, asked for other phones in some places."""
    chance, tokens = random.Random(0), list(sayable(transcriber.processor.tokenizer).values())
    near = nearest(
        (own.asked[place.slot.asked], place) for own in heard for place in own.places if place.slot.asked is not None
    )
    again = [
        (_asked(one)._replace(words=asked_otherwise(own.words, near, tokens, chance)), own.said)
        for one, own in zip(recordings, heard, strict=True)
    ]
    too_short: list[str] = []  # for another phone; what was said in it is known to fit
    return [utterance for _, utterance in _heard(transcriber, again, left_out=too_short)]


def said_as_asked(asked: Sequence[int], said: Sequence[int]) -> list[bool]:
    """Whether each asked token was said, by a cheapest edit of what was asked into what was said.

    >>> said_as_asked([1, 2, 3, 4], [1, 5, 4])
    [True, False, False, True]
    """
    (score,) = score_utterances([" ".join(map(str, asked))], [" ".join(map(str, said))])
    return [edit.kind == "hit" for edit in score.edits if edit.reference is not None]


def _asked(recording: Recording) -> Asked:
    audio = AudioInput(str(recording.path), recording.path)
    return Asked(audio, recording.transcript or None, recording.others.get("phones") or None)


def _said(transcriber: Transcriber, recording: Recording) -> list[int]:
    """What was really said, in tokens."""
    said = recording.others.get("said", "")
    try:
        if not said.split():
            raise ValueError("nothing in the column `said`, which holds what was really said")
        tokenizer = transcriber.processor.tokenizer
        has_phones = isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer)
        words = asked_for(tokenizer, phones=said) if has_phones else asked_for(tokenizer, said)
    except ValueError as error:
        raise ValueError(f"{recording.path}: {error}") from error
    return [token for word in words for token in word.tokens]
