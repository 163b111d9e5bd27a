"""Captions: every word once, on the screen and in time; breaks where a reader would have them."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2.alignment.aligned_words import AlignedWord
from wav2vec2.inference import subtitle_formats as module
from wav2vec2.inference.subtitle_formats import CAPTION_SECONDS, LINE_LENGTH, LINES, PAUSE, Caption, captions


def said(text: str, pauses: dict[str, float] | None = None, seconds: float = 0.2) -> list[AlignedWord]:
    """Words one after the other with 0.05 s between, and after some of them a longer pause."""
    words, clock = [], 0.0
    for word in text.split():
        words.append(AlignedWord(word, clock, clock + seconds, 1.0, True))
        clock += seconds + (pauses or {}).get(word, 0.05)
    return words


def texts(words: list[AlignedWord]) -> list[str]:
    return [" ".join(caption.lines) for caption in captions(words, words[-1].end)]


def test_a_sentence_is_not_cut_where_it_fits() -> None:
    """Word by word, greedily, the second sentence would be cut behind its 84th character."""
    first = "The ship that left the harbour at noon was seen again by nobody who lived there."
    second = "It came back."
    assert texts(said(f"{first} {second}")) == [first, second]


def test_a_long_sentence_is_cut_in_its_longest_pause() -> None:
    sentence = (
        "when the wind that had been blowing all night from the north fell at last towards the morning "
        "we heard that somebody was singing on the other side of the bay"
    )
    halves = texts(said(sentence, {"night": 0.3, "morning": 0.6, "somebody": 0.25}, seconds=0.15))
    assert halves[-1].startswith("we heard that")
    assert "night" in halves[0].split()[-1]
    clauses = "if somebody had told us at the harbour that it was late, we should have walked along the shore to you"
    assert texts(said(clauses, seconds=0.15))[0].endswith("late,")


def test_lines_are_balanced() -> None:
    (caption,) = captions(said("a sentence of two lines should not leave one word", seconds=0.1), 10.0)
    assert caption.lines == ("a sentence of two lines", "should not leave one word")


def test_no_word_is_left_alone_at_the_end() -> None:
    """Sixteen words that fill a caption and one more: not the rest of it, but about half goes on."""
    words = said(" ".join(["abcd"] * 17 + ["end"]), seconds=0.1)
    assert [len(caption.lines[0].split()) > 2 for caption in captions(words, 10.0)] == [True, True]


def test_a_word_that_fits_nowhere_is_a_caption() -> None:
    long = "x" * (LINE_LENGTH + 5)
    assert [caption.lines for caption in captions(said(f"a {long} b"), 9.0)] == [("a",), (long,), ("b",)]
    slow = [AlignedWord("om", 0.0, 20.0, 1.0, True), AlignedWord("om", 20.0, 21.0, 1.0, True)]
    assert [caption.lines for caption in captions(slow, 21.0)] == [("om",), ("om",)]


WORDS = st.lists(
    st.tuples(
        st.sampled_from(["a", "of", "and", "there", "harbour", "singing", "to,", "end.", "x" * 30]),
        st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.79, 0.8, 3.0]),
        st.sampled_from([0.05, 0.3, 2.5]),
    ),
    min_size=1,
    max_size=9,
)


@settings(deadline=None, max_examples=60)
@given(WORDS)
def test_no_other_way_to_cut_costs_less(drawn: list[tuple[str, float, float]]) -> None:
    """Against every way to cut the words, with the costs written down again."""
    words, clock = [], 0.0
    for text, pause, seconds in drawn:
        words.append(AlignedWord(text, clock, clock + seconds, 1.0, True))
        clock += seconds + pause
    found = captions(words, clock)
    assert " ".join(" ".join(caption.lines) for caption in found).split() == [word.text for word in words]
    places = [0]
    for caption in found:
        places.append(places[-1] + len(" ".join(caption.lines).split()))
    everything = [
        cost
        for count in range(len(words))
        for cuts in combinations(range(1, len(words)), count)
        if (cost := price(words, [0, *cuts, len(words)])) is not None
    ]
    assert price(words, places) == pytest.approx(min(everything))


def price(words: list[AlignedWord], places: list[int]) -> float | None:
    """What captions that begin at these places cost; None if one does not fit."""
    total = 0.0
    for first, stop in pairwise(places):
        shown = words[first:stop]
        text = " ".join(word.text for word in shown)
        gaps = [round(after.start - before.end, 6) for before, after in pairwise(shown)]
        ends = [word.text.endswith(".") for word in shown[:-1]]
        halves = [(len(text[:at]), len(text[at + 1 :])) for at, character in enumerate(text) if character == " "]
        two_lines = len(text) <= LINE_LENGTH or any(max(half) <= LINE_LENGTH for half in halves)
        too_long = round(shown[-1].end - shown[0].start, 6) > CAPTION_SECONDS
        if len(shown) > 1 and (too_long or not two_lines or any(ends) or max(gaps) >= PAUSE):
            return None
        total += module._CAPTION + module._EMPTY * max(0.0, 1 - len(text) / (LINES * LINE_LENGTH)) ** 2
        if stop < len(words):
            gap = round(words[stop].start - shown[-1].end, 6)
            cost = 0.0 if shown[-1].text.endswith(".") or gap >= PAUSE else (1 - gap / PAUSE) ** 2
            total += cost * (module._CLAUSE if shown[-1].text.endswith(",") else 1.0)
    return total


def test_nothing_said_is_no_caption() -> None:
    assert captions([], 5.0) == []
    assert captions([AlignedWord(" ", 0.0, 0.1, 1.0, True)], 5.0) == []
    assert captions(said("one"), 5.0) == [Caption(0, 200, ("one",))]
