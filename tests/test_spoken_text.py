"""Planted errors are named, one or several, tight or with time between, and their neighbours are not blamed."""

import itertools
import random

import pytest
import torch
from torch import Tensor

from wav2vec2.alignment.spoken_text import SpokenText, spoken_text

#: The blank is the first.
TOKENS = ".abcdefghijklmnop"


def heard(path: str, sure: float = 0.98) -> Tensor:
    """Frames (T, V) of a model that hears this path, a character a frame, and is not quite sure of it."""
    numbers = torch.tensor([TOKENS.index(one) for one in path])
    rest = (1 - sure) / (len(TOKENS) - 1)
    return torch.full((len(path), len(TOKENS)), rest).scatter_(1, numbers[:, None], sure).log()


def said(path: str, asked: str) -> SpokenText:
    numbers = [TOKENS.index(one) for one in asked]
    return spoken_text(heard(path), numbers, range(1, len(TOKENS)), blank=0)


def in_letters(found: SpokenText, asked: str) -> list[str]:
    """What differs: "c>d" for d instead of c, "c>" for c left out, ">d" for d put in."""
    rows = []
    for slot in (place.slot for place in found.places):
        wanted = "" if slot.asked is None else asked[slot.asked]
        told = _letter(slot.token)
        if wanted != told:
            rows.append(f"{wanted}>{told}")
    return rows


@pytest.mark.parametrize(
    ("path", "asked", "wrong"),
    [
        ("a.b.c.d", "abcd", []),
        ("abcd", "abcd", []),
        ("a.b.e.d", "abcd", ["c>e"]),
        ("a.b...d", "abcd", ["c>"]),
        ("ab.d", "abcd", ["c>"]),  # no frame to spare for the one that is not there
        ("a.b.c", "abcd", ["d>"]),
        ("a.b.c.e.d", "abcd", [">e"]),
        ("e.a.b.c.d", "abcd", [">e"]),
        ("a.b.c.d.e", "abcd", [">e"]),
        ("a.b.b.c.d", "abcd", [">b"]),
        ("e.b.c.f", "abcd", ["a>e", "d>f"]),
        ("e.f.c.d", "abcd", ["a>e", "b>f"]),
        ("..a.b.........g.h.", "abcdefgh", ["c>", "d>", "e>", "f>"]),
        ("..a.b.k.l.m.n.g.h.", "abcdefgh", ["c>k", "d>l", "e>m", "f>n"]),
        ("...........", "abc", ["a>", "b>", "c>"]),
    ],
)
def test_what_differs_is_named(path: str, asked: str, wrong: list[str]) -> None:
    """All else is judged to be as asked, and what differs not to be."""
    found = said(path, asked)
    assert in_letters(found, asked) == wrong
    told = [
        place.slot.asked is not None and asked[place.slot.asked] == _letter(place.slot.token) for place in found.places
    ]
    assert [place.log_odds > 0 for place in found.places] == told
    assert len(found.goodness) == len(asked) and max(found.goodness) <= 0


def _letter(token: int | None) -> str:
    return "" if token is None else TOKENS[token]


def test_candidates_are_probabilities_and_the_first_is_what_was_said() -> None:
    found = said("a.b.e...d", "abcd")
    for place in found.places:
        assert place.candidates[0].token == place.slot.token
        chances = [one.probability for one in place.candidates]
        assert chances == sorted(chances, reverse=True) and sum(chances) <= 1 + 1e-9
    assert 2 * found.places[2].candidates[0].probability > 1
    everything = spoken_text(heard("a.b"), [1, 2], [1, 2], blank=0).places[0].candidates
    assert sorted(str(one.token) for one in everything) == ["1", "2", "None"]
    assert sum(one.probability for one in everything) == pytest.approx(1, abs=1e-12)


def test_random_texts_with_random_errors() -> None:
    """Long texts, in which every seventh token may be replaced, left out, or have one more before it."""
    draw = random.Random(0)
    for _ in range(8):
        asked = [draw.choice(TOKENS[1:9]) for _ in range(30)]
        asked = [one for one, _ in itertools.groupby(asked)]
        planted, path = [], "."
        for place, one in enumerate(asked):
            kind = draw.choice(["", "", "replaced", "left out", "put in"]) if place % 7 == 3 else ""
            new = draw.choice(TOKENS[9:])
            told = {"replaced": new, "left out": "", "put in": new + "." + one, "": one}[kind]
            planted += {"replaced": [f"{one}>{new}"], "left out": [f"{one}>"], "put in": [f">{new}"], "": []}[kind]
            path += told * draw.choice([1, 1, 2]) if len(told) == 1 else told
            path += "." * draw.choice([1, 1, 3])
        assert in_letters(said(path, "".join(asked)), "".join(asked)) == planted, (path, asked)


def test_words_are_left_out_as_a_whole() -> None:
    """The last word begins with what the one before ends with, and takes that for its own where it cannot be left out
    as one."""
    path, asked, words = "..a.b.c.d.....", "abcdefgd", [0, 0, 0, 0, 1, 1, 1, 1]
    numbers = [TOKENS.index(one) for one in asked]
    found = spoken_text(heard(path), numbers, range(1, len(TOKENS)), 0, words)
    assert in_letters(found, asked) == ["e>", "f>", "g>", "d>"]
    gone = [place.log_odds for place in found.places if place.slot.token is None]
    alone = spoken_text(heard(path), numbers, range(1, len(TOKENS)), 0).places
    assert (
        len(set(gone)) == 1 and gone[0] < 2 * min(place.log_odds for place in alone) < 0
    )  # the odds of the whole word
    found = spoken_text(heard(".a.b.c.d.i.j.k.l."), numbers, range(1, len(TOKENS)), 0, words)
    assert in_letters(found, asked) == ["e>i", "f>j", "g>k", "d>l"]
