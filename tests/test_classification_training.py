"""Labels of clips and frames, and voices: the runs of the three examples, and the figures they are judged by."""

import json
import math
import os
import random
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from classification_runs import TINY, of_run, tone, tones, write
from safetensors.torch import load_file
from shared_data import SHARED_DATA, needs_shared_data, shared_table
from small_models import small_config
from training_audio import RATE

from wav2vec2 import (
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
)
from wav2vec2.training.classification import (
    classify,
    confusion_lines,
    last_evaluation,
    read_classification,
)
from wav2vec2.training.data.audio_clips import EVALUATION, LoadedClip, TrainingDataError, clip_seed
from wav2vec2.training.labels_of_clips import labels_of, manifest_with_segments
from wav2vec2.training.settings.run_config import Source
from wav2vec2.training.tasks.classification_task import (
    ClipLabelTask,
    FrameLabelTask,
    MultiLabelTask,
    SpeakerTask,
    equal_error_rate,
    frame_middles,
    pair_scores,
    segments_of,
    voice_number,
)
from wav2vec2.training.tasks.task import inputs_of


@pytest.mark.slow
def test_clips_are_told_apart(tmp_path: Path) -> None:
    """Every tone that was not trained on is named; the model says its labels, and stock's pipeline would too."""
    train, valid = tones(tmp_path / "train", 16, 0), tones(tmp_path / "valid", 4, 1000)
    output = classify(of_run("clips", train, valid, tmp_path / "run", 50))
    figures = last_evaluation(output)
    assert figures["accuracy"] == 1.0 and figures["error"] == 0.0
    assert figures["labels"] == ["high", "low", "middle"]
    assert figures["confusion"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    assert confusion_lines(figures)[1].split() == ["high", "4", "0", "0"]
    config = json.loads((output / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "high", "1": "low", "2": "middle"}
    model = Wav2Vec2ForSequenceClassification.from_pretrained(output / "model").eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(output / "model")
    inputs = extractor(tone(700.0, 0.5, 77), sampling_rate=RATE, return_tensors="pt")
    assert model.config.id2label[int(model(**inputs).logits.argmax())] == "middle"


@pytest.mark.slow
def test_frames_are_labelled(tmp_path: Path) -> None:
    """Where the tone is, from a table of stretches; 98 of 100 frames, though a frame hears over the edge."""
    generator = random.Random(0)
    manifests = []
    for part, count in (("train", 24), ("valid", 6)):
        rows, table = [], ["path\tstart\tend\tlabel"]
        for number in range(count):
            start, end = generator.uniform(0.1, 0.5), generator.uniform(0.7, 1.1)
            samples = tone(0.0, 1.2, number) * 0.05
            first, last = round(start * RATE), round(end * RATE)
            samples[first:last] += tone(700.0, 1.2, number)[first:last]
            rows.append((f"{number}.wav", samples, "", ""))
            table.append(f"{number}.wav\t{start:.3f}\t{end:.3f}\ttone")
        manifest = write(tmp_path / part, rows)
        (tmp_path / part / "segments.tsv").write_text("\n".join(table) + "\n")
        target = tmp_path / f"{part}.tsv"
        manifests.append(manifest_with_segments(manifest, tmp_path / part / "segments.tsv", target))
    train, valid = manifests
    output = classify(of_run("frames", train, valid, tmp_path / "run", 40, "background=silence"))
    figures = last_evaluation(output)
    assert figures["labels"] == ["silence", "tone"]
    assert figures["accuracy"] > 0.98
    assert sum(map(sum, figures["confusion"])) == 6 * 58  # frames of 1.2 s, which hear 700 samples each
    model = Wav2Vec2ForAudioFrameClassification.from_pretrained(output / "model")
    assert model.config.id2label == {0: "silence", 1: "tone"}


def voices(folder: Path, pitches: list[float], count: int, first: int) -> Path:
    """A "voice" is a pitch with its overtones."""
    rows = []
    for pitch in pitches:
        for number in range(count):
            seed = first + number
            samples = sum(tone(pitch * part, 0.6, seed) / part for part in (1, 2, 3))
            rows.append((f"{pitch:g}_{number}.wav", samples, f"voice{pitch:g}", ""))
    return write(folder, rows)


@pytest.mark.slow
def test_voices_are_told_apart(tmp_path: Path) -> None:
    """All pairs of clips that were not trained on: of one voice or of two."""
    train = voices(tmp_path / "train", [110, 260, 600], 12, 0)
    valid = voices(tmp_path / "valid", [110, 260, 600], 4, 500)
    output = classify(of_run("speakers", train, valid, tmp_path / "run", 80, "optimizer.clip_norm=1.0"))
    figures = last_evaluation(output)
    assert figures["same_pairs"] == 3 * 6 and figures["other_pairs"] == 3 * 16
    assert figures["equal_error_rate"] < 0.05
    model = Wav2Vec2ForXVector.from_pretrained(output / "model")
    assert model.config.id2label[0] == "voice110"


def lora_run(folder: Path, train: Path, valid: Path, output: str, *more: str) -> Path:
    """A short run of LoRA on a small checkpoint, which is written once."""
    base = folder / "base"
    if not base.is_dir():
        torch.manual_seed(4)
        Wav2Vec2ForSequenceClassification(small_config(num_labels=3)).save_pretrained(base)
    given = [one for one in TINY if not one.startswith("model.")]
    paths = [f"data.train.0.path={train}", f"data.valid.0.path={valid}", f"run.output={folder / output}"]
    sizes = ["run.save_every=2", "data.seconds_per_update=4", "data.seconds_per_batch=4", "schedule.kind=constant"]
    model = [f"model.checkpoint={base}", "model.config={mask_time_prob: 0.0}", "schedule.warmup=0"]
    lora = ["tuning.method=lora", "tuning.lora_rank=2", "tuning.lora_targets=[q_proj]"]
    return classify(read_classification("clips", [*given, *paths, *sizes, *model, *lora, *more]))


@pytest.mark.slow
def test_lora_and_a_held_encoder_in_a_whole_run(tmp_path: Path) -> None:
    """The finished model is merged, with the adapter beside it; base weights moved by the additions alone."""
    train, valid = tones(tmp_path / "train", 3, 0), tones(tmp_path / "valid", 1, 1000)
    output = lora_run(tmp_path, train, valid, "run", "run.updates=4", "tuning.freeze_updates=2")
    adapter = {path.name for path in (output / "model" / "lora").iterdir()}
    assert adapter == {"adapter_config.json", "adapter_model.safetensors"}
    start = load_file(tmp_path / "base" / "model.safetensors")
    held = load_file(output / "checkpoints" / "update-00000002" / "model.safetensors")
    final = load_file(output / "checkpoints" / "update-00000004" / "model.safetensors")
    assert final.keys() == start.keys() == load_file(output / "model" / "model.safetensors").keys()
    moved = {name for name in start if not torch.equal(final[name], start[name])}
    body = {name for name in start if name.startswith("wav2vec2.")}
    assert moved & body == {name for name in body if name.endswith("q_proj.weight")}
    assert all(torch.equal(held[name], start[name]) for name in body)
    assert not torch.equal(held["classifier.weight"], start["classifier.weight"])


@pytest.mark.slow
def test_a_lora_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """It goes on from the additions, not from the merged model of the checkpoint's folder."""
    train, valid = tones(tmp_path / "train", 3, 0), tones(tmp_path / "valid", 1, 1000)
    whole = lora_run(tmp_path, train, valid, "whole", "run.updates=4")
    lora_run(tmp_path, train, valid, "stopped", "run.updates=2")
    stopped = lora_run(tmp_path, train, valid, "stopped", "run.updates=4")
    for name in ("model.safetensors", "lora/adapter_model.safetensors"):
        expected, found = (load_file(run / "model" / name) for run in (whole, stopped))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.slow
@needs_shared_data("fsdd")
def test_spoken_digits_from_scratch(tmp_path: Path) -> None:
    """Ten words by three speakers, from nothing, in under a minute: far above chance, on clips kept apart."""
    lines: dict[str, list[str]] = {"train": ["path\tduration\ttranscript"], "valid": ["path\tduration\ttranscript"]}
    for values in shared_table("fsdd/manifest.tsv"):
        take = int(values["path"].split("_")[2].split(".")[0])
        path = os.path.relpath(SHARED_DATA / "fsdd" / values["path"], tmp_path)
        lines["valid" if take % 10 == 0 else "train"].append(f"{path}\t{values['duration']}\t{values['transcript']}")
    for part, text in lines.items():
        (tmp_path / f"{part}.tsv").write_text("\n".join(text) + "\n")
    sizes = ["model.config.conv_dim=[64, 64, 64]", "model.config.conv_kernel=[40, 8, 4]"]
    sizes += ["model.config.conv_stride=[10, 8, 4]", "data.seconds_per_update=24", "data.seconds_per_batch=24"]
    run = of_run("clips", tmp_path / "train.tsv", tmp_path / "valid.tsv", tmp_path / "run", 100, *sizes)
    figures = last_evaluation(classify(run))
    assert len(figures["labels"]) == 10
    assert figures["accuracy"] > 0.35  # chance is 0.1; of 120 clips, that is nine standard deviations


def clip(samples: int, seed: int, transcript: str | None = None, speaker: str | None = None) -> LoadedClip:
    values = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    return LoadedClip(f"clip {seed}", values, seed, transcript, speaker)


CASES: list[tuple[type[ClipLabelTask], Any]] = [
    (ClipLabelTask, Wav2Vec2ForSequenceClassification),
    (MultiLabelTask, Wav2Vec2ForSequenceClassification),
    (FrameLabelTask, Wav2Vec2ForAudioFrameClassification),
    (SpeakerTask, Wav2Vec2ForXVector),
]


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_parts_add_up_to_the_whole(kind: Any, head: Any) -> None:
    """Loss and gradient of all clips at once are the sums over parts, one of which is empty."""
    torch.manual_seed(0)
    task = kind(small_config(), Wav2Vec2FeatureExtractor(), ["a", "b"], seed=0)
    model = head(small_config(num_labels=2, mask_time_prob=0.0)).eval()
    texts = ["0-0.1 b", "0.1-0.5 b; 0.2-0.3 a", "0.2-0.4 b"] if kind is FrameLabelTask else ["a", "b", "b"]
    texts = ["a; b", "none", "b"] if kind is MultiLabelTask else texts
    clips = [clip(4000 + 2000 * n, n, text, "ab"[n % 2]) for n, text in enumerate(texts)]
    results = []
    for division in ([clips], [clips[:1], clips[1:], []]):
        model.zero_grad()
        parts = [inputs_of(task, part) for part in division]
        outputs = [task.part(model, part, None) for part in parts]
        sum((output.loss for output in outputs), torch.zeros(())).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        total = sum(float(output.sums["loss"]) for output in outputs)
        results.append((sum(task.counts(part)[0] for part in parts), total, gradients))
    (count, loss, whole), (count_of_parts, loss_of_parts, pieces) = results
    assert count == count_of_parts > 0 and loss > 0
    assert loss == pytest.approx(loss_of_parts, rel=1e-5)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_an_empty_part_counts_for_nothing_and_reaches_every_parameter(kind: Any, head: Any) -> None:
    """As the loop's wrappers need it: gradients, all of them zero."""
    model = head(small_config(num_labels=2, mask_time_prob=0.0)).train()
    task = kind(small_config(), Wav2Vec2FeatureExtractor(), ["a", "b"], seed=0)
    inputs = inputs_of(task, [])
    output = task.part(model, inputs, None)
    output.loss.backward()
    assert task.counts(inputs).tolist() == [0.0] and float(output.sums["loss"]) == 0.0
    missing = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert missing == set()
    assert all(float(parameter.grad.abs().sum()) == 0.0 for parameter in model.parameters())


def test_frame_labels_follow_the_middle_of_frames() -> None:
    """Against a loop over samples: frame t hears samples 320 t to 320 t + 399."""
    task = FrameLabelTask(small_config(), Wav2Vec2FeatureExtractor(), ["none", "a", "b"], seed=0)
    middles = [(320 * frame + 200) / RATE for frame in range(40)]
    torch.testing.assert_close(frame_middles(small_config(), 40), torch.tensor(middles, dtype=torch.float64))
    stretches = [(0.1, 0.33, "a"), (0.3, 0.5, "b"), (0.7, 0.75, "a")]
    expected = []
    for middle in middles:
        own = [label for start, end, label in stretches if start <= middle < end]
        expected.append(["none", "a", "b"].index(own[-1]) if own else 0)
    text = "; ".join(f"{start}-{end} {label}" for start, end, label in stretches)
    assert task.frame_labels(text, 40).tolist() == expected


@pytest.mark.parametrize("text", ["speech", "1.0-0.5 speech", "0.1-0.2", "0.1-0.2 a b; x"])
def test_a_stretch_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="must be `start-end label`"):
        segments_of(text)


def test_equal_error_rate_against_counting() -> None:
    """Known cases, and a slow count over all thresholds."""
    perfect = equal_error_rate(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2, 0.3]))
    assert perfect[0] == 0.0 and perfect[1] == pytest.approx(0.8)
    assert math.isnan(equal_error_rate(torch.zeros(0), torch.zeros(3))[0])
    generator = torch.Generator().manual_seed(0)
    same = (torch.randn(40, generator=generator) + 1).double()
    other = (torch.randn(70, generator=generator) - 0.5).double()
    rates = []
    for threshold in [*same.tolist(), *other.tolist()]:
        refused = sum(score < threshold for score in same.tolist()) / 40
        accepted = sum(score >= threshold for score in other.tolist()) / 70
        rates.append((abs(refused - accepted), (refused + accepted) / 2))
    rate, _ = equal_error_rate(same, other)
    assert rate == pytest.approx(min(rates)[1], abs=0.02)
    assert 0.1 < rate < 0.4


def test_pairs_are_all_pairs_over_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop over pairs, with embeddings that came in two parts and one clip of no named speaker."""
    monkeypatch.setattr("wav2vec2.training.tasks.classification_task._ROWS", 2)
    config = small_config(num_labels=2)
    task = SpeakerTask(config, Wav2Vec2FeatureExtractor(), ["a", "b"], seed=3, clips=5)
    model = Wav2Vec2ForXVector(config).eval()
    speakers = ["x", "y", "x", None, "y"]
    clips = [clip(6000, clip_seed(3, EVALUATION, number), speaker=who) for number, who in enumerate(speakers)]
    with torch.no_grad():
        sums = [
            task.evaluation_part(model, inputs_of(task, part)) for part in ([clips[1], clips[4], clips[0]], clips[2:4])
        ]
    total = {key: (sums[0][key] + sums[1][key]) for key in sums[0]}
    vectors, numbers = total["embeddings"], total["voices"]
    assert numbers.tolist() == [float(voice_number(who)) for who in speakers]
    named = numbers > 0
    same, other = pair_scores(vectors[named], numbers[named])
    kept = [index for index, who in enumerate(speakers) if who]
    expected: dict[bool, list[float]] = {True: [], False: []}
    for a, b in combinations(kept, 2):
        cosine = torch.cosine_similarity(vectors[a], vectors[b], dim=0)
        expected[speakers[a] == speakers[b]].append(float(cosine))
    assert sorted(same.tolist()) == pytest.approx(sorted(expected[True]))
    assert sorted(other.tolist()) == pytest.approx(sorted(expected[False]))
    figures = task.evaluation_figures({key: value.tolist() for key, value in total.items()})
    assert (figures["same_pairs"], figures["other_pairs"]) == (2, 4)


def test_labels_that_cannot_be_learnt_are_named_before_training(tmp_path: Path) -> None:
    sound = tone(200.0, 0.3, 0)
    train = write(tmp_path / "train", [("a.wav", sound, "", "yes"), ("b.wav", sound, "", "no")])
    valid = write(tmp_path / "valid", [("a.wav", sound, "", "maybe")])
    single = write(tmp_path / "single", [("a.wav", sound, "", "yes")])

    def labels(task: str, first: Path, second: Path) -> list[str]:
        sources = [Source(str(path), text_column="label") for path in (first, second)]
        data = SimpleNamespace(train=sources[:1], valid=sources[1:])
        run: Any = SimpleNamespace(task=task, background="none", data=data)
        return labels_of(run)

    assert labels("clips", train, train) == ["no", "yes"]
    with pytest.raises(TrainingDataError, match="no training clip has: 'maybe'"):
        labels("clips", train, valid)
    with pytest.raises(TrainingDataError, match=r"1 label\(s\) in all \(yes\)"):
        labels("clips", single, single)
    with pytest.raises(TrainingDataError, match="must be `start-end label`"):
        labels("frames", train, train)
    with pytest.raises(TrainingDataError, match="has no `speaker`"):
        labels("speakers", train, train)
