"""Words with times: a transcript is spelled in the vocabulary, aligned, and read back word by word.

Every word of the transcript comes back, in order and as it was written. What the vocabulary cannot spell (digits,
foreign letters) becomes a star, which gets its time from where its neighbours leave off and vouches for nothing.

Shapes: B utterances, T frames, V tokens, S states.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec2.alignment.alignment_trellis import CELLS
from wav2vec2.alignment.forced_alignment import PADDING, STAR_COST, Alignment, Span, align, silence_as_blank
from wav2vec2.alignment.frame_times import FrameTimes, Interval, in_order

_STAR = -1

#: Punctuation by its Unicode category, yet said aloud.
_SPOKEN_PUNCTUATION = frozenset("%&@#§‰")

_APOSTROPHES = str.maketrans("’ʼ＇", "'''")


@dataclass(frozen=True)
class AlignedPart:
    """A letter or a phone of a word, as the vocabulary writes it, and its time in seconds."""

    text: str
    start: float
    end: float
    #: The mean of its probability in its frames.
    confidence: float


@dataclass(frozen=True)
class AlignedWord:
    """A word and its time in seconds."""

    text: str
    start: float
    end: float
    #: The geometric mean of the confidences of its letters.
    confidence: float
    #: False where the time is a guess: a word that nothing in the vocabulary spells, a word that the model does not
    #: hear at that place, or an utterance too short for its transcript.
    aligned: bool
    #: Its letters or phones, without what nothing in the vocabulary spells.
    parts: tuple[AlignedPart, ...] = ()


def align_words(
    log_probs: Tensor,
    text: str | Sequence[str],
    vocabulary: Sequence[str] | Mapping[str, int],
    word_delimiter: str | None = "|",
    blank: int = 0,
    times: FrameTimes | None = None,
    duration: float | None = None,
    star_cost: float = STAR_COST,
    minimum_confidence: float = 0.01,
    pronunciations: Sequence[Sequence[str]] | None = None,
) -> list[AlignedWord]:
    """Align log_probs (T, V) with a text, split at white space, or with a list of words.

    `vocabulary` gives each token its id. A letter is looked up as it is, in the other case, and without its accents;
    punctuation that the vocabulary lacks is silent. Without the word delimiter in the vocabulary, words follow each
    other directly. `duration` in seconds bounds all times; by default it is what the frames see. Words below
    `minimum_confidence` are flagged. `pronunciations` are the tokens of each word, where they are not its letters.

    >>> log_probs = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]).log()
    >>> for word in align_words(log_probs, "A b", ["<pad>", "a", "b"]):
    ...     print(word.text, word.start, word.end, round(word.confidence, 3), word.aligned)
    A 0.0225 0.0425 0.8 True
    b 0.0625 0.0825 0.8 True
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs: shape {tuple(log_probs.shape)}; need (frames, tokens) of one recording")
    words = text.split() if isinstance(text, str) else list(text)
    alone = Utterance(log_probs, words, duration, pronunciations)
    return align_utterances(
        [alone], vocabulary, word_delimiter, blank, times, star_cost=star_cost, minimum_confidence=minimum_confidence
    )[0]


class Utterance(NamedTuple):
    """What is aligned: log_probs (T, V) and words. `duration` and `pronunciations` as in `align_words`."""

    log_probs: Tensor
    words: Sequence[str]
    duration: float | None = None
    pronunciations: Sequence[Sequence[str]] | None = None


def align_utterances(
    utterances: Sequence[Utterance],
    vocabulary: Sequence[str] | Mapping[str, int],
    word_delimiter: str | None = "|",
    blank: int = 0,
    times: FrameTimes | None = None,
    device: torch.device | None = None,
    star_cost: float = STAR_COST,
    minimum_confidence: float = 0.01,
) -> list[list[AlignedWord]]:
    """What `align_words` gives for each utterance, many at a time: those of similar length share a trellis.

    Trellises that fit into one table are searched on `device`, longer ones where the log-probabilities are.
    """
    times = times or FrameTimes()
    ids = _token_ids(vocabulary, utterances[0].log_probs.shape[1]) if utterances else {}
    delimiter = None if word_delimiter is None else ids.pop(word_delimiter, None)
    spelling = {token: number for token, number in ids.items() if number != blank and token}
    joined = [_join(_spelled(one, spelling), delimiter) for one in utterances]
    found: list[list[AlignedWord]] = [[] for _ in utterances]
    names = {number: token for token, number in ids.items()}
    for numbers in _sharing_a_trellis(utterances, [targets for targets, _ in joined]):
        log_probs = [utterances[number].log_probs for number in numbers]
        padded = torch.nn.utils.rnn.pad_sequence(log_probs, True) if len(numbers) > 1 else log_probs[0][None]
        labels = [torch.tensor(joined[number][0], dtype=torch.long) for number in numbers]
        targets = torch.nn.utils.rnn.pad_sequence(labels, True, PADDING)
        if device is not None and padded[..., 0].numel() * _width(targets.shape[1], padded.shape[2]) <= CELLS:
            padded = padded.to(device)
        # the frames of a pause are the delimiter's and the blank's together
        quiet = silence_as_blank(padded, blank, delimiter, torch.logaddexp)
        alignments = align(quiet, targets, [len(one) for one in log_probs], None, blank, _STAR, star_cost)
        for number, alignment in zip(numbers, alignments, strict=True):
            duration = utterances[number].duration
            last = times.duration(len(utterances[number].log_probs)) if duration is None else duration
            places = joined[number][1]
            words = _read_words(utterances[number].words, alignment, places, times, last, minimum_confidence)
            found[number] = _with_parts(words, places, _read_parts(alignment, names, times, last))
    return found


def _spelled(utterance: Utterance, spelling: Mapping[str, int]) -> list[list[int]]:
    """The ids of each word's tokens, a star for what has none."""
    if utterance.pronunciations is None:
        return [spell_with_stars(word, spelling) for word in utterance.words]
    return _pronounced(utterance.words, utterance.pronunciations, spelling)


def _sharing_a_trellis(utterances: Sequence[Utterance], targets: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of the utterances in groups of similar length, B T max(S, V) of which fit into one table; one that
    is too long for that is alone."""
    group: list[int] = []
    widest = 0
    for number in sorted(range(len(utterances)), key=lambda number: len(utterances[number].log_probs)):
        frames, tokens = utterances[number].log_probs.shape
        own = _width(len(targets[number]), tokens)
        if group and (len(group) + 1) * frames * max(widest, own) > CELLS:
            yield group
            group, widest = [], 0
        group.append(number)
        widest = max(widest, own)
    if group:
        yield group


def _width(targets: int, tokens: int) -> int:
    """How many numbers the trellis of so many targets has a frame, in its widest table."""
    return max(2 * targets + 1, tokens)


def _with_parts(
    words: Sequence[AlignedWord], places: Sequence[range], parts: Sequence[AlignedPart | None]
) -> list[AlignedWord]:
    """The words with what was found of their letters."""
    return [
        replace(word, parts=tuple(part for part in parts[place.start : place.stop] if part is not None))
        for word, place in zip(words, places, strict=True)
    ]


def _pronounced(
    words: Sequence[str], pronunciations: Sequence[Sequence[str]], ids: Mapping[str, int]
) -> list[list[int]]:
    """The ids of each word's tokens, a star for those that are not there (once for several in a row)."""
    if len(words) != len(pronunciations):
        raise ValueError(f"pronunciations: {len(pronunciations)} for {len(words)} words; need one each")
    spelled: list[list[int]] = []
    for tokens in pronunciations:
        numbers = [ids.get(token, _STAR) for token in tokens]
        spelled.append([n for at, n in enumerate(numbers) if n != _STAR or numbers[at - 1 : at] != [_STAR]])
    return spelled


def _token_ids(vocabulary: Sequence[str] | Mapping[str, int], columns: int) -> dict[str, int]:
    """The id of each token, which must be one of the columns of the log-probabilities."""
    named = vocabulary if isinstance(vocabulary, Mapping) else {token: i for i, token in enumerate(vocabulary)}
    ids = dict(named)
    outside = [token for token, number in ids.items() if not 0 <= number < columns]
    if outside:
        raise ValueError(f"vocabulary: {outside[:5]} have no column among the {columns} of log_probs")
    return ids


def spell_with_stars(word: str, ids: Mapping[str, int]) -> list[int]:
    """The ids of a word's letters, -1 for what has none (once for several in a row). Empty for pure punctuation.

    >>> ids = {"A": 1, "'": 2, "CH": 3}
    >>> spell_with_stars("Ach’a!", ids), spell_with_stars("a42", ids), spell_with_stars("...", ids)
    ([1, 3, 2, 1], [1, -1], [])
    """
    forms = (word, unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word))
    return min((_spell_form(form, ids) for form in forms), key=lambda spelled: spelled.count(_STAR))


def _spell_form(word: str, ids: Mapping[str, int]) -> list[int]:
    longest = max(map(len, ids), default=1)
    spelled: list[int] = []
    place = 0
    while place < len(word):
        number, taken = _longest_token(word[place : place + longest], ids)
        if number is None and not _is_silent(word[place]):
            number = _STAR
        if number is not None and not (number == _STAR and spelled[-1:] == [_STAR]):
            spelled.append(number)
        place += taken
    return spelled


def _longest_token(piece: str, ids: Mapping[str, int]) -> tuple[int | None, int]:
    """The id of the longest token with which the piece starts, and how many characters it takes."""
    for size in range(len(piece), 0, -1):
        start = piece[:size]
        for spelling in (start, start.upper(), start.lower(), start.translate(_APOSTROPHES)):
            if spelling in ids:
                return ids[spelling], size
    return None, 1


def _is_silent(character: str) -> bool:
    """Punctuation, controls, and marks without a letter of their own are not said."""
    return character not in _SPOKEN_PUNCTUATION and unicodedata.category(character)[0] in "PCZM"


def _join(spelled: list[list[int]], delimiter: int | None) -> tuple[list[int], list[range]]:
    """The targets of all words, and where in them each word's letters are."""
    targets: list[int] = []
    places = []
    for letters in spelled:
        if targets and letters and delimiter is not None:
            targets.append(delimiter)
        places.append(range(len(targets), len(targets) + len(letters)))
        targets.extend(letters)
    return targets, places


def _read_words(
    words: Sequence[str],
    alignment: Alignment,
    places: list[range],
    times: FrameTimes,
    duration: float,
    minimum_confidence: float,
) -> list[AlignedWord]:
    """The words with their times, from the spans of their letters; a word without any lies between its neighbours."""
    intervals: list[Interval] = []
    confidences = []
    frame = 0  # where the next word may begin
    for place in places:
        spans = alignment[place.start : place.stop]
        start, frame = (spans[0].start, spans[-1].end) if spans else (frame, frame)
        intervals.append(times.interval(start, frame, duration))
        confidences.append(_word_confidence(spans))
    rows = zip(words, in_order(intervals), confidences, strict=True)
    possible = alignment.reason is None
    return [
        AlignedWord(word, start, end, sure, possible and 0.0 < sure >= minimum_confidence)
        for word, (start, end), sure in rows
    ]


def _read_parts(
    alignment: Alignment, names: Mapping[int, str], times: FrameTimes, duration: float
) -> list[AlignedPart | None]:
    """The letter or phone of each target, with its time; None for a star, which stands for nothing known."""
    intervals = times.intervals([span.start for span in alignment], [span.end for span in alignment], duration)
    return [
        None if span.token == _STAR else AlignedPart(names.get(span.token, ""), start, end, span.confidence)
        for span, (start, end) in zip(alignment, intervals, strict=True)
    ]


def _word_confidence(spans: list[Span]) -> float:
    """The geometric mean over the letters that are known: one that is not there at all tells against its word."""
    known = [span.confidence for span in spans if span.token != _STAR]
    if not known or min(known) <= 0.0:
        return 0.0
    return min(1.0, exp(sum(map(log, known)) / len(known)))
