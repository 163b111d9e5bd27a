"""Words with times: none is lost, doubtful ones are flagged, and the others are where they were said."""

from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import needs_shared_data, shared_table
from torch import Tensor

from wav2vec2.alignment.aligned_words import AlignedWord, align_words, spell_with_stars
from wav2vec2.alignment.frame_times import FrameTimes, Interval, TimeBias, estimate_bias

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
VOCABULARY = ["<pad>", "<unk>", "|", *ALPHABET]
IDS = {token: number for number, token in enumerate(VOCABULARY)}


def noise(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, len(VOCABULARY), generator=generator)


def heard(text: str, frames_per_letter: int = 4) -> Tensor:
    """Log-probabilities of a model that hears each character, "_" for silence, and then a blank."""
    values = noise(len(text) * frames_per_letter)
    values[:, 0] += 9
    for place, character in enumerate(text):
        if character != "_":
            values[place * frames_per_letter, 0] -= 9
            values[place * frames_per_letter, IDS[character]] += 9
    return values.log_softmax(-1)


@given(
    text=st.text(st.sampled_from("Aab'éß9%,.—|\u0301漢 \t"), max_size=40),
    frames=st.integers(0, 120),
    delimiter=st.sampled_from(["|", None]),
    late=st.floats(-0.3, 0.3),
)
@settings(deadline=None, max_examples=120)
def test_no_word_is_ever_dropped(text: str, frames: int, delimiter: str | None, late: float) -> None:
    times = FrameTimes(bias=TimeBias(late, -late))
    words = align_words(noise(frames).log_softmax(-1), text, VOCABULARY, delimiter, times=times)
    assert [word.text for word in words] == text.split()
    flat = [time for word in words for time in (word.start, word.end)]
    assert flat == sorted(flat)
    assert all(0.0 <= time <= times.duration(frames) for time in flat)
    assert all(0.0 <= word.confidence <= 1.0 for word in words)
    assert not any(word.aligned for word in words if word.confidence < 0.01)


def test_what_is_heard_is_aligned() -> None:
    words = align_words(heard("__HELLO|WORLD__"), "Hello, wORLD!", VOCABULARY)
    assert [(word.text, word.aligned) for word in words] == [("Hello,", True), ("wORLD!", True)]
    edges = FrameTimes()
    assert [word.start for word in words] == [edges.edge(8), edges.edge(32)]
    assert [word.end for word in words] == [edges.edge(25), edges.edge(49)]
    assert all(word.confidence > 0.9 for word in words)


def test_unknown_words_get_the_time_between_their_neighbours_and_a_flag() -> None:
    words = align_words(heard("AT|NINETEEN|OCLOCK"), "at 19 oclock", VOCABULARY)
    first, number, last = words
    assert (number.aligned, number.confidence) == (False, 0.0)
    assert first.aligned and last.aligned
    spoken = FrameTimes().edge(12), FrameTimes().edge(41)
    assert (number.start, number.end) == pytest.approx(spoken, abs=0.021)


def test_a_word_that_was_not_said_is_flagged_and_the_others_are_not() -> None:
    words = align_words(heard("GOOD|____MORNING|EVERYONE"), "good xylophone morning everyone", VOCABULARY)
    assert [word.aligned for word in words] == [True, False, True, True]


def test_a_partly_unknown_word_is_judged_by_what_is_known() -> None:
    (word,) = align_words(heard("_BTOB_"), "b2b", VOCABULARY)
    assert word.aligned
    assert word.start == FrameTimes().edge(4)


def test_punctuation_alone_is_kept_without_a_time_of_its_own() -> None:
    dash_first, hello, dash = align_words(heard("_HELLO_"), "- hello —", VOCABULARY)
    assert (dash_first.start, dash_first.end, dash_first.aligned) == (FrameTimes().edge(0),) * 2 + (False,)
    assert (dash.start, dash.end, dash.aligned) == (hello.end, hello.end, False)


def test_a_model_that_writes_delimiters_through_silence() -> None:
    words = align_words(heard("||||HELLO|||||WORLD|||"), "hello world", VOCABULARY)
    assert [(word.start, word.end) for word in words] == [
        (FrameTimes().edge(16), FrameTimes().edge(33)),
        (FrameTimes().edge(56), FrameTimes().edge(73)),
    ]


def test_a_vocabulary_without_a_delimiter() -> None:
    tokens = [token for token in VOCABULARY if token != "|"]
    log_probs = heard("_ABAB_")[:, [IDS[token] for token in tokens]].log_softmax(-1)
    words = align_words(log_probs, ["ab", "ab"], tokens)
    assert [(word.start, word.aligned) for word in words] == [
        (FrameTimes().edge(4), True),
        (FrameTimes().edge(12), True),
    ]


def test_too_short_an_utterance_flags_all_words() -> None:
    words = align_words(noise(3).log_softmax(-1), "far too many words", VOCABULARY)
    assert [word.aligned for word in words] == [False] * 4


@pytest.mark.parametrize(
    ("word", "spelled"),
    [
        ("Don’t", [IDS[letter] for letter in "DON'T"]),
        ("naïve", [IDS[letter] for letter in "NAIVE"]),
        ("2024", [-1]),
        ("50%", [-1]),
        ("b2b", [IDS["B"], -1, IDS["B"]]),
        ("(ok)", [IDS["O"], IDS["K"]]),
    ],
)
def test_spelling(word: str, spelled: list[int]) -> None:
    assert spell_with_stars(word, {token: IDS[token] for token in ALPHABET}) == spelled


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 3, 30\)"):
        align_words(noise(3)[None], "A", VOCABULARY)
    with pytest.raises(ValueError, match=r"vocabulary: \['X'\] have no column among the 30"):
        align_words(noise(3).log_softmax(-1), "A", {"A": 0, "X": 30})


def digit_strings(count: int) -> list[tuple[list[str], list[Interval], float]]:
    """Words, their true boundaries, and the duration of strings of digits joined from recorded clips."""
    seconds = {row["path"]: float(row["duration"]) for row in shared_table("fsdd/manifest.tsv")}
    strings = []
    for row in shared_table("fsdd/digit_strings.tsv")[:count]:
        gaps = [int(gap) / 1000 for gap in row["gaps_ms"].split(";")]
        clock, bounds = gaps[0], []
        for clip, gap in zip(row["clips"].split(";"), gaps[1:], strict=True):
            bounds.append((clock, clock + seconds[clip]))
            clock = bounds[-1][1] + gap
        strings.append((row["transcript"].split(), bounds, clock))
    return strings


def habitual_model(words: list[str], bounds: list[Interval], duration: float, seed: int) -> Tensor:
    """What a CTC model would say: a spike somewhere in each letter's share of its word, 60 ms late, amid noise."""
    times = FrameTimes()
    frames = times.frames(round(duration * 16000))
    values = noise(frames, seed) * 2
    values[:, 0] += 7
    jitter = torch.rand(99, generator=torch.Generator().manual_seed(seed)).tolist()
    for word, (start, end) in zip(words, bounds, strict=True):
        for place, character in enumerate(word):
            moment = start + (end - start) * (place + 0.1 + 0.8 * jitter.pop()) / len(word) + 0.06
            frame = min(frames - 1, round((moment * 16000 - 200) / 320))
            values[frame, 0] -= 7
            values[frame, IDS[character]] += 7
    return values.log_softmax(-1)


def aligned_strings(
    strings: list[tuple[list[str], list[Interval], float]], bias: TimeBias
) -> tuple[list[AlignedWord], list[Interval]]:
    found, true = [], []
    for seed, (words, bounds, duration) in enumerate(strings):
        log_probs = habitual_model(words, bounds, duration, seed)
        found += align_words(log_probs, words, VOCABULARY, None, times=FrameTimes(bias=bias), duration=duration)
        true += bounds
    return found, true


@needs_shared_data("fsdd")
def test_digit_strings_within_40_and_150_milliseconds() -> None:
    strings = digit_strings(160)
    found, true = aligned_strings(strings[:40], TimeBias())
    bias = estimate_bias([(word.start, word.end) for word in found], true)
    assert bias.start > 0.06
    found, true = aligned_strings(strings[40:], bias)
    pairs = zip(found, true, strict=True)
    errors = sorted(abs(time) for word, (start, end) in pairs for time in (word.start - start, word.end - end))
    assert median(errors) < 0.040
    assert errors[int(0.95 * len(errors))] < 0.150
    assert sum(word.aligned for word in found) > 0.95 * len(found)
