"""Validation of data before training: every planted fault is named, alone and together; clean data raise no alarm."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from validated_speech import changed, config_of, kinds, letters, manifest, report_of, section, sentences

from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.checks.clips import ClipSource, clip_sources
from wav2vec2.training.checks.examination import examine
from wav2vec2.training.checks.report import DataProblemsError
from wav2vec2.training.checks.texts import spell, text_findings
from wav2vec2.training.data.audio_clips import Clip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.clip_tables import ClipList

pytestmark = pytest.mark.slow


def clean(folder: Path) -> tuple[Path, Path]:
    """Manifests of clean data."""
    return manifest(folder, "train", sentences(24, "t", 1)), manifest(folder, "valid", sentences(6, "v", 2, "bert"))


def test_clean_data_raise_no_alarm(tmp_path: Path) -> None:
    report = report_of(*clean(tmp_path))
    assert report.findings == []
    assert report.checked["train"]["headers"] == 24
    assert report.checked["valid"]["usable"] == 6


def test_upper_case_text_on_a_lower_case_vocabulary(tmp_path: Path) -> None:
    _, valid = clean(tmp_path)
    loud = [replace(one, text=one.text.upper()) for one in sentences(24, "t", 1)]
    report = report_of(manifest(tmp_path, "train", loud), valid)
    (finding,) = report.problems[:1]
    assert (finding.kind, finding.where, finding.count, finding.total) == ("wrong_case", "train", 24, 24)
    assert "the vocabulary is lower case" in finding.message and finding.right == "text.case=lower"
    counts = Counter("".join(one.text for one in loud).replace(" ", ""))
    for letter, count in counts.most_common(20):
        assert f"{letter!r} (U+{ord(letter):04X}) x{count}" in finding.message
    assert kinds(report) == [("wrong_case", "train")]  # the texts of valid are lower case


def test_lower_case_text_on_an_upper_case_vocabulary(tmp_path: Path) -> None:
    report = report_of(*clean(tmp_path), tokenizer=letters("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    assert ("wrong_case", "train") in kinds(report)
    assert report.problems[0].right == "text.case=upper"


def test_a_wrong_blank_is_named(tmp_path: Path) -> None:
    tokenizer = letters()
    report = report_of(*clean(tmp_path), config=config_of(tokenizer, pad_token_id=5))
    assert kinds(report) == [("wrong_blank", "model")]
    assert "which in the vocabulary stands for 'c'" in report.problems[0].message
    assert report.problems[0].right == "model.config.pad_token_id=0"


def test_another_number_of_logits_is_named(tmp_path: Path) -> None:
    report = report_of(*clean(tmp_path), config=config_of(letters(), vocab_size=32))
    assert kinds(report) == [("wrong_vocab_size", "model")]


def test_a_head_for_tokens_in_another_order_is_named(tmp_path: Path) -> None:
    saved = letters("bacdefghijklmnopqrstuvwxyz").tokens
    report = report_of(*clean(tmp_path), saved_tokens=saved)
    assert kinds(report) == [("other_tokens_than_head", "model")]
    assert "in another order: 3: 'b' -> 'a', 4: 'a' -> 'b'" in report.problems[0].message
    assert kinds(report_of(*clean(tmp_path), saved_tokens=letters().tokens)) == []


def test_a_duplicated_test_clip_is_named_whatever_its_name_and_coding(tmp_path: Path) -> None:
    train, _ = clean(tmp_path)
    one, other, third, *_ = sentences(24, "t", 1)
    held_out = sentences(6, "v", 2, "bert")
    named = manifest(
        tmp_path, "valid", [*held_out, one, replace(other, name="copy.wav"), replace(third, name="new.flac")]
    )
    report = report_of(train, named)
    assert kinds(report) == [("duplicate", "valid")]
    assert [(example.id, example.detail) for example in report.problems[0].examples] == [
        ("t00.wav", "the same file as t00.wav in train"),
        ("copy.wav", "the same bytes as t01.wav in train"),
        ("new.flac", "the same sound as t02.wav in train"),
    ]


def test_files_of_one_size_and_text_are_no_duplicates(tmp_path: Path) -> None:
    """Voices of one pitch, length and text, whose syllables and phases differ."""
    ours = [replace(one, text="once upon a time", seconds=1.2) for one in sentences(10, "t", 1)]
    theirs = [replace(one, text="once upon a time", seconds=1.2) for one in sentences(5, "v", 2)]
    report = report_of(manifest(tmp_path, "train", ours), manifest(tmp_path, "valid", theirs))
    assert kinds(report) == []
    assert ("shared_transcript", "valid") in kinds(report, "note")


def test_a_user_is_told_everything_in_one_message_before_the_first_update(tmp_path: Path) -> None:
    """Upper case, wrong blank, 44.1 kHz stereo labelled 16 kHz, a target too long, a duplicated test clip."""
    ours = [replace(one, text=one.text.upper()) for one in sentences(24, "t", 1)]
    ours = changed(ours, 3, true_rate=44100, channels=2, labelled=16000)
    ours = changed(ours, 7, text="ONCE UPON A TIME THERE WAS A FOX " * 6)
    theirs = [*sentences(6, "v", 2, "bert"), replace(ours[0], name="again.wav")]
    sources = clip_sources(
        TrainingData(section(manifest(tmp_path, "train", ours), manifest(tmp_path, "valid", theirs)), 1, with_text=True)
    )
    tokenizer = letters()
    report = examine(*sources, tokenizer, Wav2Vec2FeatureExtractor(), config_of(tokenizer, pad_token_id=5))
    assert {finding.kind for finding in report.problems} == {
        "wrong_case",
        "wrong_blank",
        "wrong_rate",
        "target_too_long",
        "duplicate",
    }
    message = str(DataProblemsError(report))
    for said in (
        "24 of 24 (100.0 %) transcripts have characters that are not in the vocabulary",
        "pad_token_id is 5",
        "1 44.1 kHz stereo labelled 16 kHz",
        "t03.wav",
        "1 of 24 (4.2 %) targets are longer than their audio has frames",
        "t07.wav",
        "again.wav: '" + ours[0].text,
        "the same bytes as t00.wav in train",
        "resampled to 16 kHz and mixed down to one channel when they are loaded: 1 at 44.1 kHz stereo",
    ):
        assert said in message, message


def test_a_report_is_saved_without_the_paths_of_a_machine(tmp_path: Path) -> None:
    """Absolute paths in a manifest lose their folders."""
    ours = changed(sentences(24, "t", 1), 3, labelled=44100)
    train = manifest(tmp_path, "train", ours)
    text = train.read_text(encoding="utf-8").replace("\nt", f"\n{tmp_path}/t")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train.tsv").write_text(text, encoding="utf-8")
    report = report_of(tmp_path / "elsewhere" / "train.tsv")
    saved = report.save(tmp_path / "out").read_text(encoding="utf-8")
    assert str(tmp_path) not in saved and str(tmp_path) not in str(report)
    read = json.loads(saved)
    assert read["ok"] is False
    (finding,) = [one for one in read["findings"] if one["severity"] == "problem"]
    assert (finding["kind"], finding["count"], finding["total"]) == ("wrong_rate", 1, 24)
    assert finding["examples"][0]["id"] == "t03.wav"


def test_few_bad_clips_are_a_warning_and_many_a_problem(tmp_path: Path) -> None:
    ours = changed(sentences(24, "t", 1), 7, text="once upon a time there was a fox " * 6)
    train = manifest(tmp_path, "train", ours)
    assert kinds(report_of(train, max_bad_share=0.01)) == [("target_too_long", "train")]
    assert kinds(report_of(train, max_bad_share=0.05)) == []
    assert ("target_too_long", "train") in kinds(report_of(train, max_bad_share=0.05), "warning")


def test_a_wrong_choice_for_unknown_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_unknown='ignore': must be 'error', 'skip' or 'unknown'"):
        report_of(*clean(tmp_path), on_unknown="ignore")


@pytest.mark.slow
def test_a_hundred_thousand_lines_take_seconds() -> None:
    """Texts, lengths, duplicates by text: all but the headers, which are a sample."""
    generator = np.random.default_rng(0)
    words = np.array(["".join(generator.choice(list("abcdefgh"), 5)) for _ in range(500)])
    texts = [" ".join(words[generator.integers(0, 500, 12)]) for _ in range(100_000)]
    clips = [Clip(f"clip{number}", b"", 5.0, transcript=text) for number, text in enumerate(texts)]
    source, tokenizer = ClipSource("train", [ClipList(clips)]), letters()
    began = time.perf_counter()
    spelled = spell(source, tokenizer)
    found: list[Any] = list(text_findings(source, spelled, tokenizer, on_unknown="error", max_bad_share=0.01))
    seconds = time.perf_counter() - began
    assert found == []
    assert spelled.labels.sum() == sum(map(len, texts))
    assert seconds < 20
