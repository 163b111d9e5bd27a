"""`assess`: what was planted in sound is what is told, by phones and by letters, with times, pauses and scores."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_speech import PHONES, plant, save_planted, sound, write_sound
from recognition_checkpoints import RATE, TOKENS

from wav2vec2 import Transcriber, Wav2Vec2PhonemeCTCTokenizer, assess
from wav2vec2.pronunciation.advice import advice, on_pauses
from wav2vec2.pronunciation.asked_for import asked_for
from wav2vec2.pronunciation.assessing import Asked, assess_each, head_sha256
from wav2vec2.pronunciation.assessment import Assessment
from wav2vec2.pronunciation.azure_json import NO_CLAIM, azure_json
from wav2vec2.pronunciation.calibrating import calibrate
from wav2vec2.pronunciation.calibration import (
    Calibration,
    area_under_curve,
    brier_score,
    fitted,
    logistic,
    read_calibration,
)
from wav2vec2.pronunciation.learner_page import LONGEST_EMBEDDED, learner_page

HELLO_CATS = "həloʊ kæts"


@pytest.fixture(scope="module")
def transcribers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Transcriber]]:
    """One of phones and one of letters, which hear what was planted."""
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield {
            kind: Transcriber.from_pretrained(save_planted(folder / kind, kind == "phones"), device="cpu")
            for kind in ("phones", "letters")
        }


@pytest.fixture
def phones(transcribers: dict[str, Transcriber]) -> Transcriber:
    return transcribers["phones"]


def said(path: str) -> tuple[Any, int]:
    return sound(path, PHONES), RATE


def faults(found: Assessment) -> list[str]:
    return [f"{phone.text}>{phone.said}" for phone in found.phones() if phone.fault]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (". h . ə*3 . l . oʊ*4 .*20 k . æ*4 . t . s .", []),
        (". h . ə*3 . l . oʊ*4 | k . æ*4 . t . s .", []),
        (". h . ə*3 | l . oʊ*4 .*9 | .*9 k . æ*4 . t . s .", []),  # a pause in a word is no wrong phone
        (". h . ə . k . oʊ . k . æ . t . s .", ["l>k"]),
        (". h . ə . l . oʊ . k . æ . s .", ["t>"]),
        (". h . ə . l . oʊ . k . æ . t . s . ə .", [">ə"]),
        (". k . ə . l . oʊ . k . æ . k . h .", ["h>k", "t>k", "s>h"]),
    ],
)
def test_faults_are_named(path: str, wrong: list[str], phones: Transcriber) -> None:
    found = assess(phones, said(path), phones=HELLO_CATS)
    assert faults(found) == wrong
    assert [word.text for word in found.words] == ["həloʊ", "kæts"] and found.unit == "phones"
    assert found.completeness == 1.0 and found.calibration is None
    assert all((phone.score < 0.0001) == (phone.fault is not None) for phone in found.phones())
    assert (found.accuracy > 0.95) == (not wrong)


def test_times_are_where_it_was_said(phones: Transcriber) -> None:
    """To the frame: also of what was said instead; what was left out is where its neighbours meet."""
    found = assess(phones, said(". . h . ə*3 . k . oʊ*4 .*20 k . æ*4 . s . . ."), phones=HELLO_CATS)
    hello, cats = found.words
    samples = [[(round(one.start * RATE), round(one.end * RATE)) for one in word.phones] for word in found.words]
    frames: list[list[tuple[float, float]]] = [
        [(2, 3), (4, 7), (8, 9), (10, 14)],
        [(34, 35), (36, 40), (40.5, 40.5), (41, 42)],
    ]
    assert samples == [[(round(320 * a + 40), round(320 * b + 40)) for a, b in word] for word in frames]
    assert (hello.start, hello.end) == (hello.phones[0].start, hello.phones[-1].end)
    assert [phone.fault for phone in cats.phones] == [None, None, "omission", None]


def test_words_that_were_not_said_and_fluency(phones: Transcriber) -> None:
    found = assess(phones, said(". h . ə . l . oʊ .*40 s . ə ."), "one two three", "həloʊ|kæts|sə")
    assert [word.omitted for word in found.words] == [False, True, False]
    assert found.completeness == pytest.approx(2 / 3) and found.accuracy > 0.95
    (pause,) = found.fluency.pauses
    assert pause.end - pause.start == pytest.approx(0.8, abs=0.021) and pause.after_word == 2
    seconds = found.words[2].end - found.words[0].start
    assert found.fluency.seconds == seconds and found.fluency.words_per_minute == pytest.approx(120 / seconds)
    assert found.fluency.phones_per_second == pytest.approx(6 / (seconds - (pause.end - pause.start)))
    assert found.fluency.score == pytest.approx(1 - (pause.end - pause.start) / seconds)
    lowest, *others = sorted([found.accuracy, found.completeness, found.fluency.score])
    assert found.score == pytest.approx(0.6 * lowest + 0.2 * sum(others))
    assert [(word.text, what) for word, what in advice(found)] == [("two", "Not heard. Say it.")]
    assert on_pauses(found).endswith("Pauses: 0.8 s before “three”.")


def test_silence_is_nothing_of_it(phones: Transcriber) -> None:
    found = assess(phones, said(".*60"), phones=HELLO_CATS)
    assert [word.omitted for word in found.words] == [True, True]
    assert (found.accuracy, found.completeness, found.fluency.score, found.score) == (0, 0, 0, 0)
    assert on_pauses(found) == "Nothing was heard." and "NaN" not in azure_json(found)
    assert learner_page(found).count('class="word missing"') == 2


def test_what_was_put_in_belongs_to_the_nearer_word(phones: Transcriber) -> None:
    near_first = assess(phones, said(". h . ə . l . oʊ . t .*9 k . æ . t . s ."), phones=HELLO_CATS)
    near_last = assess(phones, said(". h . ə . l . oʊ .*9 t . k . æ . t . s ."), phones=HELLO_CATS)
    at_first = assess(phones, said(". t . h . ə . l . oʊ .*9 k . æ . t . s ."), phones=HELLO_CATS)
    for found, word, sentence in (
        (near_first, 0, "Leave out t after oʊ."),
        (near_last, 1, "Leave out t at the beginning."),
        (at_first, 0, "Leave out t at the beginning."),
    ):
        assert [(found.words.index(one), what) for one, what in advice(found)] == [(word, sentence)]


def test_another_word_is_told_as_one(phones: Transcriber) -> None:
    found = assess(phones, said(". h . ə . l . oʊ .*9 s . oʊ . h . ə ."), "Hello cats", HELLO_CATS)
    assert [(word.text, what) for word, what in advice(found)] == [("cats", "Heard as “soʊhə”. Say it again.")]


def test_letters_are_assessed_by_a_model_of_letters(transcribers: dict[str, Transcriber]) -> None:
    samples = sound(". a . b . d . | d . e*3 . . h .", TOKENS), RATE
    found = assess(transcribers["letters"], samples, "Abc, deh!")
    assert faults(found) == ["c>d"] and found.unit == "letters"
    assert [word.text for word in found.words] == ["Abc,", "deh!"]
    assert "hears letters, not sounds" in learner_page(found)


@pytest.mark.slow
def test_recordings_together_are_as_each_alone(phones: Transcriber) -> None:
    """Also beside one that cannot be used, whose error names it, and with silence around."""
    paths = [". h . ə . l . oʊ .", ".*30 k . æ . t .*60", ". k . t . s .*9 s ."]
    asked = ["həloʊ", "kæts", "kæts"]
    pairs = [Asked(said(path), None, one) for path, one in zip(paths, asked, strict=True)]
    together = list(assess_each(phones, [pairs[0], Asked(said(". . ."), None, HELLO_CATS), *pairs[1:]]))
    assert [str(one.error)[:8] if one.error else None for one in together] == [None, "audio 0:", None, None]
    for pair, found in zip(pairs, [one.assessment for one in together if one.assessment], strict=True):
        alone = assess(phones, pair.audio, phones=pair.phones)
        assert faults(alone) == faults(found)
        for one, other in zip(alone.phones(), found.phones(), strict=True):
            assert (one.text, one.said, one.start, one.end) == (other.text, other.said, other.start, other.end)
            assert one.score == pytest.approx(other.score, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"text": " "}, "the text is empty"),
        ({}, "the text is empty"),
        ({"phones": " | "}, "the phones are empty"),
        ({"phones": "kɪt"}, "the model has no phone that 'ɪt' (in kɪt) begins with; it has: h ə l oʊ k æ t s"),
        ({"text": "a", "phones": HELLO_CATS}, "the text has 1 words and the phones 2"),
        ({"phones": "kæts" * 9}, "0.14 s are 7 frames, and 36 phones need 36 of them at least"),
        ({"phones": "kæts", "threshold": 1.0}, "threshold=1.0"),
    ],
)
def test_what_cannot_be_assessed_is_said(asked: dict[str, Any], message: str, phones: Transcriber) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        assess(phones, said(". k . æ . t ."), **asked)


def test_a_model_of_letters_takes_no_phones(transcribers: dict[str, Transcriber]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"phones": "kæt"}, "letters, not phones"),
        ({"text": "abc 42"}, "no letters for 42"),
        ({"text": "abc", "text_language": "de"}, "text_language is for models of phones"),
        ({"text": "... -"}, "nothing in it that is said"),
    ]
    for asked, message in cases:
        with pytest.raises(ValueError, match=message):
            assess(transcribers["letters"], said(".*9"), **asked)


def test_phones_are_cut_as_the_model_has_them() -> None:
    """The longest first, marks of dictionaries left out, with and without bars; composed or not."""
    names = ["<pad>", "t", "ʃ", "tʃ", "ɛ", "ç", "oː", "o"]
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(
        {name: number for number, name in enumerate(names)}, bos_token=None, eos_token=None, unk_token=None
    )

    def cut(phones: str) -> list[list[str]]:
        return [[names[token] for token in word.tokens] for word in asked_for(tokenizer, phones=phones)]

    assert cut("/ˈt͡ʃɛt oːc\u0327/") == [["tʃ", "ɛ", "t"], ["oː", "ç"]]
    assert cut("t ʃ | tʃ o") == [["t", "ʃ"], ["tʃ", "o"]]
    assert cut("t ʃ") == [["t"], ["ʃ"]]


def test_words_are_said_as_in_their_sentence() -> None:
    """espeak says "a" and "the" otherwise alone, and joins some words: each keeps its own part."""
    pytest.importorskip("espeakng_loader", reason="the extra 'phonemes' is not installed")
    names = ["<pad>", *"hwdvnɡtkfpszð", "iː", "ʊ", "ɐ", "ɔ", "ə", "ɪ", "ɛ", "ɚ", "oʊ", "ɹ", "æ", "əl"]
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(
        {name: number for number, name in enumerate(names)}, bos_token=None, eos_token=None, unk_token=None
    )
    words = asked_for(tokenizer, "He would have gone - to the end")
    assert [(word.text, " ".join(names[token] for token in word.tokens)) for word in words] == [
        ("He", "h iː"),
        ("would", "w ʊ d"),
        ("have", "h ɐ v"),
        ("gone", "ɡ ɔ n"),
        ("to", "t ə"),
        ("the", "ð ɪ"),
        ("end", "ɛ n d"),
    ]
    with pytest.raises(ValueError, match=r"no phone l \(in lamp\), m \(in lamp\)"):
        asked_for(tokenizer, "lamp")


def test_json_has_azures_names(phones: Transcriber) -> None:
    found = assess(phones, said(". h . ə . k . oʊ .*20 k . æ . t . s . ə ."), "Hello cats", HELLO_CATS)
    answer = json.loads(azure_json(found))
    (best,) = answer["NBest"]
    assert set(best["PronunciationAssessment"]) == {"AccuracyScore", "FluencyScore", "CompletenessScore", "PronScore"}
    hello, cats = best["Words"]
    assert (hello["Word"], hello["PronunciationAssessment"]["ErrorType"]) == ("Hello", "Mispronunciation")
    assert hello["Offset"] == round(found.words[0].start * 1e7)
    assert hello["Offset"] + hello["Duration"] == round(found.words[0].end * 1e7)
    assert [one["Phoneme"] for one in hello["Phonemes"]] == ["h", "ə", "l", "oʊ"]
    wrong = hello["Phonemes"][2]["PronunciationAssessment"]
    assert (wrong["ErrorType"], wrong["SpokenPhoneme"]) == ("Substitution", "k")
    assert wrong["NBestPhonemes"][0]["Phoneme"] == "k" and wrong["NBestPhonemes"][0]["Score"] > 90
    kinds = [one["PronunciationAssessment"].get("ErrorType") for one in cats["Phonemes"]]
    assert kinds == [None, None, None, None, "Insertion"] and cats["Phonemes"][-1]["Phoneme"] == "ə"
    assert answer["Calibration"] == "not calibrated" and answer["Claim"] == NO_CLAIM


def test_the_page_says_it_without_colour_and_without_a_network(phones: Transcriber) -> None:
    samples = said(". h . ə . k . oʊ .*20 k . æ . t . s .")
    found = assess(phones, samples, "<Hello> cats", HELLO_CATS)
    silent, sounding = learner_page(found), learner_page(found, samples)
    for content in (silent, sounding):
        assert "&lt;Hello&gt;" in content and "<Hello>" not in content
        assert "✎ to change" in content and "✓ as asked" in content and "heard k" in content
        assert "Say l, not k." in content and NO_CLAIM in content and "not calibrated" in content
        assert "http" not in content
    assert "<audio" not in silent and "<script" not in silent and "<button" not in silent
    assert sounding.count("<button") == 3 and "data:audio/wav;base64,UklGR" in sounding
    with pytest.raises(ValueError, match="too much for a page"):
        learner_page(found, (np.zeros(round((LONGEST_EMBEDDED + 1) * RATE), np.float32), RATE))


def curve(**changes: Any) -> Calibration:
    made = Calibration(
        slope=0.5,
        doubt_weight=0.25,
        intercept=-1.0,
        doubts={"l": 0.5},
        usual_doubt=0.01,
        threshold=0.4,
        insertion_threshold=0.1,
        right_words=30,
        flagged_words=1,
        asked_otherwise=False,
        data="held_out.tsv",
        data_sha256="0" * 64,
        model_sha256="0" * 64,
        recordings=9,
        speakers=3,
        phones=120,
        wrong=40,
        auc=0.9,
        brier_before=0.2,
        brier=0.1,
    )
    return replace(made, **changes)


def test_a_calibration_changes_scores_and_is_named(phones: Transcriber, tmp_path: Path) -> None:
    samples = said(". h . ə . k . oʊ .*20 k . æ . t . s .")
    raw = assess(phones, samples, phones=HELLO_CATS)
    known = curve(model_sha256=head_sha256(phones))
    known.save(tmp_path / "curve.json")
    assert read_calibration(tmp_path / "curve.json") == known
    found = assess(phones, samples, phones=HELLO_CATS, calibration=known)
    for before, after in zip(raw.phones(), found.phones(), strict=True):
        odds = float(np.clip(np.log(before.score) - np.log1p(-before.score), -20, 20))
        doubt = np.log(0.5 if after.text == "l" else 0.01)
        assert after.score == pytest.approx(logistic(0.5 * odds + 0.25 * doubt - 1), abs=1e-6)
    assert faults(found) == ["l>k"]
    assert faults(assess(phones, samples, phones=HELLO_CATS, calibration=replace(known, threshold=1e-9))) == []
    told = "calibrated on held_out.tsv: 9 recordings of 3 speakers, 120 sounds of which 40 were said otherwise"
    assert told in azure_json(found) and told in learner_page(found) and "not calibrated" not in learner_page(found)
    assert faults(assess(phones, samples, phones=HELLO_CATS, calibration=known, threshold=1e-9)) == []
    halved = Transcriber(deepcopy(phones.model).bfloat16(), phones.processor)
    assert head_sha256(halved) == known.model_sha256  # whatever numbers it computes with
    with pytest.raises(ValueError, match="of another model"):
        assess(phones, samples, phones=HELLO_CATS, calibration=curve())
    (tmp_path / "curve.json").write_text("{}")
    with pytest.raises(ValueError, match=r"curve\.json: Calibration\.slope is missing"):
        read_calibration(tmp_path / "curve.json")


def test_the_curve_is_the_likeliest_one() -> None:
    """Planted: odds that are twice too sure, and off by one and by what a phone is doubted."""
    draw = np.random.default_rng(0)
    odds = draw.normal(1, 3, 20000).clip(-10, 10)
    doubts = draw.choice([0.01, 0.1, 0.4], 20000)
    for true in (0.6, -0.6):  # a phone that is often doubted never tells against the one who says it
        told = 0.5 * odds + max(true, 0) * np.log(doubts) - 1
        right = (draw.random(20000) < 1 / (1 + np.exp(-told if true > 0 else -(told + true * np.log(doubts))))).tolist()
        slope, weight, intercept = fitted(odds.tolist(), doubts.tolist(), right)
        assert weight == pytest.approx(max(true, 0), abs=0.05)
        if true > 0:
            assert slope == pytest.approx(0.5, abs=0.02) and intercept == pytest.approx(-1, abs=0.1)
    with pytest.raises(ValueError, match="no higher where phones were said as asked"):
        fitted((-odds).tolist(), [0.1] * 20000, right)
    with pytest.raises(ValueError, match="at least 10 of each kind"):
        fitted(odds[:30].tolist(), [0.1] * 30, [True] * 25 + [False] * 5)


def test_area_and_squares_are_what_they_are_called() -> None:
    draw = np.random.default_rng(1)
    scores, right = draw.integers(0, 6, 60).tolist(), (draw.random(60) < 0.6).tolist()
    good = [score for score, true in zip(scores, right, strict=True) if true]
    bad = [score for score, true in zip(scores, right, strict=True) if not true]
    pairs = [(one, other) for one in good for other in bad]
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    assert area_under_curve(scores, right) == pytest.approx(wins / len(pairs))
    assert brier_score([0.5, 1.0], [True, False]) == pytest.approx((0.25 + 1) / 2)


def planted_manifest(folder: Path) -> Path:
    """Sixteen recordings of "kæts", of which some say something else, by two speakers."""
    rows = ["path\tphones\tsaid\tspeaker"]
    paths = {"kæts": "k . æ . t . s", "læts": "l . æ . t . s", "kæt": "k . æ . t .", "kæks": "k . æ . k . s"}
    for number, told in enumerate([*paths] * 4):
        write_sound(folder / f"{number}.wav", f". {paths[told]} .", PHONES)
        rows.append(f"{number}.wav\tkæts\t{told}\t{number % 2}")
    (folder / "held_out.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "held_out.tsv"


@pytest.mark.slow
def test_a_manifest_makes_a_calibration(phones: Transcriber, tmp_path: Path) -> None:
    manifest = planted_manifest(tmp_path)
    made = calibrate(phones, manifest)
    assert (made.recordings, made.speakers, made.phones, made.wrong) == (16, 2, 64, 12)
    assert made.auc == 1.0 and made.data == "held_out.tsv" and made.slope > 0
    assert (made.right_words, made.flagged_words, made.asked_otherwise) == (4, 0, False)
    assert made.model_sha256 == head_sha256(phones) and made.brier <= 1
    manifest.write_text(manifest.read_text("utf-8").replace("kæts\tlæts", "kæts\t", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"1\.wav: nothing in the column `said`"):
        calibrate(phones, manifest)


@pytest.mark.slow
def test_right_speech_alone_makes_one(phones: Transcriber, tmp_path: Path) -> None:
    """Asked for otherwise in about one place of ten, which is what is found; nothing that was said well is marked."""
    planted_manifest(tmp_path)
    rows = ["path\tphones", *["0.wav\tkæts"] * 40]
    (tmp_path / "right.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    made = calibrate(phones, tmp_path / "right.tsv")
    assert made.asked_otherwise and (made.recordings, made.speakers) == (40, 0)
    assert 160 <= made.phones <= 176 and 10 <= made.wrong <= 26
    assert made.auc == 1.0 and (made.right_words, made.flagged_words) == (40, 0)
    assert "of which" in made.in_words() and "were asked for otherwise than said" in made.in_words()
    found = assess(phones, said(". l . æ . t . s ."), phones="kæts", calibration=made)
    assert faults(found) == ["k>l"]
    assert faults(assess(phones, said(". k . æ . t . s ."), phones="kæts", calibration=made)) == []


@pytest.mark.slow
def test_another_phone_that_does_not_fit_is_not_asked_for(phones: Transcriber, tmp_path: Path) -> None:
    """A clip with as many frames as phones has no room for one more: it counts as it was said, and ends nothing."""
    write_sound(tmp_path / "full.wav", "k æ t s", PHONES)
    (tmp_path / "right.tsv").write_text("\n".join(["path\tphones", *["full.wav\tkæts"] * 120]) + "\n", encoding="utf-8")
    made = calibrate(phones, tmp_path / "right.tsv")
    assert made.recordings == 120 and made.phones < 480 and made.wrong >= 10
