"""Vocabularies: the named normalisations, the report, and every fault refused by name."""

import doctest
import importlib
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.text_normalization import CHOICES, TextNormalization
from wav2vec2.processing.vocabulary import UnknownCharactersError, VocabularyError, build_vocabulary

MODULES = ("ctc_tokenizer", "phoneme_tokenizer", "text_normalization", "vocabulary")
PLAIN = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4}


def tokenizer_of(vocabulary: dict[str, Any], **options: Any) -> Wav2Vec2CTCTokenizer:
    return Wav2Vec2CTCTokenizer(vocabulary, **options)


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"wav2vec2.processing.{module}"))
    assert tried.attempted > 0
    assert tried.failed == 0


def test_report_counts_by_hand() -> None:
    texts = ["It’s 5 o'clock!", "", "¡Sí, 5! — sí"]
    vocabulary = build_vocabulary(texts, digits="remove", min_count=2)
    report = vocabulary.report
    assert (report.texts, report.empty) == (3, 1)
    assert report.dropped == {"5": 2, "!": 2, "¡": 1, ",": 1, "—": 1}
    counted = Counter("it'so'clocksísí")
    assert report.characters == {c: n for c, n in counted.items() if n >= 2}
    assert report.left_out == {c: n for c, n in counted.items() if n < 2}
    assert report.rare == report.characters
    assert list(vocabulary.tokens) == ["<pad>", "<unk>", "|", *sorted(report.characters)]
    assert list(vocabulary.tokens.values()) == list(range(len(vocabulary.tokens)))
    for word in ("3 texts (1 empty)", "'!' U+0021 2", "o 2", "left out (min_count): 4"):
        assert word in str(report)


@pytest.mark.parametrize(
    ("choices", "text", "expected"),
    [
        ({"unicode_form": "NFC"}, "e\u0301", "é"),
        ({"unicode_form": "NFD"}, "é", "e\u0301"),
        ({"unicode_form": "NFKC"}, "ﬁ", "fi"),
        ({"case": "lower"}, "ΟΔΟΣ İ", "οδος i̇"),
        ({"case": "upper"}, "straße", "STRASSE"),
        ({"punctuation": "remove"}, "a-b, c+d\u00ad\u200be", "a b  c de"),
        ({"punctuation": "remove"}, "می\u200cخواهم", "می\u200cخواهم"),
        ({"digits": "remove"}, "a1²٣〇", "a〇"),
        ({"apostrophes": "straight"}, "it’s ʼn `x´", "it's 'n 'x'"),
        ({"apostrophes": "remove"}, "it’s", "its"),
        ({"spaces": "single"}, " a \t\nb\u00a0c ", "a b c"),
        ({"spaces": "remove"}, "你 好", "你好"),
    ],
)
def test_each_choice(choices: dict[str, str], text: str, expected: str) -> None:
    assert TextNormalization(**choices)(text) == expected


choices = st.fixed_dictionaries({name: st.sampled_from(names) for name, names in CHOICES.items() if name != "digits"})


@settings(deadline=None, max_examples=200)
@given(choices, st.text(max_size=12))
def test_twice_is_once(chosen: dict[str, str], text: str) -> None:
    normalize = TextNormalization(**chosen)
    once = normalize(text)
    assert normalize(once) == once


@settings(deadline=None, max_examples=100)
@given(choices, st.lists(st.text(st.characters(exclude_characters="|", codec="utf-8"), max_size=8), min_size=1))
def test_a_built_vocabulary_knows_its_texts(chosen: dict[str, str], texts: list[str]) -> None:
    del chosen["spaces"]
    try:
        vocabulary = build_vocabulary(texts, **chosen)  # type: ignore[arg-type]
    except VocabularyError as error:
        assert "without a single character" in str(error)
        return
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary)
    for text in texts:
        assert tokenizer.decode_labels(tokenizer(text).input_ids) == vocabulary.normalization(text)


def test_choices_are_named_in_errors() -> None:
    with pytest.raises(ValueError, match=r"case='Lower': must be one of 'keep', 'lower', 'upper'"):
        TextNormalization(case="Lower")
    with pytest.raises(ValueError, match="unknown keys casing; known: unicode_form"):
        TextNormalization.from_dict({"casing": "lower"})
    with pytest.raises(ValueError, match=r"digits 1 5 in 'at 15': spell numbers out"):
        TextNormalization(digits="refuse")("at 15")


def test_texts_that_cannot_make_a_vocabulary() -> None:
    with pytest.raises(ValueError, match="one string"):
        build_vocabulary("hello")
    with pytest.raises(VocabularyError, match="2 texts without a single character"):
        build_vocabulary(["", "!"])
    with pytest.raises(VocabularyError, match=r"contain '\|' \(1 times\), which is to be a special token"):
        build_vocabulary(["a|b"], punctuation="keep")
    with pytest.raises(VocabularyError, match="must differ"):
        build_vocabulary(["a"], blank="|")
    with pytest.raises(ValueError, match="text 2 is NoneType"):
        build_vocabulary(["a", None])  # type: ignore[list-item]


def test_a_script_without_spaces() -> None:
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary(["你好 世界"], word_delimiter=None))
    assert tokenizer.word_delimiter_token is None
    assert tokenizer.decode_labels(tokenizer("你好\u3000世界").input_ids) == "你好世界"


FAULTS = [
    ({}, {}, "must be an object of tokens and ids, and not be empty"),
    ([], {}, "must be an object of tokens and ids"),
    ({**PLAIN, "c": 4}, {}, "'b' and 'c' share the id 4"),
    ({**PLAIN, "c": 7}, {}, "no token has the id 5"),
    ({**PLAIN, "c": -1}, {}, "the id of 'c' is -1"),
    ({**PLAIN, "c": "5"}, {}, "the id of 'c' is '5'"),
    ({**PLAIN, "c": True}, {}, "the id of 'c' is True"),
    ({**PLAIN, "": 5}, {}, "'' is not a token"),
    ({**PLAIN, "\ud800": 5}, {}, "surrogate"),
    ({"[PAD]": 0, "|": 1, "a": 2}, {}, r"the CTC blank, is not in vocabulary; it has '\[PAD\]': pass pad_token"),
    ({"<pad>": 0, "a": 1}, {}, r"word_delimiter_token='\|' is not in vocabulary"),
    (PLAIN, {"pad_token": "|"}, "must differ"),
    (PLAIN, {"unk_token": "<pad>"}, "must differ"),
    (PLAIN, {"target_lang": "eng"}, "one vocabulary, not one per language"),
    ({"eng": PLAIN, "fra": PLAIN}, {}, r"vocabularies for 2 languages: choose one with target_lang= \(eng, fra\)"),
    ({"eng": PLAIN, "fra": PLAIN}, {"target_lang": "deu"}, "target_lang='deu' is not among them"),
    ({"eng": {"<pad>": 1}}, {"target_lang": "eng"}, "language 'eng': no token has the id 0"),
]


@pytest.mark.parametrize(("vocabulary", "options", "message"), FAULTS)
def test_faulty_vocabularies_are_refused_by_name(
    vocabulary: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(vocabulary))
    with pytest.raises(VocabularyError, match=message.replace("in vocabulary", "in .*vocab.json")):
        Wav2Vec2CTCTokenizer(path, strict=True, **options)
    if isinstance(vocabulary, dict):
        with pytest.raises(VocabularyError, match=message):
            Wav2Vec2CTCTokenizer(vocabulary, strict=True, **options)
        usable = any(part in message for part in ("no token has", "the CTC blank", "word_delimiter_token='"))
        if usable:
            assert Wav2Vec2CTCTokenizer(vocabulary, **options).blank == "<pad>"
        else:
            with pytest.raises(VocabularyError, match=message):
                Wav2Vec2CTCTokenizer(vocabulary, **options)


TEXT_FAULTS = [
    ("AB", {}, "the vocabulary is lower case and the text has upper case: pass do_lower_case=True"),
    ("a7", {}, r"1 not in the vocabulary of 5 tokens: '7' \(U\+0037\) x1, in 'a7'. spell numbers out"),
    ("zaz", {}, r"'z' \(U\+007A\) x2"),
    ("a<pad>", {}, "'<pad>' is the CTC blank"),
    ("a\tb", {}, r"'\\t' \(U\+0009\)"),
    ("a b", {"word_delimiter_token": None}, "no word delimiter"),
]


@pytest.mark.parametrize(("text", "options", "message"), TEXT_FAULTS)
@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_texts_that_a_vocabulary_cannot_spell(
    text: str, options: dict[str, Any], message: str, unknown: str | None
) -> None:
    with pytest.raises(UnknownCharactersError, match=message):
        tokenizer_of(PLAIN, unk_token=unknown, strict=True, **options)(text)


def test_the_other_unicode_form_is_named() -> None:
    tokenizer = tokenizer_of({"<pad>": 0, "|": 1, "é": 2}, strict=True)
    with pytest.raises(UnknownCharactersError, match=r"written in NFC: unicodedata.normalize\('NFC', text\)") as error:
        tokenizer(unicodedata.normalize("NFD", "é é"))
    assert error.value.characters == {"e": 2, "\u0301": 2}
