"""Labels of recordings: the same probabilities as stock's pipeline, answers and none of these, what cannot be used."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from classification_runs import TINY, tone, write
from huggingface_hub import ModelCard
from small_models import CALM, small_config, waveforms
from training_audio import RATE
from typer.testing import CliRunner

from wav2vec2 import Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification
from wav2vec2.command_line.app import app
from wav2vec2.evaluation.label_evaluation import LabelEvaluation
from wav2vec2.inference.label_rule import RULE_FILE, LabelRule, chosen_rule, read_rule
from wav2vec2.inference.labeller import Labelled, Labeller
from wav2vec2.modeling.convolved_clips import LayeredClips
from wav2vec2.training.classification import classify, read_classification, read_labelled
from wav2vec2.training.data.audio_clips import TrainingDataError

LABELS = ["high", "low", "middle"]


def saved(folder: Path, several: bool) -> Path:
    """A random model whose logits are far apart."""
    torch.manual_seed(1)
    names: dict[str, Any] = {"id2label": dict(enumerate(LABELS)), "label2id": {one: n for n, one in enumerate(LABELS)}}
    problem = "multi_label_classification" if several else None
    config = small_config("large_lv60k", **CALM, **names, problem_type=problem, use_weighted_layer_sum=True)
    model = Wav2Vec2ForSequenceClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(40)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, six clips, and a manifest of them."""
    folder = tmp_path_factory.mktemp("labels")
    saved(folder / "one", several=False)
    saved(folder / "several", several=True)
    rows = [(f"{n}.wav", tone(200.0 * (n + 1), 0.3 + 0.1 * n, n), f"s{n % 3}", LABELS[n % 3]) for n in range(6)]
    write(folder / "clips", rows)
    return folder


def labelled(labeller: Labeller, audio: Any) -> list[Labelled]:
    found = labeller.label(audio)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("kind", ["one", "several"])
def test_probabilities_are_those_of_stocks_pipeline(place: Path, kind: str) -> None:
    """Of stock's model, from the same folder; in a batch as alone."""
    stock = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(place / kind).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(place / kind)
    pipeline: Any = transformers.pipeline("audio-classification", model=stock, feature_extractor=extractor)
    labeller = Labeller.from_pretrained(place / kind, "cpu")
    clips = [place / "clips" / f"{number}.wav" for number in range(6)]
    for path, found in zip(clips, labelled(labeller, clips), strict=True):
        samples = soundfile.read(path, dtype="float32")[0]
        function = "sigmoid" if kind == "several" else "softmax"
        expected = {one["label"]: one["score"] for one in pipeline(samples, function_to_apply=function, top_k=3)}
        assert found.probabilities == pytest.approx(expected, abs=2e-5)
        assert labelled(labeller, path)[0].probabilities == pytest.approx(expected, abs=2e-5)
        taken = {label for label, value in expected.items() if value >= 0.5}
        assert set(found.labels) == (taken if kind == "several" else {max(expected, key=lambda one: expected[one])})


def test_below_the_threshold_is_none(place: Path) -> None:
    clip = place / "clips" / "0.wav"
    best = labelled(Labeller.from_pretrained(place / "one", "cpu"), clip)[0]
    top = best.probabilities[best.labels[0]]
    for threshold, answer in ((top - 1e-3, best.labels), (min(top + 1e-3, 1.0), [])):
        labeller = Labeller.from_pretrained(place / "one", "cpu", threshold)
        assert labelled(labeller, clip)[0].labels == answer


def test_what_cannot_be_used_is_told_and_the_rest_is_labelled(place: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "short.wav", tone(300.0, 0.01, 0), RATE)
    soundfile.write(tmp_path / "long.wav", tone(300.0, 3.0, 0), RATE)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone(300.0, 1.0, 0)] * 2, 1)[::2], RATE // 2)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("no sound")
    labeller = Labeller.from_pretrained(place / "one", "cpu")
    labeller.longest_seconds = 2.0
    names = ["silent.wav", "short.wav", "long.wav", "empty.wav", "text.mp3", "missing.wav", "stereo.wav"]
    found = labelled(labeller, [str(tmp_path / name) for name in names])
    said = ["all samples are equal", "the model needs", "longer than 2 s", "empty", "cannot read", "No such file"]
    for one, name, part in zip(found, names, said, strict=False):
        assert one.error is not None and name in one.error and part in one.error and not one.labels
    assert found[-1].error is None and found[-1].duration == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ValueError, match="all samples are equal"):
        labeller.label(tmp_path / "silent.wav")


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_predict_writes_every_format_and_one_bad_file_stops_nothing(place: Path, tmp_path: Path) -> None:
    """From a manifest, a folder and a file; what failed is on standard error, and the exit code 1."""
    model = ("--model", place / "one", "--device", "cpu")
    manifest, clip = place / "clips" / "manifest.tsv", place / "clips" / "0.wav"
    rows = invoke("predict", manifest, *model, "--format", "tsv")
    assert rows.exit_code == 0
    header, *lines = [line.split("\t") for line in rows.stdout.splitlines()]
    assert header == ["path", "label", "probability", "p(high)", "p(low)", "p(middle)"] and len(lines) == 6
    for line in lines:
        values = dict(zip(LABELS, map(float, line[3:]), strict=True))
        assert float(line[2]) == max(values.values()) == values[line[1]]
    (tmp_path / "bad.wav").touch()
    target = tmp_path / "answers.jsonl"
    mixed = invoke("predict", tmp_path / "bad.wav", clip, *model, "--format", "jsonl", "--output", target)
    assert mixed.exit_code == 1 and "1 of 2 recordings failed" in mixed.stderr and "bad.wav" in mixed.stderr
    (only,) = [json.loads(line) for line in target.read_text().splitlines()]
    assert only["path"] == str(clip) and only["labels"] == [lines[0][1]]
    none = invoke("predict", clip, *model, "--threshold", 1)
    assert none.exit_code == 0 and f"{clip}: none ({lines[0][1]} " in none.stdout
    wrong = invoke("predict", clip, "--model", "small")
    assert wrong.exit_code == 1 and "--task classification" in wrong.stderr
    missing = invoke("predict", tmp_path / "no.wav", *model)
    assert missing.exit_code == 1 and "no such file" in missing.stderr


def test_the_card_has_the_figures_and_code_that_runs(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metadata as `huggingface_hub` reads it; the code of both packages says what the model says."""
    folder, record = tmp_path / "model", tmp_path / "out" / "evaluation.json"
    shutil.copytree(place / "one", folder)
    options = ("--device", "cpu", "--output", record.parent, "--resamples", 50)
    assert invoke("evaluate", "--model", folder, "--data", place / "clips" / "manifest.tsv", *options).exit_code == 0
    done = invoke("card", folder, "--license", "cc-by-4.0", "--evaluation", record)
    assert done.exit_code == 0, done.output
    scores = LabelEvaluation.from_json(record.read_text()).scores
    card = ModelCard.load(folder / "README.md")
    assert (card.data.pipeline_tag, card.data.metrics) == ("audio-classification", ["accuracy", "f1"])
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert found == pytest.approx(
        {"accuracy": 100 * scores.accuracy.value, "f1": 100 * scores.macro_f1.value}, abs=1e-4
    )
    assert f"| accuracy | **{100 * scores.accuracy.value:.2f}** |" in card.text
    for one in scores.labels:
        assert f"| {one.label} | {one.clips} | {one.given} | {one.right} |" in card.text
    shutil.copy(place / "clips" / "0.wav", tmp_path / "speech.wav")
    monkeypatch.chdir(tmp_path)
    code = [part.partition("```")[0] for part in card.text.replace("USER/NAME", "model").split("```python\n")[1:]]
    assert len(code) == 2
    best = labelled(Labeller.from_pretrained(folder, "cpu"), tmp_path / "speech.wav")[0]
    for block in code:
        exec(compile(block, "README.md", "exec"), {})
        assert best.labels[0] in capsys.readouterr().out


def test_answers_until_a_stop_are_kept(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what an earlier command has written, which stays."""
    target, answer = tmp_path / "answers.tsv", Labeller._batch

    def stopped_in_the_second(self: Labeller, waiting: Any) -> Any:
        if waiting and waiting[0][0].name.endswith("1.wav"):
            os.kill(os.getpid(), signal.SIGINT)
        return answer(self, waiting)

    model = ("--model", place / "one", "--device", "cpu", "--batch-seconds", 0.1)
    command = ("predict", place / "clips", *model, "--format", "tsv", "--output", target)
    assert invoke(*command).exit_code == 0
    whole = target.read_text()
    monkeypatch.setattr(Labeller, "_batch", stopped_in_the_second)
    done = invoke(*command)
    assert done.exit_code == 130 and f"answers until now are in {target}.stopped" in done.stderr
    assert target.read_text() == whole
    kept = Path(f"{target}.stopped").read_text()
    assert len(kept.splitlines()) == 3 and whole.startswith(kept)


def test_evaluate_counts_what_predict_says(place: Path, tmp_path: Path) -> None:
    model = ("--model", place / "one", "--data", place / "clips" / "manifest.tsv", "--device", "cpu")
    done = invoke("evaluate", *model, "--output", tmp_path / "out", "--resamples", 50)
    assert done.exit_code == 0, done.output
    found = LabelEvaluation.from_json((tmp_path / "out" / "evaluation.json").read_text())
    answers = [one.labels[0] for one in labelled(Labeller.from_pretrained(place / "one", "cpu"), place / "clips")]
    right = sum(answer == LABELS[number % 3] for number, answer in enumerate(answers))
    assert found.scores.accuracy.value == pytest.approx(right / 6) and found.speakers == 3
    assert found.confusion is not None and sum(map(sum, found.confusion)) == 6
    assert sum(found.confusion[n][n] for n in range(3)) == right
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "What was taken for what" in page and str(tmp_path) not in page
    assert len((tmp_path / "out" / "clips.tsv").read_text().splitlines()) == 7
    odd = tmp_path / "odd.tsv"
    odd.write_text(f"path\tlabel\n{place / 'clips' / '0.wav'}\ttuba\n")
    for given, said in (
        (("--data", odd), "labels that the model does not have: tuba"),
        (("--beam", 4), "--beam is for"),
    ):
        failed = invoke("evaluate", *model, *given)
        assert failed.exit_code == 1 and said in failed.stderr, failed.output


def test_the_rule_is_read_as_it_was_written_and_that_of_another_model_is_refused(tmp_path: Path) -> None:
    rule = chosen_rule(True, 0.5, {"low": 0.25}, "on 4 clips")
    rule.save(tmp_path)
    assert read_rule(tmp_path, LABELS, True, {}) == rule
    for labels, several in ((["high"], True), (LABELS, False)):
        with pytest.raises(ValueError, match=r"labels\.json: is of another model"):
            read_rule(tmp_path, labels, several, {})
    (tmp_path / RULE_FILE).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_rule(tmp_path, LABELS, True, {})
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        LabelRule(1, False, 1.5, {}, "")


def test_a_head_goes_on_from_layers_as_from_waveforms(place: Path) -> None:
    """Where all layers were kept: the same logits, and the same gradient of the layers' weights."""
    model = Wav2Vec2ForSequenceClassification.from_pretrained(place / "one").train()
    model.config.apply_spec_augment = False  # nothing is drawn below the head
    values, mask = waveforms([16000, 9000, 5000])
    with torch.no_grad():
        layers = model.wav2vec2(values, attention_mask=mask, output_hidden_states=True).hidden_states
    clips = LayeredClips(torch.cat(layers, -1), mask.sum(1), values.shape[1])
    found = []
    for given in ({"input_values": values, "attention_mask": mask}, {"input_values": clips}):
        model.zero_grad()
        logits = model(**given).logits
        logits.square().mean().backward()
        found.append((logits.detach(), model.layer_weights.grad.clone()))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        (("superb_ks",), "clips"),
        (("superb_ks", "--task", "multilabel"), "multilabel"),
        (("ctc_tiny_cpu",), "ctc"),
        (("superb_ks", "task=multilabel"), "multilabel"),
    ],
)
def test_finetune_learns_what_is_asked(given: tuple[str, ...], task: str) -> None:
    """By `--task`, or by what the recipe says."""
    done = invoke("finetune", *given, "data.train.0.path=train.tsv", "--dry-run")
    assert done.exit_code == 0, done.output
    assert any(line.split("#")[0].split() == ["task:", task] for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("clips.arrow", b"ARROW1\0\0\xff\xff\xff\xff", "is no index of shards .*; make one: wav2vec2 index SOURCE"),
        ("clips.tsv", b"path\nfirst.wav\n", "neither of the columns label and transcript"),
    ],
)
def test_labels_come_from_manifests_that_have_them(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    given = [f"data.train.0.path={tmp_path / name}", f"run.output={tmp_path / 'run'}", *TINY]
    with pytest.raises(TrainingDataError, match=said):
        read_labelled(read_classification("multilabel", given))


def chords(folder: Path, count: int, first: int) -> Path:
    """Any of two tones, both, or none."""
    rows = []
    for number in range(count):
        names = [name for name, bit in (("low", 1), ("high", 2)) if number % 4 & bit]
        samples = tone(0.0, 0.5, first + number) * 0.05
        for name in names:
            samples = samples + tone({"low": 300.0, "high": 2500.0}[name], 0.5, first + number)
        rows.append((f"{number}.wav", samples, "", ";".join(names) or "none"))
    return write(folder, rows)


@pytest.mark.slow
def test_several_labels_a_clip_are_learnt(tmp_path: Path) -> None:
    """A whole run: sets of tones that were not trained on are all right, by the thresholds chosen at its end."""
    train, valid = chords(tmp_path / "train", 40, 0), chords(tmp_path / "valid", 12, 1000)
    given = [f"data.train.0.path={train}", f"data.valid.0.path={valid}", f"run.output={tmp_path / 'run'}", *TINY]
    given += ["run.updates=60", "run.evaluate_every=60", "run.save_every=60"]
    given += ["data.seconds_per_update=12", "data.seconds_per_batch=12"]
    output = classify(read_classification("multilabel", given))
    config = json.loads((output / "model" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    labeller = Labeller.from_pretrained(output / "model", "cpu")
    assert "on 12 clips of manifest.tsv" in labeller.rule.chosen and set(labeller.rule.thresholds) == {"high", "low"}
    test = chords(tmp_path / "test", 12, 5000)
    done = invoke("evaluate", "--model", output / "model", "--data", test, "--json")
    found = LabelEvaluation.from_json(done.stdout)
    assert found.scores.accuracy.value == 1.0 and found.scores.micro_f1.value == 1.0
    assert found.scores.rejected.value == 0.25
