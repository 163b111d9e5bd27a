"""Errors in words and characters: beside brute force, jiwer's own answers, published figures; and what always holds."""

import functools
import json

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import SHARED_DATA, needs_shared_data
from typer.testing import CliRunner

from wav2vec2.command_line.app import app
from wav2vec2.decoding.weight_tuning import compare_words
from wav2vec2.evaluation.scoring import Counts, Edit, confusions, error_rates, score_utterances, total, worst

WER_REFERENCE = SHARED_DATA / "wer_reference"
TEXTS = st.lists(st.sampled_from(["a", "b", "cat", "é", "a\u0301"]), max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=6)


def distance(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Levenshtein's distance by its definition."""

    @functools.cache
    def of(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (left[i - 1] != right[j - 1]))

    return of(len(left), len(right))


@given(PAIRS)
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_a_cheapest_edit(pairs: list[tuple[str, str]]) -> None:
    """Total and by utterance, words and characters; the edits spell both texts."""
    references, hypotheses = [said for said, _ in pairs], [heard for _, heard in pairs]
    rates, scores = error_rates(references, hypotheses), score_utterances(references, hypotheses)
    assert total(one.words for one in scores) == rates.words
    assert total(one.characters for one in scores) == rates.characters
    for said, heard, score in zip(references, hypotheses, scores, strict=True):
        assert score.words.errors == distance(tuple(said.split()), tuple(heard.split()))
        assert score.words.errors == compare_words(heard.split(), said.split()).errors
        assert score.characters.errors == distance(tuple(said), tuple(heard))
        assert (score.words.reference, score.characters.reference) == (len(said.split()), len(said))
        assert [edit.reference for edit in score.edits if edit.reference is not None] == said.split()
        assert [edit.hypothesis for edit in score.edits if edit.hypothesis is not None] == heard.split()
        kinds = [edit.kind for edit in score.edits]
        expected = [kinds.count(kind) for kind in ("hit", "substitution", "deletion", "insertion")]
        assert Counts(*expected) == score.words


@given(PAIRS.filter(bool))
@settings(max_examples=80, deadline=None)
def test_rates_are_those_of_jiwer(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [said for said, _ in pairs], [heard for _, heard in pairs]
    rates = error_rates(references, hypotheses)
    assert rates.wer == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
    assert rates.cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)


@given(TEXTS, TEXTS)
def test_exchanging_the_sides_exchanges_deletions_and_insertions(said: str, heard: str) -> None:
    there, back = error_rates([said], [heard]), error_rates([heard], [said])
    assert there.words.errors == back.words.errors
    lengths = there.words.deletions - there.words.insertions
    assert lengths == back.words.insertions - back.words.deletions == len(said.split()) - len(heard.split())
    assert error_rates([said], [said]).words == Counts(hits=len(said.split()))


def test_empty_references_are_defined() -> None:
    """Insertions count, in a corpus and alone; nothing is divided by zero."""
    assert error_rates(["", "a b"], ["x y", "a b"]).wer == 2 / 2
    assert error_rates([""], ["x y z"]).wer == 3.0
    assert error_rates([""], [""]).wer == 0.0
    assert error_rates([], []).cer == 0.0
    assert error_rates(["a b"], [""]).words == Counts(deletions=2)


def test_white_space_of_every_kind_separates_words() -> None:
    """jiwer's own splitting takes a TAB and a no-break space for letters, and counts doubled blanks as characters."""
    rates = error_rates([" a\tb\u00a0c\n"], ["a  b c"])
    assert (rates.words, rates.characters) == (Counts(hits=3), Counts(hits=5))


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="2 references, but 1 hypotheses"):
        error_rates(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="need a list of texts"):
        error_rates("abc", "abc")
    with pytest.raises(ValueError, match="must be one of none, casefold, basic"):
        error_rates(["a"], ["a"], "whisper")


def test_confusions_and_the_worst() -> None:
    scores = score_utterances(["the cat", "the dog ran", "yes", "the cat"], ["a cat", "a dog", "yes", "a cat no"])
    assert confusions(scores).most_common(1) == [(Edit("the", "a"), 3)]
    assert confusions(scores)[Edit("ran", None)] == confusions(scores)[Edit(None, "no")] == 1
    assert worst(scores, 9) == [3, 1, 0]  # two errors in two words before two in three; what is right is not there
    assert worst(scores, 1) == [3]


@pytest.mark.slow
@needs_shared_data("wer_reference")
@pytest.mark.parametrize(("name", "errors", "words"), [("test-clean", 1921, 52576), ("test-other", 5029, 52343)])
def test_score_gives_the_published_figures(name: str, errors: int, words: int) -> None:
    """3.6538 % and 9.6078 %, as published with these texts."""
    files = [str(WER_REFERENCE / f"{name}.{kind}.tsv") for kind in ("ref", "hyp.rnnt_baseline")]
    result = CliRunner().invoke(app, ["score", *files, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["wer"]
    published = (WER_REFERENCE / f"{name}.result.txt").read_text().split("error_rate=")[1].split(",")[0]
    assert found["rate"] * 100 == pytest.approx(float(published), abs=1e-12)
    assert found["substitutions"] + found["deletions"] + found["insertions"] == errors
    assert found["reference"] == words
    assert found["interval"]["low"] < found["rate"] < found["interval"]["high"]
    shown = CliRunner().invoke(app, ["score", *files]).stdout
    assert f"WER {float(published):.4f}% (95 %: " in shown
