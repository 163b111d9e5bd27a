"""Named normalisers: what each does, and that doing it twice changes nothing."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wav2vec2.evaluation.normalisers import NORMALISERS, normaliser
from wav2vec2.evaluation.scoring import error_rates


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("none", "Don’t  STOP!", "Don’t  STOP!"),
        ("casefold", "Don’t STOP! Straße", "don’t stop! strasse"),
        ("basic", "Don’t  STOP!", "don't stop"),
        ("basic", "twenty-one (21) — “yes”, he said…", "twenty one 21 yes he said"),
        ("basic", "cafe\u0301 CAFÉ", "café café"),
        ("basic", "a $5 note & 50%", "a 5 note 50"),
        ("basic", "soft\u00adhyphen\u200b", "softhyphen"),
        ("basic", "می\u200cخواهم", "می\u200cخواهم"),
        ("basic", "ʼTis", "'tis"),
        ("basic", " \t\n", ""),
    ],
)
def test_what_a_name_does(name: str, text: str, right: str) -> None:
    assert normaliser(name)(text) == right


@pytest.mark.parametrize("name", list(NORMALISERS))
@given(text=st.text())
@example(text="ŉ ǰ İ ΐ ẞ ﬃ \u0345\u0301")
@settings(max_examples=300, deadline=None)
def test_twice_is_once(name: str, text: str) -> None:
    treat = normaliser(name)
    assert treat(treat(text)) == treat(text)


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_basic_leaves_words_of_letters_digits_and_apostrophes(text: str) -> None:
    treated = normaliser("basic")(text)
    assert treated == " ".join(treated.split())
    marks = {one for one in treated if unicodedata.category(one)[0] in "PSC"} - {"'", "\u200c", "\u200d"}
    assert {one for one in marks if unicodedata.category(one) not in ("Cn", "Co", "Cs")} == set()


def test_both_sides_are_treated_alike_and_by_name() -> None:
    said, heard = ["Well, I DON’T know."], ["well i don't know"]
    assert error_rates(said, heard).wer == 1.0
    assert error_rates(said, heard, "casefold").wer == 0.75
    assert error_rates(said, heard, "basic").wer == 0.0
