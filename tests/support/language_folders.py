"""Folders with a small MMS model, adapters and vocabularies of several languages."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from checkpoint_folders import small_model
from safetensors.torch import save_file
from torch import Tensor

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.modeling.language_adapters import language_parameters

#: Languages and their numbers of tokens. German is written as torch's own format, as old repositories have it.
LANGUAGES = {"eng": 32, "fra": 20, "hin-script_devanagari": 41, "deu": 32}
WIDTH = 48


def adapter_tensors(model: Any, tokens: int, seed: int) -> dict[str, Tensor]:
    """Random tensors under the names of one language's parameters."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tuple(parameter.shape) for name, parameter in language_parameters(model).items()}
    shapes |= {"lm_head.weight": (tokens, WIDTH), "lm_head.bias": (tokens,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def vocabulary(tokens: int, first: str) -> dict[str, int]:
    """A blank, a word delimiter and letters from `first` on."""
    return {"<pad>": 0, "|": 1} | {chr(ord(first) + number): number + 2 for number in range(tokens - 2)}


def write_languages(folder: Path) -> dict[str, dict[str, Tensor]]:
    """A checkpoint that speaks English, the adapters of all languages beside it, and their vocabularies."""
    model = small_model(variant="mms")
    files = {
        language: adapter_tensors(model, tokens, seed) for seed, (language, tokens) in enumerate(LANGUAGES.items())
    }
    model.load_state_dict(files["eng"], strict=False)
    model.save_pretrained(folder)
    for language, tensors in files.items():
        if language == "deu":
            torch.save(tensors, folder / f"adapter.{language}.bin")
        else:
            save_file(tensors, folder / f"adapter.{language}.safetensors", {"format": "pt"})
    write_vocabularies(folder, LANGUAGES)
    return files


def write_vocabularies(folder: Path, sizes: dict[str, int]) -> None:
    """A nested `vocab.json`: one vocabulary per language, each with letters of its own."""
    nested = {
        language: vocabulary(tokens, chr(0x4E00 + 256 * number))
        for number, (language, tokens) in enumerate(sizes.items())
    }
    (folder / "vocab.json").write_text(json.dumps(nested))


def multilingual_tokenizer(folder: Path, language: str = "eng") -> Any:
    """Stock's tokenizer over the nested vocabulary."""
    return transformers.Wav2Vec2CTCTokenizer(
        folder / "vocab.json", target_lang=language, bos_token=None, eos_token=None, unk_token="<pad>"
    )


class State(NamedTuple):
    """All that a change of language may change, and all that it may not."""

    tensors: dict[str, Tensor]
    vocab_size: int
    language: str | None
    head: int
    encoder: dict[str, int] | None
    tokenizer_language: str | None


def state_of(model: Wav2Vec2ForCTC, tokenizer: Any = None) -> State:
    """A copy of it."""
    return State(
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        model.config.vocab_size or 0,
        model.target_lang,
        id(model.lm_head),
        None if tokenizer is None else dict(tokenizer.encoder),
        None if tokenizer is None else tokenizer.target_lang,
    )


def assert_unchanged(before: State, after: State) -> None:
    """Bit for bit."""
    assert before[1:] == after[1:]
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
