"""The language of an MMS model: adapters, head and vocabulary are those of the language's files."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_folders import logits, small_model
from language_folders import (
    LANGUAGES,
    WIDTH,
    assert_unchanged,
    multilingual_tokenizer,
    state_of,
    write_languages,
    write_vocabularies,
)
from torch import Tensor

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.modeling.language_adapters import language_parameters

Files = dict[str, dict[str, Tensor]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint and its languages."""
    return tmp_path / "mms"


@pytest.fixture
def files(folder: Path) -> Files:
    """What is in the adapter files, by language and name."""
    return write_languages(folder)


def assert_speaks(model: Any, language: str, files: Files) -> None:
    """Every adapter and the head are the file's, bit for bit, and there are as many tokens as the language has."""
    parameters = language_parameters(model)
    assert len(parameters) == 3 * 6 + 2 and parameters.keys() == files[language].keys()
    assert all(torch.equal(parameters[name], tensor) for name, tensor in files[language].items())
    assert model.target_lang == language
    assert model.config.vocab_size == model.lm_head.out_features == LANGUAGES[language]
    assert logits(model).shape[-1] == LANGUAGES[language]


def body_of(model: Any) -> dict[str, Tensor]:
    """The tensors that no language changes."""
    own = language_parameters(model).keys()
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in own}


@pytest.mark.parametrize("method", ["set_language", "load_adapter"])
def test_every_language_is_its_file(method: str, folder: Path, files: Files) -> None:
    """Back and forth between languages with vocabularies of different sizes; the rest of the model stays."""
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    body = body_of(model)
    for language in ("fra", "eng", "hin-script_devanagari", "deu", "fra", "eng"):
        getattr(model, method)(language)
        assert_speaks(model, language, files)
        assert all(torch.equal(tensor, body[name]) for name, tensor in body_of(model).items())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_can_be_loaded_in_a_language(language: str, folder: Path, files: Files) -> None:
    """`target_lang=` of `from_pretrained`, which stock allows only with `ignore_mismatched_sizes`."""
    assert_speaks(Wav2Vec2ForCTC.from_pretrained(folder, target_lang=language), language, files)
    model, info = Wav2Vec2ForCTC.from_pretrained(
        folder, target_lang=language, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert_speaks(model, language, files)
    assert not info["missing_keys"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_stock_reads_the_same_files_with_the_same_logits(language: str, folder: Path, files: Files) -> None:
    """Loaded in the language, or switched to it."""
    ours = Wav2Vec2ForCTC.from_pretrained(folder, target_lang=language)
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(folder)
    stock.load_adapter(language)
    loaded = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang=language, ignore_mismatched_sizes=True)
    expected = logits(stock)
    assert torch.equal(logits(loaded), expected)
    assert torch.allclose(logits(ours), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("language", ["fra", "hin-script_devanagari"])
def test_a_switched_model_is_saved_as_it_is(language: str, folder: Path, files: Files, tmp_path: Path) -> None:
    """Stock and ours load it with its new number of tokens, and nothing is left of the old language."""
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    model.set_language(language)
    model.save_pretrained(tmp_path / "saved")
    expected = logits(model)
    for library in (transformers.Wav2Vec2ForCTC, Wav2Vec2ForCTC):
        loaded, info = library.from_pretrained(tmp_path / "saved", output_loading_info=True)
        assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert loaded.config.vocab_size == LANGUAGES[language]
        assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in files[language].items())
        assert torch.allclose(logits(loaded), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_the_tokenizer_switches_with_the_model(folder: Path, files: Files) -> None:
    """Handed in, it speaks the same language afterwards."""
    model, tokenizer = Wav2Vec2ForCTC.from_pretrained(folder), multilingual_tokenizer(folder)
    for language in ("fra", "hin-script_devanagari", "eng"):
        model.set_language(language, tokenizer)
        assert_speaks(model, language, files)
        assert tokenizer.target_lang == language
        assert len(tokenizer.encoder) == LANGUAGES[language]


def test_dtype_is_kept(folder: Path, files: Files) -> None:
    """Files in float32 go into a model in bfloat16 as that, whether or not the head changes its size."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.bfloat16)
    for language in ("fra", "eng", "deu"):
        model.set_language(language)
        parameters = language_parameters(model)
        assert parameters.keys() == files[language].keys()
        for name, parameter in parameters.items():
            assert torch.equal(parameter, files[language][name].bfloat16()), name


def test_gradients_reach_the_new_head(folder: Path, files: Files) -> None:
    """A head that was replaced is trained like any other."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra")
    model(torch.randn(1, 6000), labels=torch.tensor([[3, 5]])).loss.backward()
    for name, parameter in language_parameters(model).items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert model.lm_head.weight.grad.shape == (LANGUAGES["fra"], WIDTH)


def test_a_language_in_place_is_loaded_again_only_by_force(folder: Path, files: Files) -> None:
    """`force_load=False` keeps what was trained since, as in stock."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra")
    with torch.no_grad():
        model.lm_head.bias.zero_()
    model.load_adapter("fra", force_load=False)
    assert not model.lm_head.bias.any()
    model.load_adapter("fra")
    assert_speaks(model, "fra", files)
    model.load_adapter("eng", force_load=False)
    assert_speaks(model, "eng", files)


@pytest.mark.parametrize("content", ["flat", "none"])
def test_a_folder_need_not_have_nested_vocabularies(content: str, folder: Path, files: Files) -> None:
    """Where nothing is said of a language's tokens, there is nothing to compare with."""
    (folder / "vocab.json").unlink()
    if content == "flat":
        (folder / "vocab.json").write_text('{"<pad>": 0, "|": 1, "a": 2}')
    assert_speaks(Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra"), "fra", files)


def test_initialising_changes_every_adapter_and_the_head(folder: Path, files: Files) -> None:
    """After loading, where stock's leaves everything as it was; the rest of the model stays."""
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    body = body_of(model)
    torch.manual_seed(0)
    model.init_adapter_layers()
    for name, parameter in language_parameters(model).items():
        assert not torch.equal(parameter, files["eng"][name]), name
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
    assert all(torch.equal(tensor, body[name]) for name, tensor in body_of(model).items())
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in stock.state_dict().items()}
    stock.init_adapter_layers()
    assert all(torch.equal(tensor, before[name]) for name, tensor in stock.state_dict().items())


def test_initialised_adapters_survive_saving(folder: Path, files: Files, tmp_path: Path) -> None:
    """And another language can be put in their place."""
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    model.init_adapter_layers()
    model.save_pretrained(tmp_path / "saved")
    again = Wav2Vec2ForCTC.from_pretrained(tmp_path / "saved")
    assert_unchanged(state_of(model)._replace(head=0), state_of(again)._replace(head=0))
    model.set_language("fra")
    assert_speaks(model, "fra", files)


def test_models_without_adapters_have_no_languages(tmp_path: Path) -> None:
    """Neither by method nor by keyword."""
    model = small_model()
    with pytest.raises(ValueError, match="adapter_attn_dim"):
        model.set_language("eng")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="adapter_attn_dim"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, target_lang="eng")


def test_vocabularies_may_grow_between_switches(folder: Path, files: Files) -> None:
    """Files are read anew each time, not remembered."""
    model = Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra")
    write_vocabularies(folder, LANGUAGES | {"fra": 21})
    with pytest.raises(OSError, match="21 tokens"):
        model.set_language("fra")
    assert_speaks(model, "fra", files)
