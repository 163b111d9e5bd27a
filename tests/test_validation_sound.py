"""Audio against manifests: rates, channels, lengths, voices that are too slow; no alarm on real speech."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from ffmpeg_programs import ANY_PROGRAM, folder_of
from shared_data import SHARED_DATA, needs_shared_data, shared_table
from validated_speech import RATE, changed, kinds, manifest, report_of, section, sentences, voice

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.vocabulary import build_vocabulary
from wav2vec2.processing.waveforms import resample
from wav2vec2.training.checks.clips import clip_sources
from wav2vec2.training.checks.headers import chosen
from wav2vec2.training.checks.sound import likeness, measure
from wav2vec2.training.data.batch_loading import TrainingData

pytestmark = pytest.mark.slow

COLUMNS = ("duration", "sample_rate", "speaker", "transcript")
needs_speech = needs_shared_data("librispeech_train", "fsdd")


@pytest.mark.parametrize("pitch", [45.0, 90.0, 120.0, 210.0, 320.0])
def test_the_pitch_of_a_voice_is_found(pitch: float) -> None:
    sound = measure(voice(1, 2.0, pitch).astype(np.float32))
    assert sound.pitch == pytest.approx(pitch, rel=0.06)
    assert sound.reach <= 24 * pitch


def test_noise_and_silence_have_no_pitch() -> None:
    assert np.isnan(measure(np.zeros(RATE, np.float32)).pitch)
    assert np.isnan(measure(np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)).pitch)


def test_likeness_is_the_largest_correlation_over_all_shifts() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=60).astype(np.float32), generator.normal(size=47).astype(np.float32)
    first, second = one - one.mean(), other - other.mean()
    every = np.correlate(first, second, mode="full") / np.linalg.norm(first) / np.linalg.norm(second)
    assert likeness(one, other) == pytest.approx(np.abs(every).max(), rel=1e-5)


def test_a_manifest_that_says_another_rate_is_named(tmp_path: Path) -> None:
    ours = changed(sentences(24, "t"), 3, true_rate=44100, labelled=16000)
    report = report_of(manifest(tmp_path, "train", ours))
    assert kinds(report) == [("wrong_rate", "train")]
    assert "1 44.1 kHz mono labelled 16 kHz" in report.problems[0].message
    assert report.problems[0].examples[0].detail == "manifest 16000 Hz, file 44100 Hz"


@pytest.mark.slow
def test_lengths_counted_at_a_wrong_rate_are_named(tmp_path: Path) -> None:
    """Seconds = samples / 16000 of 44.1 kHz files."""
    ours = [
        replace(one, true_rate=44100, labelled=44100, said_seconds=one.seconds * 44100 / 16000)
        for one in sentences(24, "t")
    ]
    report = report_of(manifest(tmp_path, "train", ours))
    (finding,) = [one for one in report.problems if one.kind == "wrong_duration"]
    assert finding.count == 24 and "2.76 times" in finding.message


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_header_that_lies_is_heard(tmp_path: Path, share: float) -> None:
    """44.1 kHz samples in files that say 16 kHz, as some of the data or as all of it."""
    ours = sentences(24, "t")
    ours = [replace(one, true_rate=44100, header=16000) if n < share * 24 else one for n, one in enumerate(ours)]
    report = report_of(manifest(tmp_path, "train", ours))
    (finding,) = report.problems
    assert finding.kind == "slowed_audio" and "44.1 or 48 kHz labelled 16 kHz" in finding.message
    assert {example.id for example in finding.examples} <= {one.name for one in ours if one.header}


def test_slow_speech_of_a_usual_voice_is_no_fault(tmp_path: Path) -> None:
    ours = [replace(one, seconds=one.seconds * 2.76) for one in sentences(24, "t")]
    assert kinds(report_of(manifest(tmp_path, "train", ours))) == []


def test_honest_stereo_at_another_rate_is_for_information(tmp_path: Path) -> None:
    ours = [replace(one, true_rate=44100, channels=2) for one in sentences(21, "t")]
    ours += [replace(one, channels=2) for one in sentences(3, "u", 5)]
    report = report_of(manifest(tmp_path, "train", ours))
    assert report.problems == report.of("warning") == []
    notes = {finding.kind: finding.message for finding in report.of("note")}
    assert notes["resampled"].endswith("mixed down to one channel when they are loaded: 21 at 44.1 kHz stereo")
    assert notes["mixed_down"].endswith("mixed down to one channel when they are loaded: 3 at 16 kHz stereo")


@pytest.mark.parametrize("program", ANY_PROGRAM)
def test_missing_broken_silent_and_clipped_files_are_named(
    program: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", folder_of(program, tmp_path / "programs"))
    train = manifest(tmp_path, "train", sentences(12, "t"))
    (tmp_path / "t01.wav").unlink()
    (tmp_path / "t02.wav").write_bytes(b"no audio at all")
    for name, factor in (("t03.wav", 0.0), ("t04.wav", 40.0)):
        samples, rate = soundfile.read(tmp_path / name)
        soundfile.write(tmp_path / name, np.clip(samples * factor, -1, 1), rate)
    report = report_of(train)
    named = {finding.kind: [example.id for example in finding.examples] for finding in report.findings}
    assert named["unreadable"] == ["t01.wav", "t02.wav"] and ("unreadable", "train") in kinds(report)
    assert named["silent"] == ["t03.wav"] and named["clipped"] == ["t04.wav"]
    assert str(tmp_path) not in str(report)


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    train = manifest(tmp_path, "train", sentences(30, "t"))
    source, _ = clip_sources(TrainingData(section(train), 1, with_text=True))
    one = chosen(source, 10, 1, "headers")
    assert one == chosen(source, 10, 1, "headers") and len(set(one)) == 10
    assert one != chosen(source, 10, 2, "headers")
    assert chosen(source, 30, 1, "headers") == list(range(30))


def speech(folder: Path, corpus: str) -> tuple[Path, Path, Wav2Vec2CTCTokenizer]:
    """Manifests of real speech, every eighth clip held out, and a tokenizer made from its text."""
    rows = shared_table(f"{corpus}/manifest.tsv")
    paths = []
    for name, some in (("train", [row for n, row in enumerate(rows) if n % 8]), ("valid", rows[::8])):
        lines = ["path\tduration\tsample_rate\tspeaker\ttranscript"]
        for row in some:
            place = SHARED_DATA / corpus / row["path"]
            lines.append(f"{place}\t" + "\t".join(row[key] for key in COLUMNS))
        paths.append(folder / f"{name}.tsv")
        paths[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    vocabulary = build_vocabulary(row["transcript"] for row in rows)
    return paths[0], paths[1], Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary)


@pytest.mark.slow
@needs_speech
@pytest.mark.parametrize("corpus", ["librispeech_train", "fsdd"])
def test_real_speech_raises_no_alarm(tmp_path: Path, corpus: str) -> None:
    """FSDD has nothing above 4 kHz, and one clip that is 2.3 s long for one word of four letters."""
    train, valid, tokenizer = speech(tmp_path, corpus)
    report = report_of(train, valid, tokenizer)
    assert report.problems == []
    odd = [example.id for finding in report.of("warning") for example in finding.examples]
    assert odd == ([] if corpus == "librispeech_train" else ["9_theo_16.flac"])


@pytest.mark.slow
@needs_speech
@pytest.mark.parametrize("corpus", ["librispeech_train", "fsdd"])
def test_real_speech_at_a_wrong_rate_is_heard(tmp_path: Path, corpus: str) -> None:
    train, _, tokenizer = speech(tmp_path, corpus)
    lines = train.read_text(encoding="utf-8").splitlines()
    slowed = [lines[0]]
    for number, line in enumerate(lines[1:25]):
        place, _, _, speaker, text = line.split("\t")
        samples = resample(load_audio(place), 16000, 44100)
        soundfile.write(tmp_path / f"{number}.flac", samples, 16000)
        slowed.append(f"{number}.flac\t\t16000\t{speaker}\t{text}")
    train.write_text("\n".join(slowed) + "\n", encoding="utf-8")
    assert ("slowed_audio", "train") in kinds(report_of(train, None, tokenizer))
