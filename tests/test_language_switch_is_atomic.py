"""A change of language that cannot be made in full is an error, and leaves model and tokenizer as they were."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_folders import small_model
from language_folders import (
    LANGUAGES,
    WIDTH,
    assert_unchanged,
    multilingual_tokenizer,
    state_of,
    write_languages,
    write_vocabularies,
)
from safetensors.torch import load_file, save_file

from wav2vec2 import CheckpointError, Wav2Vec2ForCTC

pytestmark = pytest.mark.slow

LAYER = "wav2vec2.encoder.layers.1.adapter_layer"
FRENCH = "adapter.fra.safetensors"


def refused(folder: Path, language: Any = "fra", error: type[Exception] = CheckpointError, match: str = "") -> None:
    """The switch from English raises, by every way, and nothing has changed."""
    model, tokenizer = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="deu"), multilingual_tokenizer(folder, "deu")
    before = state_of(model, tokenizer)
    ways: list[Callable[[], Any]] = [
        lambda: model.set_language(language, tokenizer),
        lambda: model.set_language(language),
        lambda: model.load_adapter(language),
    ]
    for switch in ways:
        with pytest.raises(error, match=match):
            switch()
        assert_unchanged(before, state_of(model, tokenizer))
    with pytest.raises(error, match=match):
        Wav2Vec2ForCTC.from_pretrained(folder, target_lang=language)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint and its languages."""
    write_languages(tmp_path / "mms")
    return tmp_path / "mms"


def change_french(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Write the French file again, changed."""
    tensors = load_file(folder / FRENCH)
    change(tensors)
    save_file(tensors, folder / FRENCH, {"format": "pt"})


@pytest.mark.parametrize("content", [b"", b"garbage " * 100, b"cut"], ids=["empty", "garbage", "cut"])
def test_a_damaged_file_changes_nothing(content: bytes, folder: Path) -> None:
    """Empty, something else, or half a file."""
    whole = (folder / FRENCH).read_bytes()
    (folder / FRENCH).write_bytes(whole[: len(whole) // 2] if content == b"cut" else content)
    refused(folder, match="truncated or corrupt")


@pytest.mark.parametrize("content", [b"", b"garbage " * 100, b"cut"], ids=["empty", "garbage", "cut"])
def test_a_damaged_bin_file_changes_nothing(content: bytes, folder: Path) -> None:
    """The same in torch's own format."""
    (folder / FRENCH).unlink()
    whole = (folder / "adapter.deu.bin").read_bytes()
    (folder / "adapter.fra.bin").write_bytes(whole[: len(whole) // 2] if content == b"cut" else content)
    refused(folder, match="truncated or corrupt")


def test_a_damaged_file_is_not_replaced_by_an_older_one(folder: Path) -> None:
    """Stock falls back to the `.bin` beside it without a word; which weights one gets must not hang on luck."""
    (folder / "adapter.deu.bin").rename(folder / "adapter.fra.bin")
    (folder / FRENCH).write_bytes(b"garbage " * 100)
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    before = state_of(model)
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        model.set_language("fra")
    assert_unchanged(before, state_of(model))


@pytest.mark.parametrize("content", [[1, 2], {"lm_head.weight": 5}], ids=["a list", "a number"])
def test_a_bin_file_without_tensors_changes_nothing(content: Any, folder: Path) -> None:
    """A file that torch can read, but that holds no adapter."""
    (folder / FRENCH).unlink()
    torch.save(content, folder / "adapter.fra.bin")
    refused(folder, match=r"adapter\.fra\.bin")


class Trap:
    """Runs code when unpickled: makes a folder."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.where),)


def test_an_adapter_file_cannot_run_code(folder: Path, tmp_path: Path) -> None:
    """A pickle with more than tensors is refused before it does anything."""
    (folder / FRENCH).unlink()
    torch.save(Trap(tmp_path / "sprung"), folder / "adapter.fra.bin")
    refused(folder, match=r"adapter\.fra\.bin")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", [f"{LAYER}.linear_2.bias", f"{LAYER}.norm.weight", "lm_head.weight", "lm_head.bias"])
def test_a_missing_tensor_changes_nothing(name: str, folder: Path) -> None:
    """And is named."""
    change_french(folder, lambda tensors: tensors.pop(name))
    refused(folder, match=f"{name}: missing")


def test_an_unknown_tensor_changes_nothing(folder: Path) -> None:
    """An adapter of a deeper model, say; and is named."""
    deeper = "wav2vec2.encoder.layers.3.adapter_layer.linear_1.bias"
    change_french(folder, lambda tensors: tensors.update({deeper: torch.ones(6)}))
    refused(folder, match=f"{deeper}: unknown")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{LAYER}.linear_1.weight", (16, WIDTH)),
        (f"{LAYER}.norm.bias", (1, WIDTH)),
        ("lm_head.weight", (20, 47)),
        ("lm_head.bias", (20, 1)),
    ],
)
def test_a_wrong_shape_changes_nothing(name: str, shape: tuple[int, ...], folder: Path) -> None:
    """And both shapes are named."""
    change_french(folder, lambda tensors: tensors.update({name: torch.ones(shape)}))
    digits = ", ".join(str(size) for size in shape)
    refused(folder, match=rf"{name}: \({digits}\) in the file, \(")


def test_stock_is_left_between_two_languages(folder: Path) -> None:
    """Why everything is checked first: stock's model has then German adapters, and a head of neither language."""
    change_french(folder, lambda tensors: tensors.update({f"{LAYER}.norm.bias": torch.ones(1, WIDTH)}))
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang="deu")
    with pytest.raises(RuntimeError, match="size mismatch"):
        stock.load_adapter("fra")
    assert stock.target_lang == "deu"
    assert stock.lm_head.out_features == LANGUAGES["fra"] != LANGUAGES["deu"]


def test_a_head_that_disagrees_with_itself_changes_nothing(folder: Path) -> None:
    """Twenty rows of weights and nineteen biases are no head."""
    change_french(folder, lambda tensors: tensors.update({"lm_head.bias": torch.ones(19)}))
    refused(folder, match="disagree on the number of tokens")


@pytest.mark.parametrize("tokens", [19, 21])
def test_a_vocabulary_of_another_size_changes_nothing(tokens: int, folder: Path) -> None:
    """Head and `vocab.json` must agree, or text would be wrong."""
    write_vocabularies(folder, LANGUAGES | {"fra": tokens})
    refused(folder, match=f"{tokens} tokens for 'fra', but its adapter has a head of 20")


def test_a_language_without_vocabulary_changes_nothing(folder: Path) -> None:
    """An adapter alone cannot be read."""
    write_vocabularies(folder, {name: size for name, size in LANGUAGES.items() if name != "fra"})
    refused(folder, match="no vocabulary for 'fra'")


@pytest.mark.parametrize("content", ["", '{"eng": {"a"', "[1, 2]"], ids=["empty", "truncated", "a list"])
def test_a_damaged_vocabulary_changes_nothing(content: str, folder: Path) -> None:
    """And is named."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="deu")
    before = state_of(model)
    (folder / "vocab.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        model.set_language("fra")
    assert_unchanged(before, state_of(model))


@pytest.mark.parametrize("language", ["xyz", "FRA", ".."])
def test_an_unknown_language_changes_nothing(language: str, folder: Path) -> None:
    """And is named, with the file that was looked for."""
    refused(folder, language, match=re.escape(f"no adapter for '{language}': adapter.{language}.safetensors"))


@pytest.mark.parametrize("language", ["../x", "a/b", "/etc/passwd", "eng/", "./eng", "", "."])
def test_a_path_is_not_a_language(language: str, folder: Path) -> None:
    """Names never lead out of the model's folder."""
    (folder / "adapter.a").mkdir()
    (folder / "adapter.a" / "b.safetensors").write_bytes((folder / FRENCH).read_bytes())
    refused(folder, language, ValueError, match="not the name of a language")


class StubbornTokenizer:
    """Refuses every language."""

    encoder: dict[str, int] = {}
    target_lang = "eng"

    def set_target_lang(self, language: str) -> None:
        raise ValueError(f"{language} does not exist")


def test_a_tokenizer_that_refuses_changes_nothing(folder: Path) -> None:
    """Its error comes through, and the model is as it was."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="deu")
    before = state_of(model)
    for language in ("fra", "eng"):
        with pytest.raises(ValueError, match=f"{language} does not exist"):
            model.set_language(language, StubbornTokenizer())
        assert_unchanged(before, state_of(model))


def test_a_tokenizer_with_another_vocabulary_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """The head has 20 tokens for French; a tokenizer with 22 would read them wrongly."""
    write_vocabularies(tmp_path, LANGUAGES | {"fra": 22})
    model, tokenizer = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="deu"), multilingual_tokenizer(tmp_path)
    before = state_of(model, tokenizer)
    with pytest.raises(CheckpointError, match="22 tokens for 'fra'"):
        model.set_language("fra", tokenizer)
    assert_unchanged(before, state_of(model, tokenizer))


def test_a_language_without_the_blank_changes_nothing(folder: Path) -> None:
    """The blank is a token of every language; a model that had none could neither be trained nor read."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, pad_token_id=31)
    before = state_of(model)
    with pytest.raises(ValueError, match="pad_token_id=31"):
        model.set_language("fra")
    assert_unchanged(before, state_of(model))


def test_a_model_from_nowhere_has_no_files(folder: Path) -> None:
    """A model that was not loaded says so, instead of asking the network."""
    model = small_model(variant="mms")
    before = state_of(model)
    with pytest.raises(CheckpointError, match="this model has no adapter for 'eng'"):
        model.set_language("eng")
    assert_unchanged(before, state_of(model))
