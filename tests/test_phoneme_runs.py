"""Recognisers of phones: what `finetune` learns with `text.phonemes`, its phone error rate, and what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import jiwer
import pytest
import torch
import transformers
from finetuning_runs import labelled_recipe, train, write_spoken_tones
from planted_speech import PHONES, plant, save_planted, write_sound
from pretraining_runs import log
from typer.testing import CliRunner

from wav2vec2.command_line.app import app
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.processor import Wav2Vec2Processor
from wav2vec2.processing.vocabulary import VocabularyError
from wav2vec2.training.data.audio_clips import ClipFacts
from wav2vec2.training.finetuning import finetune, prepare_finetuning
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.recipes import RunConfigError, from_dict
from wav2vec2.training.settings.run_config import FinetuneRun

pytest.importorskip("espeakng_loader", reason="the extra 'phonemes' is not installed")

#: What espeak-ng 1.52 says, `espeak-ng -q --ipa -v de "..."` on a shell, without its marks of stress.
SPOKEN = {"guten tag": "ɡ uː t ə n t ɑː k", "der tag": "d ɛ ɾ t ɑː k", "guten": "ɡ uː t ə n"}


def manifest(folder: Path, texts: list[str]) -> Path:
    """Clips that are long enough, whatever is in them."""
    path = write_spoken_tones(folder, ["abc abcd"] * len(texts))
    lines = [f"tones{number}.wav\t{text}" for number, text in enumerate(texts)]
    path.write_text("\n".join(["path\ttranscript", *lines]) + "\n", encoding="utf-8")
    return path


def values_of(folder: Path, texts: list[str], **text: Any) -> dict[str, Any]:
    path = manifest(folder / "clips", texts)
    values = labelled_recipe(folder / "run", path, path, run__updates=2, run__log_every=1)
    values["text"] = text
    return values


def run_of(values: dict[str, Any]) -> FinetuneRun:
    return from_dict(FinetuneRun, values)


@pytest.mark.parametrize("given", [False, True])
def test_targets_are_what_espeak_says(given: bool, tmp_path: Path) -> None:
    """Of texts, and of transcripts that are those phones; the vocabulary has them and nothing else."""
    texts = list(SPOKEN.values() if given else SPOKEN)
    ready = prepare_finetuning(run_of(values_of(tmp_path, texts, phonemes="de", phonemes_given=given)))
    tokens = ready.processor.tokenizer.tokens
    assert tokens == ["<pad>", "<unk>", *sorted({phone for said in SPOKEN.values() for phone in said.split()})]
    assert ready.model.config.vocab_size == len(tokens)
    clips = [ClipFacts("", 16000, 0, text) for text in texts]
    labels = ready.task.with_targets({"sample_lengths": torch.tensor([16000] * 3)}, clips)["labels"]
    said = [" ".join(tokens[index] for index in row if index >= 0) for row in labels.tolist()]
    assert said == list(SPOKEN.values())


@pytest.mark.slow
def test_a_run_saves_goes_on_and_is_read_by_stock(tmp_path: Path) -> None:
    """Its figure is jiwer's rate over phones; started again it goes on, in the same language alone."""
    values = values_of(tmp_path, list(SPOKEN), phonemes="de")
    values["run"] |= {"evaluate_every": 2, "save_every": 2}
    train(values)
    evaluated = [line for line in log(tmp_path / "run") if line["kind"] == "evaluation"][-1]
    assert "wer" not in evaluated and "cer" not in evaluated
    samples = evaluated["samples"]
    assert {sample["reference"] for sample in samples} == set(SPOKEN.values())
    expected = jiwer.wer([one["reference"] for one in samples], [one["hypothesis"] for one in samples])
    assert evaluated["per"] == pytest.approx(expected)

    model = tmp_path / "run" / "model"
    ours = Wav2Vec2Processor.from_pretrained(model).tokenizer
    assert (ours.phonemizer_lang, ours.do_phonemize) == ("de", True)
    theirs = transformers.Wav2Vec2PhonemeCTCTokenizer.from_pretrained(model, do_phonemize=False)
    assert len(theirs) == len(ours) == len(json.loads((model / "vocab.json").read_text("utf-8")))
    for text, phones in SPOKEN.items():
        assert ours(text).input_ids == theirs(phones).input_ids
        assert theirs.decode(ours(text).input_ids, group_tokens=False) == phones

    values["run"]["updates"] = 3
    train(values)
    assert log(tmp_path / "run")[-1]["update"] == 3
    values["text"]["phonemes"] = "nl"
    with pytest.raises(StartError, match="holds a run with another vocabulary"):
        train(values)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ({"phonemes": "de", "case": "upper"}, "text.case='upper': is for letters: with text.phonemes, espeak-ng reads"),
        ({"phonemes_given": True}, "text.phonemes_given=true: goes with text.phonemes, which names the language"),
        ({"phonemes": " "}, "text.phonemes=' ': must be espeak-ng's code of a language, as en-us"),
    ],
)
def test_settings_without_meaning_are_refused(text: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(RunConfigError) as error:
        run_of(values_of(tmp_path, ["tag"], **text))
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("asked", "near"), [("german", r"de \(German\)"), ("en", r"en-gb \(.*en-us \("), ("zz", "it has af, am, an, ")]
)
def test_an_unknown_language_is_refused_first(asked: str, near: str, tmp_path: Path) -> None:
    values = values_of(tmp_path, ["tag"], phonemes=asked)
    with pytest.raises(ValueError, match=rf"espeak has no language '{asked}' \(of \d+\); .*{near}"):
        finetune(run_of(values))
    assert not (tmp_path / "run").exists()


def test_texts_without_phones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="2 texts without a single phone, as espeak-ng says them in de"):
        prepare_finetuning(run_of(values_of(tmp_path, ["...", "?!"], phonemes="de")))
    some = run_of(values_of(tmp_path / "some", ["tag", "?!"], phonemes="de"))
    noted = "\n".join(prepare_finetuning(some).notes)
    assert "transcripts have no phone left that the vocabulary knows" in noted


def test_without_espeak_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wav2vec2.processing import espeak

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    for cached in (espeak._library, espeak._languages):
        cached.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'wav2vec2\[phonemes\]'"):
        finetune(run_of(values_of(tmp_path, ["tag"], phonemes="de")))


@pytest.mark.slow
def test_evaluate_tells_a_phone_error_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of "hello", said h ə k oʊ: one phone of four. Its page and its record know no words."""
    plant(monkeypatch)
    checkpoint = save_planted(tmp_path / "model", phones=True)
    apart = {token: number for number, token in enumerate(PHONES)}
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(apart, bos_token=None, eos_token=None)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=False), tokenizer).save_pretrained(checkpoint)
    write_sound(tmp_path / "a.wav", ". h . ə . k . oʊ .", PHONES)
    (tmp_path / "test.tsv").write_text("path\ttranscript\na.wav\thello\n", encoding="utf-8")
    asked = ["evaluate", "--model", str(checkpoint), "--data", str(tmp_path / "test.tsv"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*asked, "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "greedy PER 25.0000%" in done.output and "in 4 phones" in done.output and "WER" not in done.output
    page = (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    assert "greedy PER" in page and "WER" not in page and "CER" not in page
    refused = CliRunner().invoke(app, [*asked, "--normalizer", "basic"])
    assert refused.exit_code == 1
    assert "this model writes phones" in refused.output
