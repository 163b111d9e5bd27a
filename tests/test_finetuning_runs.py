"""`finetune` from one end to the other: what it starts from, what it says, what it leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import batched_texts_probe
import numpy as np
import pytest
import soundfile
import torch
import transformers
from finetuning_runs import TONES, labelled_recipe, train, write_spoken_tones
from pretraining_runs import log

from wav2vec2 import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Processor
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.training import finetuning
from wav2vec2.training.checks.clips import clip_sources
from wav2vec2.training.checks.examination import examine
from wav2vec2.training.checks.report import DataProblemsError
from wav2vec2.training.data import source_reading
from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.finetuning import prepare_finetuning
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import FinetuneRun
from wav2vec2.training.tasks.ctc_task import CTCTask, Stages
from wav2vec2.training.tasks.task import inputs_of

SENTENCES = ["abba cab", "dead beef", "face a bad fad"]

#: Enough for three sentences of tones, with normalisation before each layer: from scratch it learns so much sooner.
LEARNER: dict[str, Any] = {
    "conv_dim": [24, 32],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "do_stable_layer_norm": True,
    "feature_grad_mult": 1.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
}


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sentences."""
    return write_spoken_tones(tmp_path_factory.mktemp("tones"), SENTENCES)


@pytest.fixture(scope="module")
def learned(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned them by heart."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    values = labelled_recipe(folder, tones, tones, model__config=LEARNER, optimizer__learning_rate=3e-3)
    values["data"] |= {"seconds_per_update": 6.0, "max_seconds": 3.0}
    values["run"] |= {"updates": 270, "evaluate_every": 90, "save_every": 90, "log_every": 10}
    train(values)
    return folder


def short_recipe(folder: Path, manifest: Path, valid: Path | None = None, **overrides: Any) -> dict[str, Any]:
    """Two updates."""
    return labelled_recipe(folder, manifest, valid, run__updates=2, run__log_every=1, **overrides)


def run_of(values: dict[str, Any]) -> FinetuneRun:
    return from_dict(FinetuneRun, values)


# --- learning ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_sentences_are_learned_by_heart(learned: Path) -> None:
    last = log(learned)[-1]
    assert (last["kind"], last["update"], last["wer"], last["cer"]) == ("evaluation", 270, 0.0, 0.0)
    assert {sample["reference"] for sample in last["samples"]} == set(SENTENCES)
    assert all(sample["hypothesis"] == sample["reference"] for sample in last["samples"])


@pytest.mark.slow
def test_the_plateau_is_named_while_it_lasts(learned: Path) -> None:
    first, *_, last = [line for line in log(learned) if line["kind"] == "evaluation"]
    assert first["blank_share"] > 0.95 and "blank plateau" in first["plateau"] and first["wer"] == 1.0
    assert last["blank_share"] < 0.95 and last["plateau"] is None


@pytest.mark.slow
def test_the_finished_model_transcribes(learned: Path, tones: Path) -> None:
    """The best checkpoint, in a folder of its own, by the package's own transcriber."""
    files = sorted(tones.parent.glob("*.wav"))
    transcriber = Transcriber.from_pretrained(learned / "model")
    assert [transcript.text for transcript in transcriber.transcribe_each(files)] == SENTENCES


@pytest.mark.slow
def test_stock_loads_every_checkpoint_and_hears_the_same(learned: Path, tones: Path) -> None:
    checkpoints = sorted((learned / "checkpoints").glob("update-*"))
    assert checkpoints
    for folder in [*checkpoints[-1:], learned / "model"]:
        ours = Wav2Vec2ForCTC.from_pretrained(folder).eval()
        stock = transformers.models.wav2vec2.Wav2Vec2ForCTC.from_pretrained(folder).eval()
        processor = transformers.models.wav2vec2.Wav2Vec2Processor.from_pretrained(folder)
        samples, rate = soundfile.read(tones.parent / "tones2.wav", dtype="float32")
        inputs = processor(samples, sampling_rate=rate, return_tensors="pt")
        with torch.no_grad():
            logits = [model(inputs["input_values"]).logits for model in (ours, stock)]
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
        assert processor.batch_decode(logits[1].argmax(-1)) == [SENTENCES[2]]
    assert transformers.AutoModelForCTC.from_pretrained(learned / "model").config.vocab_size == len(processor.tokenizer)


@pytest.mark.slow
def test_texts_are_the_same_alone_in_a_batch_in_a_pipeline_and_in_an_evaluation(learned: Path, tmp_path: Path) -> None:
    """Sixteen clips of many lengths. Rows of padded logits used to end in letters that nobody said. A pipeline and
    `Transcriber` write one space where the tokenizer, as stock's, writes two around a word of no letter."""
    draws = np.random.default_rng(0)
    write_spoken_tones(tmp_path / "clips", ["".join(draws.choice(list("abcdef "), 2 + n)) for n in range(16)])
    subprocess.run(
        [sys.executable, batched_texts_probe.__file__, learned / "model", tmp_path / "clips", tmp_path / "texts.json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    texts = json.loads((tmp_path / "texts.json").read_text("utf-8"))
    assert len(texts) == 5 and len(set(texts["alone"])) > 12
    one_space = [" ".join(text.split()) for text in texts["alone"]]
    for way, found in texts.items():
        assert found == (one_space if way in ("in a pipeline", "by Transcriber") else texts["alone"]), way


# --- what a run starts from ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a head, for waveforms as they are."""
    folder = tmp_path_factory.mktemp("pretrained")
    section = labelled_recipe(folder, tones)["model"]["config"]
    Wav2Vec2ForPreTraining(Wav2Vec2Config(**section)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


def from_checkpoint(values: dict[str, Any], checkpoint: Path, **config: Any) -> dict[str, Any]:
    """The run with a checkpoint instead of a preset."""
    return values | {"model": {"checkpoint": str(checkpoint), "config": config}}


@pytest.mark.slow
def test_a_pretrained_encoder_gets_a_new_head(pretrained: Path, tones: Path, tmp_path: Path) -> None:
    values = from_checkpoint(short_recipe(tmp_path / "run", tones), pretrained)
    prepared = prepare_finetuning(run_of(values))
    before = Wav2Vec2ForPreTraining.from_pretrained(pretrained).state_dict()
    after = prepared.model.state_dict()
    for name, weight in after.items():
        if name.startswith("wav2vec2."):
            assert torch.equal(weight, before[name]), name
    again = prepare_finetuning(run_of(values)).model.state_dict()
    assert torch.equal(after["lm_head.weight"], again["lm_head.weight"])
    other = prepare_finetuning(run_of(values | {"run": values["run"] | {"seed": 2}})).model.state_dict()
    assert not torch.equal(after["lm_head.weight"], other["lm_head.weight"])
    assert after["lm_head.bias"].softmax(0).tolist() == pytest.approx([0.7, *[0.3 / 8] * 8], rel=1e-5), "mostly blank"
    tokenizer = prepared.processor.tokenizer
    assert tokenizer.tokens == ["<pad>", "<unk>", "|", *"abcdef"]
    config = prepared.model.config
    assert (config.vocab_size, config.pad_token_id) == (9, 0)
    assert "starts afresh: lm_head, the head of 9 tokens" in prepared.notes
    assert not prepared.processor.feature_extractor.do_normalize
    assert any("not normalised" in note for note in prepared.notes)


@pytest.mark.slow
def test_a_head_that_is_kept_is_checked_with_the_tokens_it_was_trained_for(
    learned: Path, pretrained: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def recorded(*arguments: Any, saved_tokens: Any, **settings: Any) -> Any:
        given.append(saved_tokens)
        return examine(*arguments, saved_tokens=saved_tokens, **settings)

    monkeypatch.setattr(finetuning, "examine", recorded)
    for checkpoint in (learned / "model", pretrained):
        prepare_finetuning(run_of(from_checkpoint(short_recipe(tmp_path / "run", tones), checkpoint)))
    assert given == [["<pad>", "<unk>", "|", *"abcdef"], None]


@pytest.mark.slow
def test_a_ctc_checkpoint_keeps_its_head_while_its_tokens_cover_the_text(
    learned: Path, tones: Path, tmp_path: Path
) -> None:
    fewer = write_spoken_tones(tmp_path / "fewer", ["bad cab", "a face"])
    values = from_checkpoint(short_recipe(tmp_path / "run", fewer), learned / "model")
    prepared = prepare_finetuning(run_of(values))
    kept = Wav2Vec2ForCTC.from_pretrained(learned / "model").state_dict()
    assert torch.equal(prepared.model.lm_head.weight, kept["lm_head.weight"])
    assert prepared.processor.tokenizer.tokens == ["<pad>", "<unk>", "|", *"abcdef"]

    more = write_spoken_tones(tmp_path / "more", ["bag cab", "a face"])
    prepared = prepare_finetuning(run_of(from_checkpoint(short_recipe(tmp_path / "run", more), learned / "model")))
    assert prepared.processor.tokenizer.tokens == ["<pad>", "<unk>", "|", *"abcefg"]
    assert not torch.equal(prepared.model.lm_head.weight, kept["lm_head.weight"]), "same size, other letters"
    assert any("cannot spell 'g'" in note for note in prepared.notes)


def test_a_given_vocabulary_and_the_case_of_its_letters(tones: Path, tmp_path: Path) -> None:
    tokens = {token: n for n, token in enumerate(["<pad>", "|", *"FEDCBA"])}
    Wav2Vec2CTCTokenizer(tokens).save_pretrained(tmp_path / "tokenizer")
    for given in (tmp_path / "tokenizer", tmp_path / "tokenizer" / "vocab.json"):
        values = short_recipe(tmp_path / "run", tones, text__vocabulary=str(given))
        if given.is_file():
            values["text"]["case"] = "upper"
        prepared = prepare_finetuning(run_of(values))
        assert prepared.processor.tokenizer.tokens == list(tokens)
        assert prepared.processor.tokenizer("Abba").input_ids == [7, 6, 6, 7]


@pytest.mark.slow
def test_overrides_that_do_not_fit_the_checkpoint_are_named(pretrained: Path, tones: Path, tmp_path: Path) -> None:
    values = from_checkpoint(short_recipe(tmp_path / "run", tones), pretrained, intermediate_size=80)
    with pytest.raises(OSError, match=r"does not fit model.config:\s+wav2vec2.encoder.layers.0.feed_forward"):
        prepare_finetuning(run_of(values))


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lacking(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Clips, one of which has letters that the vocabulary lacks."""
    Wav2Vec2CTCTokenizer(
        {token: n for n, token in enumerate(["<pad>", "<unk>", "|", *"abcdef"])}, normalization={"case": "lower"}
    ).save_pretrained(tmp_path / "tokenizer")
    yield write_spoken_tones(tmp_path / "lacking", ["abba cab", "zebra", "bad fad"]), tmp_path / "tokenizer"


def test_unknown_characters_are_an_error_before_the_first_update(lacking: tuple[Path, Path], tmp_path: Path) -> None:
    values = short_recipe(tmp_path / "run", lacking[0], text__vocabulary=str(lacking[1]), data__on_problems="stop")
    with pytest.raises(DataProblemsError, match=r"'r' \(U\+0072\) x1, 'z' \(U\+007A\) x1"):
        prepare_finetuning(run_of(values))


def test_unknown_characters_skip_their_clips(lacking: tuple[Path, Path], tmp_path: Path) -> None:
    values = short_recipe(
        tmp_path / "run", lacking[0], lacking[0], text__vocabulary=str(lacking[1]), text__on_unknown="skip"
    )
    train(values)
    listed = (tmp_path / "run" / "dropped.tsv").read_text(encoding="utf-8").splitlines()
    assert listed == ["id\treason", "tones1.wav\tcharacters without a token"]
    header, *_, evaluation = log(tmp_path / "run")
    assert header["left_out"] == {"with characters that have no token": 1} and header["clips"] == 2
    references = {sample["reference"] for sample in evaluation["samples"]}
    assert references == {"abba cab", "bad fad", "\ufffdeb\ufffda"}, "an evaluation skips nothing: they are errors"
    assert "left_out" not in evaluation


def test_bad_files_of_two_sources_of_one_name_are_all_listed(lacking: tuple[Path, Path], tmp_path: Path) -> None:
    """By the names that training has for them."""
    second = tmp_path / "second"
    shutil.copytree(lacking[0].parent, second)
    values = short_recipe(tmp_path / "run", lacking[0], text__vocabulary=str(lacking[1]), text__on_unknown="skip")
    values["data"]["train"].append({"path": str(second / lacking[0].name)})
    prepare_finetuning(run_of(values))
    listed = (tmp_path / "run" / "dropped.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split("\t")[0] for line in listed] == ["1:manifest.tsv/tones1.wav", "2:manifest.tsv/tones1.wav"]
    train, _ = clip_sources(TrainingData(run_of(values).data, 1, with_text=True))
    assert list(map(train.id, range(6))) == [f"{n}:manifest.tsv/tones{clip}.wav" for n in (1, 2) for clip in range(3)]


def test_every_manifest_is_parsed_once(
    lacking: tuple[Path, Path], tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vocabulary, checks and training see the same tables, also where clips are left out for their text."""
    parsed: list[Path] = []

    def counted(path: Path) -> Any:
        parsed.append(path)
        return read_manifest(path)

    monkeypatch.setattr(source_reading, "read_manifest", counted)
    choices = {"text__vocabulary": str(lacking[1]), "text__on_unknown": "skip"}
    prepared = prepare_finetuning(run_of(short_recipe(tmp_path / "run", lacking[0], tones, **choices)))
    assert parsed == [lacking[0], tones]
    assert prepared.data.summary.left_out == {"with characters that have no token": 1}


def test_what_an_evaluation_leaves_out_stands_beside_its_figures(tones: Path, tmp_path: Path) -> None:
    """A clip without a transcript, known before; one that cannot be decoded, known then."""
    valid = tmp_path / "valid"
    shutil.copytree(tones.parent, valid)
    lines = (valid / tones.name).read_text(encoding="utf-8").splitlines()
    name = lines[1].split("\t")[0]
    samples, rate = soundfile.read(valid / name)
    soundfile.write(valid / "broken.wav", np.where(np.arange(len(samples)) < 50, 1e25, samples), rate, subtype="FLOAT")
    (valid / tones.name).write_text("\n".join([*lines, f"{name}\t", "broken.wav\tabba"]) + "\n", encoding="utf-8")
    train(short_recipe(tmp_path / "run", tones, valid / tones.name))
    header, *_, evaluation = log(tmp_path / "run")
    assert header["left_out_of_evaluations"] == {"without a transcript": 1}
    assert evaluation["left_out"] == 2
    assert "broken.wav" in (tmp_path / "run" / "unreadable.tsv").read_text(encoding="utf-8")


def test_unknown_characters_become_the_token_and_count_as_errors(lacking: tuple[Path, Path], tmp_path: Path) -> None:
    values = short_recipe(tmp_path / "run", lacking[0], text__vocabulary=str(lacking[1]), text__on_unknown="unknown")
    prepared = prepare_finetuning(run_of(values))
    task = prepared.task
    clip = LoadedClip("zebra", torch.zeros(16000).numpy(), 0, "zebra")
    labels = inputs_of(task, [clip])["labels"][0].tolist()
    assert labels == [1, 7, 4, 1, 3]  # <unk> e b <unk> a
    assert task.said(labels) == "\ufffdeb\ufffda"
    assert prepared.processor.tokenizer.strict, "the run refuses what it has no token for"


def test_another_vocabulary_cannot_be_resumed(tones: Path, tmp_path: Path) -> None:
    train(short_recipe(tmp_path / "run", tones))
    other = write_spoken_tones(tmp_path / "other", ["abba cab", "dead", "face"])
    more: dict[str, Any] = {"run__updates": 3}
    train(labelled_recipe(tmp_path / "run", other, **more))  # the same letters
    shutil.copy(other, tmp_path / "kept.tsv")
    other.write_text(other.read_text(encoding="utf-8").replace("dead", "lead"), encoding="utf-8")
    with pytest.raises(StartError, match="another vocabulary"):
        train(labelled_recipe(tmp_path / "run", other, **more))


# --- figures -------------------------------------------------------------------------------------------------------


class Spoken(torch.nn.Module):
    """A "model" whose best path is given."""

    def __init__(self, paths: list[list[int]], tokens: int) -> None:
        super().__init__()
        self.logits = torch.nn.functional.one_hot(torch.tensor(paths), tokens).float()

    def forward(self, **inputs: Any) -> Any:
        return type("Output", (), {"loss": torch.tensor(6.0), "logits": self.logits})


def test_evaluation_counts_what_a_person_would(tones: Path, tmp_path: Path) -> None:
    """Three references of 2 + 1 + 0 words; one word is wrong, one is heard where nothing is said; "<s>" is no text."""
    tokenizer = Wav2Vec2CTCTokenizer({t: n for n, t in enumerate(["<pad>", "<s>", "|", *"abc"])}, unk_token=None)
    config = Wav2Vec2Config(conv_dim=[4], conv_kernel=[320], conv_stride=[320], vocab_size=6)
    task = CTCTask(config, Wav2Vec2FeatureExtractor(), tokenizer, seed=1, stages=Stages())
    texts = ["a b", "cc", ""]
    clips = [LoadedClip(str(n), torch.rand(320 * 6).numpy(), n, text) for n, text in enumerate(texts)]
    a, b, c, space, start = 3, 4, 5, 2, 1
    paths = [[a, a, space, 0, b, 0], [c, c, 0, start, start, 0], [0, 0, a, 0, 0, 0]]
    inputs = inputs_of(task, clips)
    logits = Spoken(paths, 6)
    sums = {name: value.tolist() for name, value in task.evaluation_part(logits, inputs).items()}
    figures = task.evaluation_figures(sums)
    assert figures["samples"] == [
        {"reference": "a b", "hypothesis": "a b"},
        {"reference": "cc", "hypothesis": "c"},
        {"reference": "", "hypothesis": "a"},
    ]
    assert (figures["wer"], figures["cer"]) == (pytest.approx(2 / 3), pytest.approx(2 / 5))
    assert figures["blank_share"] == pytest.approx(9 / 18)
    assert (figures["loss"], figures["dropped"]) == (6.0 / 3, 0)
    assert figures["loss_per_label"] == pytest.approx(6.0 / 5)
    assert task.evaluation_figures(sums)["samples"] == [], "those of one evaluation are not those of the next"


def test_no_clip_at_all_counts_for_nothing(tones: Path, tmp_path: Path) -> None:
    prepared = prepare_finetuning(run_of(short_recipe(tmp_path / "run", tones)))
    inputs = inputs_of(prepared.task, [])
    output = prepared.task.part(prepared.model.train(), inputs, None)
    output.loss.backward()
    assert output.loss.item() == 0 and prepared.task.counts(inputs).tolist() == [0.0]
    assert {name: value.item() for name, value in output.sums.items()} == dict.fromkeys(output.sums, 0.0)
    assert prepared.task.texts(torch.zeros(1, 1, 9), inputs) == ([], [])


@pytest.mark.slow
def test_what_the_run_says_of_itself(learned: Path) -> None:
    text = (learned / "vocabulary.txt").read_text(encoding="utf-8")
    assert "3 texts (0 empty)" in text and set(TONES) < set(text)
    processor = Wav2Vec2Processor.from_pretrained(learned / "model")
    assert processor.tokenizer.normalization.case == "lower"
    evaluated = [line["update"] for line in log(learned) if line["kind"] == "evaluation"]
    assert evaluated == [90, 180, 270]
