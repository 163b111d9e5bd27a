"""`data.speeds`: what settings are accepted, what the checks before a run say of copies, and what else is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from classification_runs import of_run
from training_audio import encoded
from validated_speech import changed, config_of, letters, manifest, section, sentences

from wav2vec2 import Wav2Vec2FeatureExtractor
from wav2vec2.sharing.model_card import CardFacts, training_section
from wav2vec2.training.checks.clips import clip_sources
from wav2vec2.training.checks.examination import examine
from wav2vec2.training.checks.report import Finding, ValidationReport
from wav2vec2.training.ctc_tokenizers import tokenizer_for
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.settings.recipes import RunConfigError, read_run
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun, TextSection, changes, write_run

# --- the checks before a run ---------------------------------------------------------------------------------------


def report_of(train: Path, valid: Path, speeds: list[float], **limits: float) -> ValidationReport:
    sources = clip_sources(TrainingData(section(train, valid, speeds=speeds, **limits), 1, with_text=True))
    return examine(*sources, letters(), Wav2Vec2FeatureExtractor(), config_of(letters()))


def findings_about(report: ValidationReport, *kinds: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind in kinds]


def test_copies_raise_no_alarm(tmp_path: Path) -> None:
    """Neither are they duplicates nor files that are listed twice, nor are they said too fast, or of another length
    than their files: the report is the one without copies."""
    train = manifest(tmp_path, "train", sentences(24, "a", 1))
    valid = manifest(tmp_path, "valid", sentences(6, "b", 2, "berta"))
    plain, copies = (report_of(train, valid, speeds) for speeds in ([], [0.5, 0.9, 1.1, 2.0]))
    assert copies.to_dict() == plain.to_dict() and not plain.problems


def test_a_text_that_is_too_long_for_a_copy_is_told_of_that_copy(tmp_path: Path) -> None:
    """1.5 s have 74 frames, at speed 1.5 they have 49, at 2 only 37: too few for 45 letters."""
    clips = sentences(24, "a", 1)
    clips = changed(clips, 3, text="ab" * 22 + "c", seconds=1.5)
    report = report_of(
        manifest(tmp_path, "train", clips), manifest(tmp_path, "valid", sentences(6, "b", 2)), [1.5, 2.0]
    )
    (finding,) = findings_about(report, "target_too_long")
    assert "targets of copies at speed 2 are longer than their audio has frames" in finding.message
    assert (finding.count, finding.total, finding.severity) == (1, 24, "problem")
    assert [(one.id, one.detail) for one in finding.examples] == [
        ("a03.wav at 2", "45 labels + 0 repeats, 37 frames of 0.75 s")
    ]
    assert finding.right == "a lower speed in data.speeds, which leaves a frame for each label"


def test_a_copy_that_is_too_short_or_too_long_is_told_of(tmp_path: Path) -> None:
    """As are clips; a text too long for a copy that is not used is nobody's fault."""
    clips = changed(changed(sentences(24, "a", 1), 3, text="ab" * 22 + "c", seconds=1.1), 5, seconds=7.2)
    train, valid = manifest(tmp_path, "train", clips), manifest(tmp_path, "valid", sentences(6, "b", 2))
    report = report_of(train, valid, [0.5, 2.0], min_seconds=0.6, max_seconds=8.0)
    told = {finding.message: [one.id for one in finding.examples] for finding in report.findings if finding.count}
    for speed, said, wrong in (
        (2.0, "shorter than 0.6 s (data.min_seconds)", lambda seconds: seconds / 2 < 0.6),
        (0.5, "longer than 8 s (data.max_seconds)", lambda seconds: seconds * 2 > 8),
    ):
        expected = [f"{one.name} at {speed:g}" for one in clips if wrong(one.seconds)]
        assert told[f"copies at speed {speed:g} are {said}: they are left out"] == expected[:5]
    assert not findings_about(report, "target_too_long")
    assert not any(message.startswith("clips are longer") for message in told)


def test_texts_are_counted_once_and_those_of_copies_alone_too(tmp_path: Path) -> None:
    """A vocabulary is of the recordings: `min_count` means what is said so often, not how often it is heard. The text
    of a clip that is too long, but not as a copy, is trained on, so it counts."""
    (tmp_path / "a.wav").write_bytes(encoded(0, 0.8))
    (tmp_path / "b.wav").write_bytes(encoded(1, 1.1))
    path = tmp_path / "manifest.tsv"
    path.write_text("path\tduration\ttranscript\na.wav\t0.8\tAABC\nb.wav\t1.1\tAAD\n", encoding="utf-8")
    text = TextSection(min_count=2)
    for speeds, known in (([], {"a"}), ([1.2], {"a"}), ([1.05], {"a"})):
        source, _ = clip_sources(TrainingData(section(path, speeds=speeds, max_seconds=1.0), 1, with_text=True))
        assert set(tokenizer_for(source, text)[0].tokens) - {"<pad>", "<unk>", "|", "<s>", "</s>"} == known
    for speeds, letters_of in (([], "abc"), ([1.2], "abcd"), ([1.05], "abc")):
        source, _ = clip_sources(TrainingData(section(path, speeds=speeds, max_seconds=1.0), 1, with_text=True))
        assert set(letters_of) == {token for token in tokenizer_for(source, TextSection())[0].tokens if token.isalpha()}


# --- settings ------------------------------------------------------------------------------------------------------

ENOUGH = ["model.preset=tiny", "data.train=[{path: a.tsv}]", "run.output=out"]


def problems(*overrides: str, kind: Any = FinetuneRun) -> list[str]:
    with pytest.raises(RunConfigError) as caught:
        read_run(kind, None, [*ENOUGH, *overrides])
    return caught.value.problems


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        ("[0]", "must be at least 0.5 and at most 2"),
        ("[-1.1]", "must be at least 0.5 and at most 2"),
        ("[0.9, 0.49]", "must be at least 0.5 and at most 2"),
        ("[2.01]", "must be at least 0.5 and at most 2"),
        ("[0.9, 1]", "1 is the clip itself, which is trained on anyway: name other speeds alone, as [0.9, 1.1]"),
        ("[0.9, 1.1, 0.9]", "0.9 stands there more than once: name each speed once"),
        ("1.1", "must be a list, in square brackets"),
        ("['1.1']", "must be a number"),
        ("null", "must be a list, in square brackets"),
    ],
)
def test_what_is_no_speed_is_refused(speeds: str, said: str) -> None:
    (problem,) = problems(f"data.speeds={speeds}")
    assert problem.startswith("data.speeds") and said in problem


def test_speeds_of_a_run() -> None:
    assert read_run(FinetuneRun, None, ENOUGH).data.speeds == []
    assert read_run(FinetuneRun, None, [*ENOUGH, "data.speeds=[0.5, 0.9, 1.1, 2]"]).data.speeds == [0.5, 0.9, 1.1, 2.0]
    (problem,) = problems("data.speeds=[0.9]", kind=PretrainRun)
    assert problem.startswith("data.speeds") and "is not known" in problem
    nothing = problems("data.train=[]", "data.speeds=[1]")
    assert len(nothing) == 2  # what holds for all data holds here


def test_voices_are_not_learnt_at_other_speeds(tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match="a voice at another speed is another voice"):
        of_run("speakers", tmp_path, tmp_path, tmp_path, 2, "data.speeds=[0.9]")
    assert of_run("frames", tmp_path, tmp_path, tmp_path, 2, "data.speeds=[0.9]").data.speeds == [0.9]


def test_a_change_at_resume_is_told(tmp_path: Path) -> None:
    """As that of other lists; a run that began before there was such a setting has not changed."""

    def run(speeds: str) -> FinetuneRun:
        return read_run(FinetuneRun, None, [*ENOUGH, f"run.output={tmp_path}", f"data.speeds={speeds}"])

    write_run(run("[0.9, 1.1]"), tmp_path)
    assert changes(run("[0.9, 1.1]"), tmp_path) == []
    assert changes(run("[0.9, 1.2]"), tmp_path) == ["changed since the run began: data.speeds.1 was 1.1, is 1.2"]
    assert changes(run("[0.9]"), tmp_path) == ["changed since the run began: data.speeds.1 was 1.1, is None"]
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    del record["data"]["speeds"]
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert changes(run("[]"), tmp_path) == []
    assert changes(run("[0.9]"), tmp_path) == ["changed since the run began: data.speeds.0 was None, is 0.9"]


def test_the_card_says_that_copies_are_counted() -> None:
    facts = CardFacts(license="mit")
    assert "| copies at other speeds among these | [0.9, 1.1] |" in training_section({"speeds": [0.9, 1.1]}, facts)
    assert "copies" not in training_section({"hours": 1.0}, facts)
