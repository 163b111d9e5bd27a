"""Transcripts against vocabulary and length: counts against brute force, feasibility against torch's CTC loss."""

import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_audio import encoded, write_parquet
from validated_speech import LETTERS, changed, config_of, kinds, letters, manifest, report_of, section, sentences

from wav2vec2.modeling import Wav2Vec2ForCTC
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.training.checks.clips import ClipSource, clip_sources
from wav2vec2.training.checks.examination import examine
from wav2vec2.training.checks.lengths import frames_of, length_findings
from wav2vec2.training.checks.report import Finding
from wav2vec2.training.checks.texts import spell, text_findings
from wav2vec2.training.data.audio_clips import Clip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.clip_tables import ClipList
from wav2vec2.training.settings.run_config import FinetuneDataSection, Source


def source_of(texts: list[str | None], seconds: float = 3.0) -> ClipSource:
    """Clips with these texts, without audio."""
    clips = [Clip(f"clip{n}", b"", seconds, transcript=text) for n, text in enumerate(texts)]
    return ClipSource("train", [ClipList(clips)])


def found_in(
    texts: list[str | None], tokens: str = LETTERS, on_unknown: str = "error", **settings: object
) -> list[Finding]:
    """The findings about texts alone."""
    tokenizer, source = letters(tokens, **settings), source_of(texts)
    spelled = spell(source, tokenizer)
    return list(text_findings(source, spelled, tokenizer, on_unknown=on_unknown, max_bad_share=0.01))


def test_unknown_characters_are_counted_one_by_one() -> None:
    generator = np.random.default_rng(1)
    texts = ["".join(generator.choice(list("abcdef éßж+"), 12)) for _ in range(200)]
    (finding,) = found_in([*texts], "abcdef")
    strange = Counter(c for text in texts for c in text if c in "éßж+")
    assert finding.count == sum(any(c in "éßж+" for c in text) for text in texts)
    for character, count in strange.items():
        assert f"{character!r} (U+{ord(character):04X}) x{count}" in finding.message
    assert set("".join(example.detail for example in finding.examples)) >= set("éßж+")
    for example in finding.examples:
        assert set(example.detail.removeprefix("has ")) - set("' ") <= set(texts[int(example.id.removeprefix("clip"))])
    assert finding.severity == "problem" and finding.kind == "unknown_characters"


@pytest.mark.parametrize(("choice", "said"), [("skip", "are left out"), ("unknown", "become the token for unknown")])
def test_unknown_characters_may_be_expected(choice: str, said: str) -> None:
    (finding,) = found_in(["caf\u00e9"], on_unknown=choice)
    assert finding.severity == "warning" and said in finding.message


@pytest.mark.parametrize(
    ("text", "tokens", "right"),
    [
        (unicodedata.normalize("NFD", "café où"), LETTERS + "éù", "text.unicode_form=NFC"),
        (unicodedata.normalize("NFC", "café où"), LETTERS + "\u0301\u0300", "text.unicode_form=NFD"),
        ("CAFE", LETTERS, "text.case=lower"),
        ("cafe", LETTERS.upper(), "text.case=upper"),
        ("room 42", LETTERS, "numbers spelled out as they are said"),
        ("well, yes", LETTERS, "text.punctuation=remove"),
        ("жук", LETTERS, "a vocabulary with these characters (text.vocabulary=null builds one), or texts without them"),
    ],
)
def test_the_cause_of_unknown_characters_is_named(text: str, tokens: str, right: str) -> None:
    (finding,) = found_in([text], tokens)
    assert finding.right == right


def test_several_causes_are_named_together() -> None:
    (finding,) = found_in(["ROOM 42, please"])
    assert finding.right == "text.case=lower; numbers spelled out as they are said; text.punctuation=remove"


def test_the_remedy_that_is_named_works() -> None:
    for text, settings in (
        (unicodedata.normalize("NFD", "café"), TextNormalization(unicode_form="NFC")),
        ("CAFÉ", TextNormalization(case="lower")),
        ("café!", TextNormalization(punctuation="remove", spaces="single")),
    ):
        assert len(found_in([text], LETTERS + "é")) == 1
        assert found_in([text], LETTERS + "é", normalization=settings) == []


def test_the_tokenizer_is_left_as_it_is() -> None:
    tokenizer = letters()
    spell(source_of(["AB", "c"]), tokenizer)
    assert not tokenizer.unknown_counts and not tokenizer._said


def test_missing_empty_and_refused_texts() -> None:
    plain: list[str | None] = ["some text"] * 3
    settings = TextNormalization(punctuation="remove", digits="refuse", spaces="single")
    findings = found_in([*plain, None, "", " ", "?!", "room 5"], normalization=settings)
    by_kind = {finding.kind: [example.id for example in finding.examples] for finding in findings}
    assert by_kind == {
        "missing_transcript": ["clip3", "clip4"],
        "empty_target": ["clip5", "clip6"],
        "refused_text": ["clip7"],
    }
    assert {finding.severity for finding in findings} == {"problem"}


def test_special_tokens_in_texts() -> None:
    findings = found_in(["a <unk> b", "c|d", "e"])
    assert [(finding.kind, finding.examples[0].id) for finding in findings] == [
        ("special_token_in_text", "clip0"),
        ("special_token_in_text", "clip1"),
    ]
    (blank,) = found_in(["a<pad>b"])
    assert blank.severity == "problem" and "the CTC blank" in blank.message


def test_a_letter_as_the_blank_is_named(tmp_path: Path) -> None:
    """Id 0 is a letter: stock drops it from all targets without a word."""
    tokenizer = letters(pad_token="a")
    report = report_of(manifest(tmp_path, "train", sentences(20, "t")), tokenizer=tokenizer)
    assert ("blank_is_a_letter", "model") in kinds(report) and ("unknown_characters", "train") in kinds(report)


def test_targets_that_are_too_long_are_those_torch_cannot_align() -> None:
    """Random labels with repeats, of clips about as long as they need."""
    generator = np.random.default_rng(0)
    tokenizer, config = letters("ab"), config_of(letters("ab"))
    texts = ["".join(generator.choice(list("ab"), generator.integers(5, 15))) for _ in range(150)]
    lengths = generator.integers(5, 25, len(texts))
    clips = [
        Clip(str(n), b"", (400 + 320 * (int(frames) - 1)) / 16000, transcript=text)
        for n, (text, frames) in enumerate(zip(texts, lengths, strict=True))
    ]
    source = ClipSource("train", [ClipList(clips)])
    spelled = spell(source, tokenizer)
    assert frames_of(source.seconds, config).tolist() == lengths.tolist()
    impossible = {
        str(n)
        for n, text in enumerate(texts)
        if not torch.nn.functional.ctc_loss(
            torch.zeros(int(lengths[n]), 1, 5).log_softmax(-1),
            torch.tensor([tokenizer(text).input_ids]),
            torch.tensor([int(lengths[n])]),
            torch.tensor([len(text)]),
        ).isfinite()
    }
    found = [one for one in length_findings(source, spelled, config, 1.0) if one.kind == "target_too_long"]
    assert 20 < len(impossible) < 130
    assert found[0].count == len(impossible) and {one.id for one in found[0].examples} <= impossible


def test_unknown_characters_do_not_make_targets_too_long() -> None:
    """As tokens for unknown ones they would all be equal, and need twice the frames."""
    tokenizer, config = letters(), config_of(letters())
    for text, spelling in (("ABAB" * 10, (40, 0)), ("AABB" * 10, (40, 20))):
        source = source_of([text], seconds=1.0)  # 49 frames
        spelled = spell(source, tokenizer)
        assert (spelled.labels[0], spelled.repeats[0]) == spelling
        kinds_found = {finding.kind for finding in length_findings(source, spelled, config, 1.0)}
        assert ("target_too_long" in kinds_found) is (sum(spelling) > 49)


def test_frames_are_those_of_the_model() -> None:
    for changes in ({}, {"add_adapter": True, "num_adapter_layers": 2}):
        config = config_of(letters(), num_hidden_layers=1, hidden_size=32, num_attention_heads=2, **changes)
        model = Wav2Vec2ForCTC(config)
        seconds = np.array([0.02, 0.025, 0.5, 3.217, np.nan])
        samples = torch.tensor([round(s * 16000) for s in seconds[:4]])
        assert frames_of(seconds, config).tolist() == [*model._get_feat_extract_output_lengths(samples).tolist(), -1]


def test_a_clip_with_the_text_of_another_is_odd(tmp_path: Path) -> None:
    """Far more characters a second than the others, and far fewer."""
    ours = changed(sentences(40, "t"), 5, text="once upon a time there was a fox who jumped over dogs", seconds=1.4)
    ours = changed(ours, 9, text="a", seconds=4.0)
    report = report_of(manifest(tmp_path, "train", ours))
    (odd,) = [finding for finding in report.of("warning") if finding.kind == "odd_speed"]
    assert sorted(example.id for example in odd.examples) == ["t05.wav", "t09.wav"]


def test_lengths_in_minutes_are_too_fast_for_anyone(tmp_path: Path) -> None:
    ours = [replace(one, said_seconds=one.seconds / 6) for one in sentences(24, "t")]
    report = report_of(manifest(tmp_path, "train", ours))
    assert {"too_fast", "wrong_duration"} <= {finding.kind for finding in report.problems}


def test_unused_tokens_and_odd_durations_are_told(tmp_path: Path) -> None:
    ours = changed(sentences(24, "t"), 2, text="sea " * 90, seconds=26.0)
    report = report_of(manifest(tmp_path, "train", ours), tokenizer=letters(LETTERS + "äö"))
    assert ("odd_duration", "train") in kinds(report, "warning")
    (unused,) = [finding for finding in report.of("note") if finding.kind == "unused_tokens"]
    assert unused.message == "2 of 28 tokens of the vocabulary occur in no transcript: ä ö"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_with_embedded_audio_is_checked(tmp_path: Path, streaming: bool) -> None:
    pytest.importorskip("datasets")
    rows: list[dict[str, object]] = [
        {
            "audio": {"bytes": encoded(n, 1.0, rate=44100, channels=2), "path": f"{n}.wav"},
            "text": "HELLO" if n == 3 else f"hello {LETTERS[n]}",
        }
        for n in range(6)
    ]
    for name, some in (("train", rows), ("valid", rows[4:5])):
        write_parquet(tmp_path / f"{name}.parquet", some)
    data = FinetuneDataSection(
        train=[Source(str(tmp_path / "train.parquet"), streaming=streaming)],
        valid=[Source(str(tmp_path / "valid.parquet"))],
        cache=str(tmp_path / "cache"),
    )
    sources = clip_sources(TrainingData(data, 1, with_text=True))
    report = examine(*sources, letters(), Wav2Vec2FeatureExtractor(), config_of(letters()))
    assert len(sources[0]) == 6
    wrong = next(finding for finding in report.problems if finding.kind == "wrong_case")
    assert wrong.examples[0].id == "row 3 (3.wav)" and wrong.count == 1  # as training calls it
    assert ("resampled", "train") in kinds(report, "note")
    assert (("duplicate", "valid") in kinds(report)) is not streaming  # of a stream, nobody knows what is to come
    assert (("stream", "train") in kinds(report, "note")) is streaming


def test_sources_of_several_manifests_are_numbered_through(tmp_path: Path) -> None:
    one = manifest(tmp_path / "a", "train", sentences(4, "t", 1))
    two = manifest(tmp_path / "b", "other", changed(sentences(3, "u", 2), 1, labelled=8000))
    data = replace(section(one), train=[Source(str(one)), Source(str(two))])
    train, valid = clip_sources(TrainingData(data, 1, with_text=True))
    assert valid is None
    assert list(map(train.id, range(3, 6))) == ["train.tsv/t03.wav", "other.tsv/u00.wav", "other.tsv/u01.wav"]
    assert train.rates[5] == 8000 and train.audio(5) == tmp_path / "b" / "u01.wav"
