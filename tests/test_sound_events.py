"""Sound events are what a slow version makes of the frames of one pass; windows and batches leave no trace."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from recognition_checkpoints import RATE, noise, save_checkpoint, write_noise
from slow_event_path import by_expanded_states
from sound_models import LABELS, hearing_model, save_hearing_model
from typer.testing import CliRunner

from wav2vec2 import Wav2Vec2FeatureExtractor
from wav2vec2.command_line.app import app
from wav2vec2.inference.event_captions import SoundEvent
from wav2vec2.inference.sound_events import EventRules, SoundEventDetector

#: Every stretch is an event, however short.
ALL = EventRules(switching_cost=1.0, minimum=0.06, threshold=0.0, shortest={})


def local_model() -> Any:
    """Without Transformer layers: what a frame depends on, 16 frames of positional convolution, fits in a context."""
    model = hearing_model()
    model.wav2vec2.encoder.layers = torch.nn.ModuleList()
    return model


def detector(rules: EventRules = ALL, **windows: float) -> SoundEventDetector:
    return SoundEventDetector(local_model(), Wav2Vec2FeatureExtractor(), rules, **windows)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hearing_model(tmp_path_factory.mktemp("sounds"))


def test_events_are_those_of_one_pass_of_stock_and_a_slow_viterbi(checkpoint: Path) -> None:
    """Frames of stock Transformers; a frame hands over to the next halfway between their middles, 40 samples in."""
    samples = noise(9.0)
    stock = transformers.Wav2Vec2ForAudioFrameClassification.from_pretrained(checkpoint).eval()
    inputs = transformers.Wav2Vec2FeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        log_probs = stock(inputs.input_values).logits[0].double().log_softmax(-1).numpy()
    runs = [run for run in by_expanded_states(log_probs, [3] * len(LABELS), 1.0) if run[0]]
    found, seconds = SoundEventDetector.from_pretrained(checkpoint, "cpu", ALL).detect((samples, RATE))
    assert seconds == 9.0 and len(found) == len(runs) > 15
    for event, (label, start, end) in zip(found, runs, strict=True):
        assert event.label == LABELS[label]
        assert event.start == pytest.approx(start * 0.02 + 0.0025 if start else 0.0)
        assert event.end == pytest.approx(end * 0.02 + 0.0025 if end < len(log_probs) else 9.0)
        assert event.confidence == pytest.approx(np.exp(log_probs[start:end, label]).mean(), abs=1e-4)


@pytest.mark.parametrize("windows", [(4.0, 1.0, 60.0), (3.0, 0.7, 4.0), (2.22, 0.34, 3.0)])
def test_windows_and_batches_leave_no_trace(windows: tuple[float, float, float]) -> None:
    whole, _ = detector().detect((noise(14.0), RATE))
    heard = SoundEventDetector(local_model(), Wav2Vec2FeatureExtractor(), ALL, *windows)
    cut, _ = heard.detect((noise(14.0), RATE))
    assert len(whole) > 20
    for one, other in zip(whole, cut, strict=True):
        assert (one.label, one.start, one.end) == (other.label, other.start, other.end)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    peaks, counts = [], []
    for seconds in (40.0, 100.0):
        path = write_noise(tmp_path / f"{seconds}.wav", seconds)
        heard = detector(window_seconds=4.0, context_seconds=1.0, batch_seconds=4.0)
        heard.detect((noise(2.0), RATE))
        tracemalloc.start()
        found, _ = heard.detect(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        counts.append(len(found))
    more = counts[1] - counts[0]
    assert more > 100
    assert peaks[1] - peaks[0] < 1000 * more < 60 * RATE * 4 / 3  # the events; the samples alone would be 3.8 MB


def test_rules_leave_out_what_is_short_unlikely_or_unnamed() -> None:
    every, _ = detector().detect((noise(20.0), RATE))
    rules = EventRules(1.0, 0.06, 0.5, {"music": 0.08}, {"applause": "Applaus", "silence": ""})
    found, _ = detector(rules).detect((noise(20.0), RATE))
    texts = {"applause": "[Applaus]", "music": "[music]", "silence": "", "speech": ""}
    wanted = [
        SoundEvent(one.label, one.start, one.end, one.confidence, texts[one.label])
        for one in every
        if one.confidence >= 0.5 and (one.label != "music" or one.end - one.start >= 0.08)
    ]
    assert 0 < len(wanted) < len(every) and {one.label for one in wanted} == set(texts)
    assert found == wanted


def test_what_cannot_be_used_says_why(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dog: no label of the model, which has none, applause, music"):
        detector(EventRules(names={"dog": "barking"}))
    with pytest.raises(ValueError, match="the threshold is a probability"):
        EventRules(threshold=1.5)
    with pytest.raises(ValueError, match=r"Wav2Vec2ForCTC; only a Wav2Vec2ForAudioFrameClassification names sounds"):
        SoundEventDetector.from_pretrained(save_checkpoint(tmp_path / "text"))
    with pytest.raises(ValueError, match="no head that names sounds .Wav2Vec2ForPreTraining.: train one first"):
        SoundEventDetector.from_pretrained("small")
    broken = detector()
    with torch.no_grad():
        broken.listener.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="the model's output is NaN"):
        broken.detect((noise(1.0), RATE))
    assert detector().detect((np.zeros(0, np.float32), RATE)) == ([], 0.0)


def test_predict_gives_what_training_takes(checkpoint: Path, tmp_path: Path) -> None:
    """A row of stretches for each file, beside one that cannot be read; JSON with the same."""
    good, bad = write_noise(tmp_path / "in" / "a.wav", 6.0), tmp_path / "in" / "b.wav"
    bad.write_bytes(b"no audio")
    right, _ = SoundEventDetector.from_pretrained(checkpoint, "cpu", EventRules(threshold=0.2)).detect(good)
    assert right
    runner = CliRunner()
    options = [str(tmp_path / "in"), "--model", str(checkpoint), "--device", "cpu", "--threshold", "0.2", "--format"]
    result = runner.invoke(app, ["predict", *options, "tsv"])
    assert result.exit_code == 1 and "1 of 2 recordings failed" in result.stderr and "b.wav" in result.stderr
    assert result.stdout.splitlines()[0] == "path\tlabel\tprobability"
    spans = "; ".join(f"{one.start:.3f}-{one.end:.3f} {one.label}" for one in right)
    assert result.stdout.splitlines()[1].split("\t")[:2] == [str(good), spans]
    content = json.loads(runner.invoke(app, ["predict", *options, "jsonl"]).stdout)
    assert content["duration"] == 6.0
    assert [(one["label"], one["start"]) for one in content["sounds"]] == [
        (one.label, round(one.start, 4)) for one in right
    ]


def test_transcribe_with_sounds(checkpoint: Path, tmp_path: Path) -> None:
    """Words are as without it; captions, JSON and table have the sounds; wrong options and models are named."""
    text, runner = save_checkpoint(tmp_path / "text"), CliRunner()
    audio = tmp_path / "a.wav"
    soundfile.write(audio, np.concatenate([noise(5.0), noise(5.0, 1) * 0.01]), RATE)
    options = ["transcribe", str(audio), "--model", str(text), "--device", "cpu"]
    sounds = [*options, "--sounds", str(checkpoint), "--sound-threshold", "0.3", "--shortest-sound", "silence=0"]
    plain = json.loads(runner.invoke(app, [*options, "--format", "json"]).stdout)
    found = json.loads(runner.invoke(app, [*sounds, "--format", "json"]).stdout)
    right, _ = SoundEventDetector.from_pretrained(checkpoint, "cpu", EventRules(threshold=0.3, shortest={})).detect(
        audio
    )
    assert "sounds" not in plain and {**plain, "sounds": found["sounds"]} == found
    assert [one["label"] for one in found["sounds"]] == [one.label for one in right]
    named = runner.invoke(app, [*sounds, "--format", "vtt", "--sound-names", "music=Musik,silence="]).stdout
    assert "[Musik]" in named and "[music]" not in named and "[silence]" not in named and "[applause]" in named
    rows = runner.invoke(app, [*sounds, "--format", "tsv"]).stdout.splitlines()
    texts = [row.split("\t")[3] for row in rows[1:]]
    assert [one for one in texts if one.startswith("[")] == [one.text for one in right if one.text]
    for wrong, said in (
        (["--sound-names", "music=Musik"], "that --sounds MODEL finds"),
        (["--sounds", str(checkpoint)], "txt has no sounds"),
        (["--sounds", str(checkpoint), "--format", "vtt", "--shortest-sound", "music"], "must be LABEL=VALUE"),
    ):
        result = runner.invoke(app, [*options, *wrong])
        assert result.exit_code == 2 and said in " ".join(result.stderr.replace("│", " ").split())
    result = runner.invoke(app, [*options, "--sounds", str(text), "--format", "vtt"])
    assert result.exit_code == 1 and "only a Wav2Vec2ForAudioFrameClassification names sounds" in result.stderr
