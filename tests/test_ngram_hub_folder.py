"""Language-model folders as they lie on the Hub, KenLM behind our interface, and the command that builds a model."""

import json
import sys
from pathlib import Path

import pytest
import torch
import typer
from ngram_models import zipf_sentences
from typer.testing import CliRunner

from wav2vec2.command_line.build_lm import build_lm
from wav2vec2.language_models.hub_language_model import read_hub_folder
from wav2vec2.language_models.ngram_language_model import (
    KENLM_MAGIC,
    KenlmLanguageModel,
    NgramLanguageModel,
    stored_vocabulary,
)
from wav2vec2.language_models.ngram_trie import LanguageModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder as pyctcdecode writes it."""
    inner = tmp_path / "language_model"
    inner.mkdir()
    NgramLanguageModel.train(zipf_sentences(100, 30, seed=1), order=3).to_arpa(inner / "3gram.arpa")
    (inner / "unigrams.txt").write_text("w1\nw2\nw3\n")
    (inner / "attrs.json").write_text(
        json.dumps({"alpha": 0.7, "beta": 2, "unk_score_offset": -8.5, "score_boundary": False})
    )
    (tmp_path / "alphabet.json").write_text(json.dumps({"labels": ["", " ", "a", "⁇"], "is_bpe": False}))
    return tmp_path


def test_all_that_a_folder_says_is_read(folder: Path) -> None:
    for place in (folder, folder / "language_model"):
        found = read_hub_folder(place)
        assert found.unigrams == ["w1", "w2", "w3"]
        assert found.labels == ["", " ", "a", "⁇"]
        assert (found.alpha, found.beta, found.unk_score_offset) == (0.7, 2.0, -8.5)
        assert found.score_boundary is found.is_bpe is False
        assert found.model_file == folder / "language_model" / "3gram.arpa"
        assert NgramLanguageModel.from_folder(place).order == 3
    model = NgramLanguageModel.from_file(found.model_file)
    assert NgramLanguageModel.from_folder(folder).vocabulary == model.vocabulary


def test_a_bare_folder_has_the_usual_settings(folder: Path) -> None:
    for name in ("alphabet.json", "language_model/attrs.json", "language_model/unigrams.txt"):
        (folder / name).unlink()
    found = read_hub_folder(folder)
    assert (found.alpha, found.beta, found.unk_score_offset, found.score_boundary) == (0.5, 1.5, -10.0, True)
    assert found.unigrams is found.labels is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("language_model/attrs.json", b"[", "not JSON"),
        ("language_model/attrs.json", b"[]", "JSON object"),
        ("language_model/attrs.json", b'{"alpha": "much"}', "alpha='much'"),
        ("language_model/attrs.json", b'{"beta": NaN}', "beta=nan"),
        ("language_model/attrs.json", b'{"score_boundary": 1}', "score_boundary=1"),
        ("language_model/attrs.json", b"[" * 100_000, "not JSON"),
        ("language_model/unigrams.txt", b"\xff", "not UTF-8"),
        ("alphabet.json", b'{"labels": [1]}', "list of strings"),
        ("alphabet.json", b'{"labels": [], "is_bpe": 3}', "is_bpe"),
        ("language_model/4gram.bin", b"", "expected one model file"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(LanguageModelError, match=message):
        read_hub_folder(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "language_model").mkdir()
    with pytest.raises(LanguageModelError, match="found nothing"):
        NgramLanguageModel.from_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        NgramLanguageModel.from_folder(tmp_path / "absent")


def test_a_kenlm_binary_needs_kenlm_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    path = folder / "language_model" / "model.bin"
    path.write_bytes(KENLM_MAGIC + bytes(100))
    with pytest.raises(LanguageModelError, match="pip install kenlm"):
        NgramLanguageModel.from_file(path)


def test_a_damaged_kenlm_binary_is_an_error_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("kenlm", reason="kenlm is not installed")
    (tmp_path / "model.bin").write_bytes(KENLM_MAGIC + bytes(100))
    with pytest.raises(LanguageModelError, match=r"model\.bin"):
        NgramLanguageModel.from_file(tmp_path / "model.bin")


def test_the_words_of_a_kenlm_binary_are_found_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(KENLM_MAGIC + bytes(99) + "<unk>\0<s>\0</s>\0naïve\0".encode())
    assert stored_vocabulary(path) == ["<unk>", "<s>", "</s>", "naïve"]
    path.write_bytes(KENLM_MAGIC + bytes(99))
    assert stored_vocabulary(path) == []


def test_kenlm_behind_our_interface_is_our_own_model(folder: Path) -> None:
    pytest.importorskip("kenlm", reason="kenlm is not installed")
    path = folder / "language_model" / "3gram.arpa"
    ours = NgramLanguageModel.from_arpa(path)
    theirs = KenlmLanguageModel(path, ours.vocabulary)
    assert set(theirs.vocabulary) == set(ours.vocabulary)
    assert theirs.order == 3
    texts = [*zipf_sentences(20, 40, seed=2), "zzz"]
    for text in texts:
        states = torch.tensor([[ours.begin()], [theirs.begin()]])
        for word in text.split():
            expected, states[0] = ours.score(states[0], ours.word_ids([word]))
            found, states[1] = theirs.score(states[1], theirs.word_ids([word]))
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(theirs.end(states[1]), ours.end(states[0]), atol=1e-4, rtol=0)
    assert theirs.perplexity(texts) == pytest.approx(ours.perplexity(texts), rel=1e-4)
    with pytest.raises(LanguageModelError, match="ARPA"):
        theirs.save(folder / "copy")


@pytest.mark.parametrize("name", ["model.ngrams", "model.arpa", "model.arpa.gz"])
def test_the_command_builds_what_the_function_builds(tmp_path: Path, name: str) -> None:
    app = typer.Typer()
    app.command()(build_lm)
    texts = zipf_sentences(100, 30, seed=3)
    (tmp_path / "text").write_text("\n".join(texts))
    arguments = [
        str(tmp_path / "text"),
        "-o",
        str(tmp_path / name),
        "--order",
        "3",
        "--prune",
        "0,1",
        "--memory",
        "4MB",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "3-grams" in result.output
    expected = NgramLanguageModel.train(texts, order=3, prune=(0, 1))
    assert torch.equal(NgramLanguageModel.from_file(tmp_path / name).trie.log_probs, expected.trie.log_probs)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "text"])


@pytest.mark.parametrize("wrong", [["--memory", "lots"], ["--prune", "1,x"], ["--order", "0"], ["--memory", "1KB"]])
def test_the_command_says_what_is_wrong(tmp_path: Path, wrong: list[str]) -> None:
    app = typer.Typer()
    app.command()(build_lm)
    (tmp_path / "text").write_text("a b")
    result = CliRunner().invoke(app, [str(tmp_path / "text"), "-o", str(tmp_path / "model"), *wrong])
    assert result.exit_code == 1
    assert wrong[0][2:] in result.output
